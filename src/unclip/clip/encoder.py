"""CLIP for use: from pictures and prompts to features."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from unclip.checkpoint import Storage, fill, open_weights, save_state, state_hash
from unclip.clip.config import ClipConfig
from unclip.clip.model import PIXEL_MEAN, Clip, TextFeatures
from unclip.clip.tokenizer import TokenBatch, Tokenizer
from unclip.config import load_config
from unclip.errors import CheckpointError, ConfigError, InputError
from unclip.images import crop_square, from_pil, resize
from unclip.runtime import on_meta
from unclip.shapes import Embeddings, Images

WEIGHTS_FILE, TOKENIZER_FILE = "clip.safetensors", "tokenizer.json"


def save_encoder(
    folder: str | Path,
    state: Mapping[str, Tensor],
    config: ClipConfig,
    tokenizer: Tokenizer,
    storage: Storage = "float32",
) -> None:
    """Write `clip.safetensors`, with the state dict of a `Clip`, and `tokenizer.json` into `folder`."""
    save_state(Path(folder) / WEIGHTS_FILE, state, Clip.__name__, config, "clip", storage)
    tokenizer.save(Path(folder) / TOKENIZER_FILE)


def check_tokenizer(tokenizer: Tokenizer, config: ClipConfig) -> None:
    """Raise `ConfigError` when the tokenizer's ids do not fit the network's vocabulary."""
    if (tokenizer.vocab_size, tokenizer.end_token) != (config.vocab_size, config.end_token):
        raise ConfigError(
            f"the tokenizer has {tokenizer.vocab_size} tokens and ends a text with {tokenizer.end_token}, but CLIP was "
            f"made for {config.vocab_size} and {config.end_token}; use the tokenizer it was trained with."
        )


class TextImageEncoder:
    """A CLIP with its tokenizer; it computes no gradients (train the `Clip` by itself).

    `compute_dtype` is the number format of its arithmetic, None that of its weights. In float64 the features are the
    same to the bit whatever the process has set for float32 products; weights are widened layer by layer.
    """

    def __init__(self, clip: Clip, tokenizer: Tokenizer, compute_dtype: torch.dtype | None = None) -> None:
        """Join both; raises ConfigError when the tokenizer's ids do not fit the network's vocabulary."""
        check_tokenizer(tokenizer, clip.config)
        self.clip = clip
        self.tokenizer = tokenizer
        self.compute_dtype = compute_dtype

    @property
    def embedding_dim(self) -> int:
        """Size of image and text embeddings."""
        return self.clip.config.embedding_dim

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.clip.logit_scale.device

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "TextImageEncoder":
        """Move the weights, and change their number format if one is given."""
        self.clip.to(device=device, dtype=dtype)
        return self

    @torch.no_grad()
    def encode_image(self, images: Images) -> Embeddings:
        """Encode pixels in [-1, 1] of any size: embeddings (batch, embedding_dim), float32, not normalised."""
        return self.clip.encode_pixels(images.to(self.device), self.compute_dtype)

    def encode_empty_image(self) -> Embeddings:
        """Encode an empty image (1, embedding_dim): pixels that are 0 after normalisation, CLIP's mean colour."""
        size = self.clip.config.image_size
        mean = 2 * torch.tensor(PIXEL_MEAN).view(1, 3, 1, 1) - 1
        return self.encode_image(mean.expand(1, 3, size, size))

    def encode_pictures(self, images: Sequence[Image.Image]) -> Embeddings:
        """Encode pictures of any sizes, each made square by itself as in the config's `resize`."""
        self.clip.need_vision()
        if not images:
            raise InputError("encode_pictures needs at least one picture; found 0.")
        size = self.clip.config.image_size
        if self.clip.config.resize == "crop":
            images = [crop_square(image, size) for image in images]
        return self.encode_image(torch.cat([resize(from_pil([image]), size) for image in images]))

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[str]) -> TextFeatures:
        """Encode prompts, padded to the context length and cut where they are longer (see `cut_text`)."""
        return self.clip.encode_tokens(self._tokenize(prompts).ids.to(self.device), self.compute_dtype)

    def cut_text(self, prompts: Sequence[str]) -> list[str]:
        """Return the end of each prompt that does not fit into the context; "" if all of it fits."""
        return self._tokenize(prompts).cut

    def count_tokens(self, prompts: Sequence[str]) -> list[int]:
        """Return how many tokens each prompt is read as, its start and end included."""
        return [int(count) for count in self._tokenize(prompts).mask.sum(dim=1)]

    def save(self, folder: str | Path, storage: Storage = "float32") -> None:
        """Write `clip.safetensors` and `tokenizer.json` into `folder`."""
        save_encoder(folder, self.clip.state_dict(), self.clip.config, self.tokenizer, storage)

    @classmethod
    def load(
        cls, folder: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> "TextImageEncoder":
        """Read what `save` wrote; raises CheckpointError when a file is missing, cut short or of another kind."""
        path = Path(folder) / WEIGHTS_FILE
        tensors, metadata = open_weights(path)
        if metadata.get("kind") != "clip":
            raise CheckpointError(
                f"{path} holds {metadata.get('kind', 'unknown weights')!r}, not 'clip'; give a model folder."
            )
        with on_meta():
            clip = Clip(load_config(ClipConfig, json.loads(metadata["config"])))
        fill(clip, tensors, path, device, dtype)
        return cls(clip, Tokenizer.load(Path(folder) / TOKENIZER_FILE))

    def _tokenize(self, prompts: Sequence[str]) -> TokenBatch:
        return self.tokenizer.encode(prompts, self.clip.config.context_length)


def clip_hash(encoder: TextImageEncoder) -> str:
    """SHA-256, in hexadecimal, of configuration, tokenizer and weights: equal where features are to be equal.

    Weights count as the float32 numbers that are in memory; other storages of a model (bfloat16, int8) differ.
    """
    # Without a stem the description is that of versions which knew none.
    config = encoder.clip.config.model_dump_json().replace('"stem":[],', "")
    description = config + encoder.tokenizer.to_json()
    return state_hash(description, encoder.clip.state_dict())
