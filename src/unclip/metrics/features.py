"""Feature networks, and rows of features."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float32, Int16, UInt8
from torch import Tensor, nn

from unclip.checkpoint import state_hash
from unclip.clip import TextImageEncoder, clip_hash
from unclip.errors import InputError
from unclip.images import from_uint8, resize, to_pil

Pictures = UInt8[Tensor, "batch 3 height width"]
FeatureRows = dict[str, Float32[Tensor, "batch _dim"]]
NUM_CHANNELS = 3


@runtime_checkable
class FeatureNetwork(Protocol):
    """A network that makes features of pictures."""

    @property
    def name(self) -> str:
        """Its name in reports: "inception", "dinov2-vitl14", "clip:NAME", or the name of a module."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """The names of its features, which metrics ask for."""

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of weights and preparation: features with equal fingerprints are comparable."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    def __call__(self, images: Pictures) -> FeatureRows:
        """Compute features (batch, dim), float32, by name, of pictures of any size on any device.

        No row depends on the other pictures of a batch. Raises `InputError` where `images` are not 8-bit RGB.
        """


def check_pictures(images: Tensor) -> None:
    """Raise `InputError` unless pictures are 8-bit RGB with at least one pixel."""
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != NUM_CHANNELS or 0 in images.shape[2:]:
        raise InputError(
            f"features are made of uint8 pictures (batch, 3, height, width); found {images.dtype} "
            f"{tuple(images.shape)}; round the pictures to 8 bits in RGB."
        )


def as_pixels(images: Pictures, device: torch.device) -> Float32[Tensor, "batch 3 height width"]:
    """Convert to pixels in [-1, 1] on `device`; raises `InputError` like `check_pictures`."""
    check_pictures(images)
    return from_uint8(images.to(device).permute(0, 2, 3, 1))


class ClipFeatures:
    """Makes "clip", the image embeddings of a CLIP, not normalised; pictures are prepared as that CLIP does it."""

    PREPARATION = "clip 1: encode_pictures"
    kinds = ("clip",)

    def __init__(self, encoder: TextImageEncoder, name: str) -> None:
        """Use `name` as users call the model; raises `InputError` for a CLIP that reads no pictures."""
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

    def __call__(self, images: Pictures) -> FeatureRows:
        """Compute {"clip": (batch, embedding_dim)}."""
        pictures = to_pil(as_pixels(images, torch.device("cpu")))
        if not pictures:
            return {"clip": torch.empty(0, self.encoder.embedding_dim, device=self.device)}
        return {"clip": self.encoder.encode_pictures(pictures)}

    def texts(self, prompts: Sequence[str]) -> Float[Tensor, "prompts dim"]:
        """Compute text embeddings (prompts, embedding_dim), not normalised; ends beyond the context are cut."""
        return self.encoder.encode_text(prompts).embedding


class ModuleFeatures:
    """Makes features by any module of pixels in [-1, 1], squashed to a square (bicubic, antialiased), in eval mode."""

    PREPARATION = "module 1: [-1, 1], bicubic"

    def __init__(self, module: nn.Module, name: str, key: str, image_size: int) -> None:
        """Use `module`, which maps (batch, 3, image_size, image_size) to rows, for the features `key` of metrics."""
        self.module = module.eval()
        self.name = name
        self.key = key
        self.kinds = (key,)
        self.image_size = image_size

    @property
    def device(self) -> torch.device:
        """The device of the module's first parameter; the CPU if it has none."""
        parameter = next(self.module.parameters(), None)
        return torch.device("cpu") if parameter is None else parameter.device

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the weights, the module's printed form and the preparation; code is not part of it."""
        state = {name: value for name, value in self.module.state_dict().items() if isinstance(value, Tensor)}
        return state_hash(f"{self.PREPARATION} {self.image_size} {self.module}", state)

    @torch.no_grad()
    def __call__(self, images: Pictures) -> FeatureRows:
        """Compute {key: (batch, dim)}; raises `InputError` unless the module returns one row per picture."""
        rows = self.module(resize(as_pixels(images, self.device), self.image_size))
        if not isinstance(rows, Tensor) or rows.ndim != 2 or len(rows) != len(images):
            shape = tuple(rows.shape) if isinstance(rows, Tensor) else type(rows).__name__
            raise InputError(
                f"{self.name} returned {shape} for {len(images)} pictures; a module for features returns (batch, dim)."
            )
        return {self.key: rows.float()}


