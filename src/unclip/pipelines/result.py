"""The result of a task: pictures with their seeds, prompts and settings."""

import io
import itertools
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, overload

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from unclip import __version__
from unclip.config import flatten
from unclip.errors import InputError
from unclip.files import atomic_write, atomic_writes, claimed_paths, expand_home, free_names, slug
from unclip.images import (
    QUALITY,
    WHITE,
    Background,
    encode_gif,
    encode_picture,
    from_pil,
    grid,
    on_background,
    straighten,
    to_pil,
    to_unit,
)
from unclip.model.settings import StageSettings
from unclip.pictures import open_picture
from unclip.safety import UNMARKED, Marker, SafetyReport
from unclip.shapes import Embeddings

OutputType = Literal["pil", "np", "pt"]
Drawn: TypeAlias = Float[Tensor, "_ channels height width"] | Sequence[Image.Image]
"""Pictures of one size: a batch in [-1, 1], or PIL pictures where they are large and of 8 bits.

Batches of one task may differ in length, so that dimension has no name."""
Format = Literal["png", "jpg", "webp"]
SHOWN_PROMPTS, SHOWN_SIDE = 3, 1024
MAIN_SETTINGS = ("num_steps", "guidance_scale", "sampler")
USUAL = StageSettings(num_steps=1, sampler="ddim").model_dump(mode="json")


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """Pictures and what made them; lists have one entry per picture, prompt by prompt.

    It is a sequence of its pictures: `len(result)`, `for image in result`, `result[0]`, and `result[2:4]` is a `Result`
    of two of them. A notebook shows it as a grid.
    """

    images: list[Any]
    """PIL pictures, float32 arrays (height, width, 3) in [0, 1], or float32 tensors (3, height, width) in [-1, 1].

    On a transparent background they have a fourth channel; see `DrawOptions`."""
    prompts: list[str]
    """The prompt of each picture."""
    seeds: list[int]
    """The seed of each picture."""
    image_embeddings: Embeddings | None
    """(pictures, dim): the embeddings that the decoder drew, at the scale that it reads; None if it drew none."""
    settings: dict[str, Any]
    """Image size, number of candidates and the sampling settings of each stage, ready for JSON."""
    cut: list[str]
    """The end of each prompt that was cut off as too long; "" where nothing was."""
    model: str = ""
    """The name of the model that drew."""
    safety: Sequence[SafetyReport] = ()
    """What the model's guard looked at for each picture, and what it found."""
    marker: Marker = UNMARKED
    """How files of the pictures are marked as generated."""

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.images)

    @overload
    def __getitem__(self, place: int) -> Any: ...

    @overload
    def __getitem__(self, place: slice) -> "Result": ...

    def __getitem__(self, place: int | slice) -> Any:
        """Return the picture at `place`; for a slice, a result of the pictures there."""
        if not isinstance(place, slice):
            return self.images[place]
        scores = {"scores": self.settings["scores"][place]} if "scores" in self.settings else {}
        return replace(
            self,
            images=self.images[place],
            prompts=self.prompts[place],
            seeds=self.seeds[place],
            image_embeddings=None if self.image_embeddings is None else self.image_embeddings[place],
            settings=self.settings | scores,
            cut=self.cut[place],
            safety=self.safety[place],
        )

    def __repr__(self) -> str:
        first = self.images[0] if self.images else None
        kind = "tensor" if isinstance(first, Tensor) else "array" if isinstance(first, np.ndarray) else "picture"
        kind += "" if len(self) == 1 else "s"
        sizes = dict.fromkeys(picture_size(image) for image in self.images)
        size = f" of {' and '.join(f'{width}x{height}' for width, height in sizes)}" if len(sizes) in (1, 2) else ""
        groups = itertools.groupby(zip(self.prompts, self.seeds, strict=True), key=lambda pair: pair[0])
        parts = [_seeds_of(prompt, [seed for _, seed in pairs]) for prompt, pairs in groups]
        more = f" and {len(parts) - SHOWN_PROMPTS} more" if len(parts) > SHOWN_PROMPTS else ""
        by = f" by {self.model!r}" if self.model else ""
        return f"<Result: {len(self)} {kind}{size}{by}: {'; '.join(parts[:SHOWN_PROMPTS])}{more}>"

    def _repr_png_(self) -> bytes | None:
        """Show the pictures as a grid in a notebook, scaled down where it is large."""
        if not self.images:
            return None
        sheet, buffer = self.grid(), io.BytesIO()
        sheet.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
        sheet.save(buffer, format="PNG")
        return buffer.getvalue()

    def pictures(self) -> list[Image.Image]:
        """Return the pictures as PIL pictures, whatever `output_type` was."""
        if self.images and isinstance(self.images[0], Tensor):
            return [to_pil(image[None], "transparent")[0] for image in self.images]
        return [open_picture(image) if isinstance(image, np.ndarray) else image for image in self.images]

    def grid(self, columns: int | None = None, gap: int = 2) -> Image.Image:
        """Arrange all pictures row by row, `gap` white pixels apart; None makes as many columns as rows, or one more.

        Raises `InputError` for a result of no pictures, and for less than one column.
        """
        if columns is not None and columns < 1:
            raise InputError(f"columns={columns} is not possible; give a whole number of at least 1.")
        return grid(self.pictures(), columns or math.ceil(math.sqrt(len(self))), gap)

    def save(self, target: str | Path, format: Format = "png") -> list[Path]:
        """Write the pictures, all or none, and return their paths; each file holds its `metadata`.

        `target` is a folder, where files are named after prompt and seed as the command line does and none is replaced,
        or a file that ends in .png, .jpg or .webp (numbered from 1 for several pictures), or in .gif, an animation of
        all. `format` is that of the files in a folder. Raises `InputError` for another kind of file, for one that
        cannot be written, and for JPEG and GIF where the background is transparent.
        """
        if not self.images:
            raise InputError("the result has no pictures to save.")
        path, pictures = expand_home(target), self.pictures()
        is_folder = path.is_dir() or str(target).endswith(("/", os.sep)) or not path.suffix
        suffix = f".{format}" if is_folder else path.suffix.lower()
        check_alpha(suffix, self.settings.get("background"))
        if suffix == ".gif" and not is_folder:
            contents = [self.encode_series(pictures)]
        else:
            contents = [self.encode(picture, suffix, place) for place, picture in enumerate(pictures)]
        if len(contents) == 1 and not is_folder:
            atomic_write(path, contents[0])
            return [path]
        names = file_names(path, suffix, self.prompts, self.seeds, is_folder=is_folder)
        with claimed_paths(names) as paths:
            atomic_writes(dict(zip(paths, contents, strict=True)))
        return paths

    def encode(self, picture: Image.Image, suffix: str, place: int, quality: int = QUALITY) -> bytes:
        """Encode a file of a picture, or of what was made of it, with the metadata of the picture at `place`.

        It is marked as generated where the policy of the model says so. Quality and errors are as for `encode_picture`.
        """
        content = encode_picture(self.marker.mark(picture), suffix, self.metadata(place), quality)
        # What is painted in a picture fades into it.
        return self.marker.sign(content, suffix, is_edit="feather" in self.settings)

    def encode_series(self, pictures: Sequence[Image.Image]) -> bytes:
        """Encode an animation of pictures, marked as by `encode`, with the metadata of the first."""
        marked = [self.marker.mark(picture) for picture in pictures]
        return self.marker.sign(encode_gif(marked, self.metadata(0)), ".gif")

    def metadata(self, place: int) -> dict[str, str]:
        """Return the metadata in the file of a picture: enough to draw it again."""
        return {
            "prompt": self.prompts[place],
            "seed": str(self.seeds[place]),
            "model": self.model,
            "version": __version__,
            "settings": json.dumps(self.settings, sort_keys=True),
        }

    def rows(self) -> list[dict[str, Any]]:
        """Return a flat dictionary for each picture, as a table takes it: `pandas.DataFrame(result.rows())`.

        Settings of a stage are called `decoder.num_steps` and so on, and are its steps, guidance and sampler and what
        differs from a stage's usual ones; pixels and embeddings are not among them.
        """
        scores = self.settings.get("scores", [])
        settings = flatten({name: value for name, value in self.settings.items() if name != "scores"})
        shared = {
            name: value
            for name, value in settings.items()
            if not (of_stage := name.partition(".")[2])
            or of_stage in MAIN_SETTINGS
            or value != USUAL.get(of_stage, value)
        }
        rows = []
        for place, image in enumerate(self.images):
            width, height = picture_size(image)
            row = {"prompt": self.prompts[place], "seed": self.seeds[place], "width": width, "height": height}
            row |= {"score": scores[place]} if scores else {}
            rows.append({**row, "model": self.model, "cut": self.cut[place], **shared})
        return rows


