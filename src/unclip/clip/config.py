"""The shape of a CLIP model, and its named presets."""

from typing import Literal

from pydantic import Field, model_validator

from unclip.config import Config
from unclip.errors import InputError, did_you_mean
from unclip.nn import Activation


class ClipConfig(Config):
    """Architecture of a CLIP model: a ViT over patches and a causal transformer over tokens."""

    embedding_dim: int = Field(ge=1)
    """Size of the space that images and texts share."""
    image_size: int = Field(ge=0)
    """Side of the square picture that the vision tower reads, in pixels; others are resized to it."""
    patch_size: int = Field(ge=0)
    """Side of a patch in pixels; must divide image_size."""
    vision_width: int = Field(ge=0)
    """Width of the vision tower's hidden states."""
    vision_layers: int = Field(ge=0, le=1000)
    """Blocks of the vision tower; 0 = there is none, and its sizes may be 0 too."""
    vision_heads: int = Field(ge=0)
    """Attention heads of the vision tower; must divide vision_width."""
    stem: tuple[int, ...] = ()
    """Channels of a convolutional stem in front of the vision tower's blocks: each entry is a residual block of 3 × 3
    convolutions, after which the grid is halved. (): patches become tokens by one linear map, as in a ViT."""
    vision_ff_dim: int | None = Field(default=None, ge=1)
    """Hidden width of the vision tower's MLPs; None = 4 * vision_width."""
    text_width: int = Field(ge=1)
    """Width of the text tower's hidden states."""
    text_layers: int = Field(ge=1, le=1000)
    """Blocks of the text tower."""
    text_heads: int = Field(ge=1)
    """Attention heads of the text tower; must divide text_width."""
    text_ff_dim: int | None = Field(default=None, ge=1)
    """Hidden width of the text tower's MLPs; None = 4 * text_width."""
    vocab_size: int = Field(ge=3)
    """Number of tokens; the last two are start and end of text."""
    context_length: int = Field(default=77, ge=3)
    """Tokens of a prompt, start and end included."""
    activation: Activation = "quick_gelu"
    """Nonlinearity of the MLPs: OpenAI's weights use quick_gelu, most later ones gelu."""
    resize: Literal["squash", "crop"] = "squash"
    """How a picture becomes square: squashed, or cropped to its middle as in the training of published weights."""

    @model_validator(mode="after")
    def _check_divisions(self) -> "ClipConfig":
        vision = [("image_size", "patch_size"), ("vision_width", "vision_heads")] if self.vision_layers else []
        for whole, part in [*vision, ("text_width", "text_heads")]:
            number, divisor = getattr(self, whole), getattr(self, part)
            if not (number and divisor):
                raise ValueError(f"{whole}={number} and {part}={divisor} must be at least 1, or vision_layers 0.")
            if number % divisor:
                below = number // divisor * divisor
                allowed = f"{below} or {below + divisor}" if below else f"{divisor}"
                raise ValueError(f"{whole}={number} is not divisible by {part}={divisor}; use {allowed}.")
        if self.stem and (self.patch_size % 2 ** len(self.stem) or min(self.stem) < 1):
            raise ValueError(
                f"stem={list(self.stem)} halves the grid {len(self.stem)} times, but patch_size={self.patch_size}; use "
                f"positive channels, and a patch_size divisible by {2 ** len(self.stem)}."
            )
        return self

    @property
    def end_token(self) -> int:
        """Id of the end-of-text token, whose hidden state becomes the text embedding."""
        return self.vocab_size - 1


def _openai(image_size: int, patch_size: int, vision_width: int, vision_layers: int, text_width: int) -> ClipConfig:
    """CLIP paper, table 20: text towers have 12 layers, heads are 64 wide, the shared space is as wide as the text."""
    return ClipConfig(
        embedding_dim=text_width,
        image_size=image_size,
        patch_size=patch_size,
        vision_width=vision_width,
        vision_layers=vision_layers,
        vision_heads=vision_width // 64,
        text_width=text_width,
        text_layers=12,
        text_heads=text_width // 64,
        vocab_size=49408,
    )


_TINY = {
    "embedding_dim": 16,
    "text_layers": 2,
    "vision_heads": 4,
    "text_heads": 4,
    "vocab_size": 640,
    "context_length": 16,
}
PRESETS = {
    "tiny": _openai(16, 8, 64, 2, 64).replace(**_TINY),
    "vit-b-32": _openai(224, 32, 768, 12, 512),
    "vit-b-16": _openai(224, 16, 768, 12, 512),
    "vit-l-14": _openai(224, 14, 1024, 24, 768),
    "vit-l-14-336": _openai(336, 14, 1024, 24, 768),
    # DALL-E 2's, arXiv 2204.06125, appendix C, where heads and activation are not given.
    "vit-h-16": _openai(256, 16, 1280, 32, 1024).replace(text_layers=24, context_length=256),
    "vit-h-14": _openai(224, 14, 1280, 32, 1024).replace(vision_heads=16, text_layers=24, activation="gelu"),
    "vit-bigg-14": _openai(224, 14, 1664, 48, 1280).replace(
        vision_heads=16, vision_ff_dim=8192, text_layers=32, activation="gelu"
    ),
}


def clip_preset(name: str) -> ClipConfig:
    """Return an architecture: "tiny" (for tests), one that OpenAI released, such as "vit-l-14", or one of OpenCLIP's.

    Raises InputError with a list of the presets for another name.
    """
    if name not in PRESETS:
        raise InputError(f"there is no CLIP preset {name!r}; {did_you_mean(name, PRESETS)}")
    return PRESETS[name]
