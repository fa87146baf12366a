"""Networks that turn saved pictures into features. Knows 8-bit pixels, CLIP and any module; no metric and no files.

Pictures are 8-bit because published figures are those of saved pictures.
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from unclip.clip import TextImageEncoder, clip_hash
from unclip.errors import InputError
from unclip.images import from_uint8, resize, to_pil

__all__ = [
    "ClipFeatures",
    "FeatureNetwork",
    "Features",
    "ModuleFeatures",
    "Pictures",
    "as_pixels",
    "check_pictures",
    "fingerprint_of",
]

Pictures = UInt8[Tensor, "batch 3 height width"]
Features = dict[str, Float32[Tensor, "batch _dim"]]
NUM_CHANNELS = 3


@runtime_checkable
class FeatureNetwork(Protocol):
    """What makes features of pictures."""

    @property
    def name(self) -> str:
        """What reports call it: "inception", "dinov2-vitl14", "clip:NAME", or the name of a module."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """The names of the features that it makes, which metrics ask for."""

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of weights and preparation: features are comparable where it is equal."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    def __call__(self, images: Pictures) -> Features:
        """Features (batch, dim), float32, by the name that metrics ask for, of pictures of any size on any device.

        No row depends on the other pictures of a batch. Raises `InputError` where `images` are not 8-bit RGB.
        """


def check_pictures(images: Tensor) -> None:
    """Raise `InputError` for what is not 8-bit RGB with at least one pixel."""
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != NUM_CHANNELS or 0 in images.shape[2:]:
        raise InputError(
            f"features are made of uint8 pictures (batch, 3, height, width); found {images.dtype} "
            f"{tuple(images.shape)}; round the pictures to 8 bits in RGB."
        )


def as_pixels(images: Pictures, device: torch.device) -> Float32[Tensor, "batch 3 height width"]:
    """Pixels in [-1, 1] on `device`; raises `InputError` like `check_pictures`."""
    check_pictures(images)
    return from_uint8(images.to(device).permute(0, 2, 3, 1))


def fingerprint_of(tensors: Mapping[str, Tensor], preparation: str) -> str:
    """SHA-256, in hexadecimal, of tensors by name as float32 numbers, and of the words that describe preparation."""
    digest = hashlib.sha256(preparation.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().float().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


class ClipFeatures:
    """Image embeddings "clip" of a CLIP, not normalised; pictures are prepared as that CLIP does it."""

    PREPARATION = "clip 1: encode_pictures"
    kinds = ("clip",)

    def __init__(self, encoder: TextImageEncoder, name: str) -> None:
        """`name` is what users call the model; raises `InputError` where the CLIP reads no pictures."""
        encoder.clip.need_vision()
        self.encoder = encoder
        self.name = f"clip:{name}"

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.encoder.device

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the CLIP, its tokenizer and the preparation."""
        return hashlib.sha256(f"{self.PREPARATION} {clip_hash(self.encoder)}".encode()).hexdigest()

    def __call__(self, images: Pictures) -> Features:
        """{"clip": (batch, embedding_dim)}."""
        pictures = to_pil(as_pixels(images, torch.device("cpu")))
        if not pictures:
            return {"clip": torch.empty(0, self.encoder.embedding_dim, device=self.device)}
        return {"clip": self.encoder.encode_pictures(pictures)}

    def texts(self, prompts: Sequence[str]) -> Float[Tensor, "prompts dim"]:
        """Text embeddings (prompts, embedding_dim), not normalised; what does not fit the context is left out."""
        return self.encoder.encode_text(prompts).embedding


class ModuleFeatures:
    """What any module makes of pixels in [-1, 1], squashed to a square (bicubic, antialiased); it is put into eval."""

    PREPARATION = "module 1: [-1, 1], bicubic"

    def __init__(self, module: nn.Module, name: str, key: str, image_size: int) -> None:
        """`key` is the name that a metric asks for; `module` maps (batch, 3, image_size, image_size) to rows."""
        self.module = module.eval()
        self.name = name
        self.key = key
        self.kinds = (key,)
        self.image_size = image_size

    @property
    def device(self) -> torch.device:
        """Where the module's first parameter is; the CPU if it has none."""
        parameter = next(self.module.parameters(), None)
        return torch.device("cpu") if parameter is None else parameter.device

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the weights, the module's printed form and the preparation; code is not part of it."""
        state = {name: value for name, value in self.module.state_dict().items() if isinstance(value, Tensor)}
        return fingerprint_of(state, f"{self.PREPARATION} {self.image_size} {self.module}")

    @torch.no_grad()
    def __call__(self, images: Pictures) -> Features:
        """{key: (batch, dim)}; raises `InputError` where the module returns anything but one row a picture."""
        rows = self.module(resize(as_pixels(images, self.device), self.image_size))
        if not isinstance(rows, Tensor) or rows.ndim != 2 or len(rows) != len(images):
            found = tuple(rows.shape) if isinstance(rows, Tensor) else type(rows).__name__
            raise InputError(
                f"{self.name} returned {found} for {len(images)} pictures; a module for features returns (batch, dim)."
            )
        return {self.key: rows.float()}
