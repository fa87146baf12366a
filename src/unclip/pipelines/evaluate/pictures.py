"""Sets of pictures to compare: what they are, and their pixels at one size. Knows sources; no network."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from unclip.data import Broken, Source, decode_picture, open_source
from unclip.errors import DataError, InputError, NoCaptionsError
from unclip.images import crop_square

__all__ = ["FEWEST", "PictureSet", "as_uint8", "open_set", "read_picture", "read_square"]

# Below two there is no covariance.
FEWEST = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class PictureSet:
    """Pictures in a fixed order, known by their content, which is read when it is first asked for."""

    name: str
    source: Source
    progress: Callable[[int, int], None] | None = None
    """Is called with (done, total) while the pictures are read."""

    def __len__(self) -> int:
        return len(self.source)

    @property
    def content_id(self) -> str:
        """SHA-256, in hexadecimal, of the bytes of all pictures in order: the same wherever they lie."""
        return self._content[0]

    @property
    def captions(self) -> tuple[str, ...]:
        """The first of each picture; "" where there is none."""
        return tuple(text or "" for text in self._content[1])

    @property
    def uncaptioned(self) -> tuple[str, ...]:
        """Names of the pictures that are there without a text; those that cannot be read are no matter of captions."""
        names = self.source.names
        return tuple(name for name, text in zip(names, self._content[1], strict=True) if text is not None and not text)

    @cached_property
    def _content(self) -> tuple[str, tuple[str | None, ...]]:
        digest, captions = hashlib.sha256(), list[str | None]()
        for index, sample in enumerate(self.source):
            content = b"" if isinstance(sample, Broken) else sample.picture
            digest.update(hashlib.sha256(content).digest())
            captions.append(None if isinstance(sample, Broken) else sample.captions[0].strip() and sample.captions[0])
            if self.progress is not None:
                self.progress(index + 1, len(self.source))
        return digest.hexdigest(), tuple(captions)


def open_set(
    location: str | Path, *, with_captions: bool = False, progress: Callable[[int, int], None] | None = None
) -> PictureSet:
    """Open whatever `unclip.data.open_source` reads; nothing of the pictures is read yet.

    Captions are looked for only on request, and need not be there; where several readings of them fit, or they are
    damaged, that is an error. Raises as `open_source` does, and `InputError` for fewer than two pictures.
    """
    source = _open(location, with_captions)
    if len(source) < FEWEST:
        raise InputError(f"{location} holds {len(source)} picture; a comparison needs at least {FEWEST}.")
    return PictureSet(name=str(location), source=source, progress=progress)


def read_square(pictures: PictureSet, index: int, size: int) -> Image.Image:
    """The middle of a picture at (size, size), antialiased; raises `DataError` with the reason where it is damaged."""
    return crop_square(read_picture(pictures, index), size)


def read_picture(pictures: PictureSet, index: int) -> Image.Image:
    """A whole picture as RGB; raises `DataError` as above."""
    sample = pictures.source.item(index)
    if isinstance(sample, Broken):
        raise DataError(sample.reason)
    return decode_picture(sample.picture)


def as_uint8(images: Sequence[Image.Image]) -> UInt8[Tensor, "_batch 3 _height _width"]:
    """PIL pictures of one size as a batch of 8-bit pixels."""
    return torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2).contiguous()


def _open(location: str | Path, with_captions: bool) -> Source:
    if not with_captions:
        return open_source(location, "none")
    try:
        return open_source(location)
    except NoCaptionsError:
        return open_source(location, "none")
    except DataError as error:
        raise DataError(
            f"{error} Or do without the captions of {location}: give --prompts with a text for each picture, or "
            "--metrics that need none."
        ) from None
