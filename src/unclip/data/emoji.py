"""Read the emoji set and draw its items."""

import io
import json
import lzma
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from unclip.data.pictures import Pixels, check_channels, check_sizes, stack_layers
from unclip.data.prepare import whiten_clear
from unclip.errors import DataError, InputError, did_you_mean, optional_module
from unclip.pictures import white_and_coverage

DESIGNS = ("noto", "twemoji", "fluent", "fluent-flat", "blob", "emojione", "firefox", "streamline")
SPLITS = ("train", "test", "all")
SOURCE_VARIABLE = "UNCLIP_EMOJI"
NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
INFO = (
    "key", "design", "name", "unicode", "label", "concept", "tags", "synonyms", "group", "skin_tones", "captions",
    "test", "composition",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class EmojiItem:
    """One icon with its words; `captions[0]` is `label`."""

    key: str
    """`<design>/<name>`, unique."""
    unicode: str
    """Code points in hexadecimal, joined by hyphens."""
    label: str
    """Name with skin tone, as in "waving hand: dark skin tone"."""
    concept: str
    """Label of the base emoji, the class that evaluation counts: "waving hand"."""
    tags: tuple[str, ...]
    """Keywords."""
    synonyms: tuple[str, ...]
    """Other names of the concept."""
    group: str
    skin_tones: tuple[str, ...]
    """None, one, or one per person."""
    captions: tuple[str, ...]
    test: bool
    composition: bool = False
    """Whether it is made of several icons, or of one in another colour, as `Compositions` do."""
    width: float
    height: float
    body: str
    """The content of the `svg` element, in a view box of `width` by `height`."""

    @property
    def design(self) -> str:
        """One of `DESIGNS`."""
        return self.key.partition("/")[0]

    @property
    def name(self) -> str:
        """The icon's name within its design."""
        return self.key.partition("/")[2]

    def info(self) -> dict[str, Any]:
        """Return all fields but the drawing, as JSON values."""
        values = {field: getattr(self, field) for field in INFO}
        return {field: list(value) if isinstance(value, tuple) else value for field, value in values.items()}


def emoji_source(source: Path | str | None = None) -> Path:
    """Return the folder of the set: `source`, or the variable UNCLIP_EMOJI, or `datasets/emoji` of this checkout.

    Raises `DataError` if the folder does not hold the set.
    """
    checkout = Path(__file__).resolve().parents[3] / "datasets" / "emoji"
    folder = Path(source or os.environ.get(SOURCE_VARIABLE) or checkout)
    if not (folder / "captions.jsonl.xz").is_file():
        raise DataError(
            f"no emoji data set in {folder} (captions.jsonl.xz is missing); work from a clone of the repository, "
            f"or name its datasets/emoji folder by `source` or {SOURCE_VARIABLE}."
        )
    return folder


def emoji_items(split: str = "all", source: Path | str | None = None) -> list[EmojiItem]:
    """Read the items of a split (one of `SPLITS`), sorted by key.

    All drawings together are 150 MB of text in memory. Raises `InputError` for an unknown split, `DataError` for a
    missing or damaged file.
    """
    if split not in SPLITS:
        raise InputError(f"split={split!r} is unknown; {did_you_mean(split, SPLITS)}")
    folder = emoji_source(source)
    icons = {
        f"{design}/{icon.pop('name')}": icon
        for design in DESIGNS
        for icon in _read_records(folder / "icons" / f"{design}.jsonl.xz")
    }
    items = []
    for record in _read_records(folder / "captions.jsonl.xz"):
        if split != "all" and record["test"] != (split == "test"):
            continue
        if record["key"] not in icons:
            raise DataError(f"{folder} has a caption but no icon for {record['key']}; rebuild it with its build.py.")
        fields: dict[str, Any] = {**record, **icons[record["key"]]}
        fields |= {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        fields |= {side: float(fields[side]) for side in ("width", "height")}
        items.append(EmojiItem(**fields))
    return sorted(items, key=lambda item: item.key)


def emoji_phrases(source: Path | str | None = None) -> list[str]:
    """Read the words and phrases that people might type for a picture, sorted: text alone, to distil text towers on.

    Raises `DataError` for a missing or damaged file.
    """
    return [line.rstrip("\n") for line in _read_lines(emoji_source(source) / "phrases.txt.xz")]


def _read_records(path: Path) -> Iterator[dict[str, Any]]:
    try:
        yield from map(json.loads, _read_lines(path))
    except ValueError as error:
        raise DataError(f"cannot read {path}: {error}; restore it from the repository.") from None


def _read_lines(path: Path) -> Iterator[str]:
    try:
        with lzma.open(path, "rt", encoding="utf-8") as file:
            yield from file
    except (OSError, EOFError, lzma.LZMAError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}; restore it from the repository.") from None


def rasterize(item: EmojiItem, image_size: int, channels: int = 3) -> Pixels:
    """Draw `item`: uint8 (image_size, image_size, channels); an icon that is not square is centred.

    RGB is on white; a fourth channel is coverage, as in `open_pictures`. Raises `InputError` for a size below 1 and
    other channels, `DependencyError` without resvg-py, `DataError` if the SVG is invalid or resvg cannot draw it at
    this size.
    """
    check_channels(channels)
    return stack_layers(white_and_coverage(draw_svg(item, image_size)))[..., :channels]


def draw_svg(item: EmojiItem, image_size: int) -> Image.Image:
    """Draw `item` as `rasterize` does, to RGBA: what is fully transparent is white."""
    check_sizes([image_size])
    size = f'width="{image_size}" height="{image_size}" viewBox="0 0 {item.width} {item.height}"'
    svg = f"<svg {NAMESPACES} {size}>{item.body}</svg>"
    resvg = optional_module("resvg_py", "drawing SVG")
    try:
        png = resvg.svg_to_bytes(svg_string=svg, skip_system_fonts=True)
    except ValueError as error:
        raise DataError(f"cannot draw {item.key}: {error}; restore its SVG from the repository.") from None
    except BaseException as error:  # a panic of Rust is no Exception
        if type(error).__name__ != "PanicException":
            raise
        raise DataError(f"resvg cannot draw {item.key} at {image_size} px ({error}); use a larger size.") from None
    with Image.open(io.BytesIO(png)) as image:
        return whiten_clear(image.convert("RGBA"))