BLOCK = 512
"""Rows that are read at a time: caches hold all pairs of two blocks, 2 MiB in float64; larger blocks are slower."""

Rows = Float[Tensor, "_rows _dim"]
"""One set of features; the sets of a metric have any sizes, and a misfit is an error of the user, not of a shape."""

Counts = Int16[Tensor, "_rows _resamples"]
"""How often each row is in each of several sets that are drawn from the rows."""


def check_rows(rows: Rows, least: int, what: str) -> None:
    """Raise `InputError` for fewer than `least` rows, for rows without numbers, and for NaN or infinity."""
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise InputError(f"{what} have shape {tuple(rows.shape)}; give rows of numbers, (pictures, features).")
    if len(rows) < least:
        raise InputError(f"{what} have {len(rows)} rows, too few for this figure; give at least {least}.")
    finite = torch.cat([block.isfinite().all(dim=1) for block in rows.split(BLOCK)])
    if not finite.all():
        bad = (~finite).nonzero().flatten()
        raise InputError(
            f"{what} hold NaN or infinity in {len(bad)} of {len(rows)} rows (the first is row {bad[0].item()}); "
            "check the pictures and the network that made them."
        )


def check_pair(
    first: Rows, second: Rows, least: int, names: tuple[str, str] = ("the first features", "the second features")
) -> None:
    """Raise `InputError` as `check_rows` does for either set, and for rows of different lengths or devices."""
    check_rows(first, least, names[0])
    check_rows(second, least, names[1])
    if first.device != second.device:
        raise InputError(
            f"{names[0]} are on {first.device} and {names[1]} on {second.device}; move both to one device."
        )
    check_dims(first.shape[1], second.shape[1])


def check_dims(first: int, second: int) -> None:
    """Raise `InputError` if the rows of two sets differ in length."""
    if first != second:
        raise InputError(f"rows of {first} and of {second} features cannot be compared; use one network for both sets.")


def double(rows: Tensor) -> Tensor:
    """Convert rows to float64, on their device if it has that format, else on the CPU."""
    return (rows.cpu() if rows.device.type == "mps" else rows).double()


def blocks(rows: Tensor, size: int = BLOCK) -> Iterator[Tensor]:
    """Yield the rows in order, `size` at a time, in float64."""
    return (double(block) for block in rows.split(size))


def once(rows: Rows) -> Counts:
    """Return the counts of the set that has each row once."""
    return torch.ones(len(rows), 1, dtype=torch.int16, device=rows.device)


def means(values: Float[Tensor, " _rows"], counts: Counts) -> Float[Tensor, " _resamples"]:
    """Compute the mean of one value per row over each of several sets, in float64."""
    parts = zip(blocks(values), blocks(counts), strict=True)
    return torch.stack([part @ times for part, times in parts]).sum(dim=0).cpu() / len(values)


def squared_distances(
    first: Float[Tensor, "rows dim"], second: Float[Tensor, "others dim"]
) -> Float[Tensor, "rows others"]:
    """Compute the squared distances of all pairs; as differences of squared lengths they lose digits far from zero."""
    lengths = first.square().sum(dim=1)[:, None] + second.square().sum(dim=1)
    return lengths.addmm_(first, second.T, alpha=-2).clamp_(min=0)


def pair_sums(
    kernel: Callable[[Tensor, Tensor], Tensor], first: tuple[Rows, Counts], second: tuple[Rows, Counts] | None = None
) -> Float[Tensor, " _resamples"]:
    """Sum a symmetric kernel over all pairs of a row of the first sets and one of the second, in float64.

    Each set is rows and their counts; without a second the first is paired with itself, at half the cost.
    """
    rows, counts = second or first
    total = torch.zeros(1, dtype=torch.float64)
    for place, (left, times) in enumerate(zip(blocks(first[0]), blocks(first[1]), strict=True)):
        for other, (right, other_times) in enumerate(zip(blocks(rows), blocks(counts), strict=True)):
            if second is None and other < place:
                continue
            weight = 2 if second is None and other > place else 1
            total = total + weight * (times * (kernel(left, right) @ other_times)).sum(dim=0).cpu()
    return total