def check_alpha(suffix: str, background: str | None) -> None:
    """Raise `InputError` if the background is transparent and files that end in `suffix` hold no alpha."""
    if background == "transparent" and suffix in (".jpg", ".jpeg", ".gif"):
        raise InputError(
            f'background="transparent" has no place in a {suffix} file; use .png or .webp, or give a colour.'
        )


def file_names(
    path: Path, suffix: str, titles: Sequence[str], seeds: Sequence[int | str], *, is_folder: bool
) -> list[Iterable[Path]]:
    """Name each picture's file, as paths to try: in a folder by title and seed, else as `path`, numbered from 1."""
    if is_folder:
        return [free_names(path / f"{slug(title)}-{seed}{suffix}") for title, seed in zip(titles, seeds, strict=True)]
    return [(path.with_stem(f"{path.stem}-{n}") for n in itertools.count(first)) for first in range(1, len(seeds) + 1)]


def convert(
    images: Drawn, output_type: OutputType, background: Background = WHITE
) -> list[Image.Image] | list[np.ndarray] | list[Tensor]:
    """Convert pictures to a list of PIL pictures, arrays or tensors; PIL pictures have their background already."""
    is_clear = background == "transparent"
    if output_type == "pil":
        return to_pil(images, background) if isinstance(images, Tensor) else list(images)
    if not isinstance(images, Tensor) and output_type == "np" and is_clear:
        return [np.asarray(open_picture(image).convert("RGBA"), dtype=np.float32) / 255 for image in images]
    batch = images if isinstance(images, Tensor) else from_pil(images, 3 if background == WHITE else 4)
    batch = on_background(batch, background)
    if output_type == "np":
        return list(to_unit(straighten(batch) if is_clear else batch))
    return list(batch.float().clamp(-1.0, 1.0))


def picture_size(image: Image.Image | np.ndarray | Tensor) -> tuple[int, int]:
    """Return (width, height) of one picture of a result."""
    if isinstance(image, Image.Image):
        return image.size
    height, width = image.shape[-2:] if isinstance(image, Tensor) else image.shape[:2]
    return int(width), int(height)


def _seeds_of(prompt: str, seeds: Sequence[int]) -> str:
    """Write a prompt with its seeds, as a range where they follow each other."""
    text = f"{prompt!r} " if prompt else ""
    if len(seeds) == 1:
        return f"{text}seed {seeds[0]}"
    if list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"{text}seeds {seeds[0]} to {seeds[-1]}"
    shown = ", ".join(str(seed) for seed in dict.fromkeys(seeds[:4]))
    return f"{text}seeds {shown}{', ...' if len(seeds) > 4 else ''}"
