"""Captions and pictures of a reference set."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from unclip.data import Broken, Sample, Source, decode_picture, open_source
from unclip.errors import DataError, InputError, NoCaptionsError
from unclip.images import crop_square
from unclip.pipelines.settings import check_count, check_prompts
from unclip.runtime import seeded

# Zero-shot figures on COCO are of so many captions (GLIDE, DALL-E 2, Imagen).
COCO_PROMPTS = 30_000


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """Texts to draw, in the order that they are drawn in."""

    name: str
    """Where they are from."""
    texts: tuple[str, ...]
    is_coco: bool = False
    """Whether they are COCO's annotations, of which 30,000 are drawn unless another number is asked for."""

    @property
    def content_id(self) -> str:
        """SHA-256, in hexadecimal, of all texts in order."""
        return texts_id(self.texts)


def read_prompts(given: str | Path | Sequence[str]) -> Prompts:
    """All captions of a source: every line of a text file, every annotation of COCO's captions_*.json, and of anything
    that `unclip.data.open_source` reads the first caption of each picture. A sequence is taken as the texts themselves.

    Raises `InputError` for a location that is not there, `DataError` for one that holds no text.
    """
    if not isinstance(given, str | Path):
        return Prompts(name=f"{len(given)} prompts", texts=tuple(check_prompts(given)))
    path = Path(given)
    if path.suffix.lower() == ".txt" and path.is_file():
        texts = _lines(path)
    elif path.suffix.lower() == ".json" and path.is_file():
        return Prompts(name=str(given), texts=_annotations(path), is_coco=True)
    else:
        texts = _first_captions(given)
    if not texts:
        raise DataError(f"{given} holds no caption; give a text file with a prompt a line, or captioned pictures.")
    return Prompts(name=str(given), texts=tuple(texts))


def choose_prompts(prompts: Prompts, num_prompts: int | None, seed: int) -> Prompts:
    """`num_prompts` of them chosen by `seed`, in the order of the source; None is all, or COCO's 30,000.

    Raises `InputError` for more than there are.
    """
    there = len(prompts.texts)
    wanted = num_prompts
    if wanted is None:
        wanted = min(COCO_PROMPTS, there) if prompts.is_coco else there
    if check_count("num_prompts", wanted) > there:
        raise InputError(f"{prompts.name} has {there} captions, but {wanted} are asked for; ask for at most {there}.")
    if wanted == there:
        return prompts
    chosen = torch.randperm(there, generator=seeded(seed))[:wanted].sort().values.tolist()
    return replace(prompts, texts=tuple(prompts.texts[place] for place in chosen))


def texts_id(texts: Sequence[str]) -> str:
    """SHA-256, in hexadecimal, of texts in order."""
    return hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 text ({error}); save it again.") from None
    return [line.strip() for line in lines if line.strip()]


# The annotations of COCO: images [{id, file_name}], annotations [{id, image_id, caption}].
def _annotations(path: Path) -> tuple[str, ...]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON ({error}); fetch it again.") from None
    rows = content.get("annotations") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path} has no list of annotations; give COCO's captions_val2014.json or one like it.")
    texts = [_caption(path, row) for row in sorted(rows, key=lambda row: str(row.get("id", "")).zfill(20))]
    texts = [text for text in texts if text]
    if not texts:
        raise DataError(f"{path} has annotations, but none with a caption; give the file of captions.")
    return tuple(texts)


def _caption(path: Path, row: dict[str, Any]) -> str:
    caption = row.get("caption")
    if not isinstance(caption, str):
        raise DataError(
            f"{path}: annotation {row.get('id')} has no caption; give the file of captions, not of instances."
        )
    return " ".join(caption.split())


def _first_captions(location: str | Path) -> list[str]:
    samples = (sample for sample in open_source(location) if isinstance(sample, Sample))
    return [sample.captions[0] for sample in samples if sample.captions[0].strip()]


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
