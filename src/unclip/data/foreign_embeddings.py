"""Arrays of embeddings as clip-retrieval and DALLE2-pytorch write them. Knows .npy and Parquet; no CLIP.

`img_emb/*.npy`, (rows, dim), and beside it, where they are there, `text_emb/*.npy` and `metadata/*.parquet` whose files
end in the same number and have as many rows. Numbers are taken as they are: clip-retrieval's are L2-normalised.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from unclip.data.embedding_shards import EmbeddingPart, Layout, Moments, PartFile, Statistics, TextRow, merge_all
from unclip.data.sources.base import CAPTION_COLUMNS
from unclip.errors import DataError, optional_module

LAYOUTS = "*.safetensors of `unclip embed`, or img_emb/*.npy"
IMAGE_FOLDERS = ("img_emb", "img_embeddings", "image_embeddings")
TEXT_FOLDERS = ("text_emb", "text_embeddings")
TABLE_FOLDERS = ("metadata",)
KEY_COLUMNS = ("key", "image_path")
# img2dataset numbers the ten thousand samples of a shard by four digits.
INDEX_WIDTH = 4
# Of this many the mean is known to a thousandth of the deviation; reading all of 400 million would take an hour.
MAX_COUNTED = 2**20
ROWS_AT_ONCE = 2**14


def image_folder(folder: Path) -> Path | None:
    """The folder of image embeddings in `folder`, or `folder` itself where it holds the arrays; None without any."""
    found = [folder / name for name in IMAGE_FOLDERS if any((folder / name).glob("*.npy"))]
    return next(iter([*found, *([folder] if any(folder.glob("img_emb*.npy")) else [])]), None)


def open_foreign(folder: Path) -> Layout:
    """The set in `folder`; raises `DataError` where its arrays and tables do not fit each other."""
    images = image_folder(folder)
    assert images is not None, folder
    arrays = _numbered(images, "img_emb*.npy" if images == folder else "*.npy")
    texts, tables = _beside(folder, TEXT_FOLDERS, "*.npy", arrays), _beside(folder, TABLE_FOLDERS, "*.parquet", arrays)
    shapes = {number: _shape(path) for number, path in arrays.items()}
    dims = {dim for _, dim in shapes.values()}
    if len(dims) != 1:
        raise DataError(f"{images} holds embeddings of sizes {sorted(dims)}; keep those of two models in two folders.")
    width = max(INDEX_WIDTH, *(len(str(rows - 1)) for rows, _ in shapes.values()))
    files = [
        ArrayFiles(arrays[number], texts.get(number), tables.get(number), _prefix(folder, path), width)
        for number, path in arrays.items()
    ]
    for file in files:
        file.check()
    sizes = [rows for rows, _ in shapes.values()]
    return Layout(
        parts=tuple(
            PartFile(name=file.images.name, size=size, open=partial(ArrayPart, file))
            for file, size in zip(files, sizes, strict=True)
        ),
        model_hash="",
        embedding_dim=dims.pop(),
        text_dim=0,
        text_length=0,
        statistics=partial(_statistics, tuple(arrays.values())),
        empty=None,
        has_captions=bool(files) and all(file.caption_column is not None for file in files),
        has_texts=bool(texts),
    )


@dataclass(frozen=True)
class ArrayFiles:
    """The files of one part."""

    images: Path
    texts: Path | None
    table: Path | None
    prefix: str
    """What keys start with where no table names them: the shard's number as img2dataset writes it."""
    width: int
    """Digits of a row's number in such a key."""

    @cached_property
    def caption_column(self) -> str | None:
        """The table's column of captions, by its usual names in any case; None without."""
        names = [] if self.table is None else _parquet(self.table).schema_arrow.names
        by_name = {name.lower(): name for name in reversed(names)}
        return next((by_name[name] for name in CAPTION_COLUMNS if name in by_name), None)

    def check(self) -> None:
        """Raise `DataError` unless the files have as many rows and the embeddings one size."""
        rows, dim = _shape(self.images)
        if self.texts is not None and _shape(self.texts) != (rows, dim):
            raise DataError(
                f"{self.texts} is {_shape(self.texts)}, but {self.images} is {(rows, dim)}; rows and sizes must agree."
            )
        if self.table is not None and (found := _parquet(self.table).metadata.num_rows) != rows:
            raise DataError(f"{self.table} has {found} rows, but {self.images} has {rows}; fetch both again.")


class ArrayPart(EmbeddingPart):
    """The rows of one part, mapped from its arrays. A row of zeros is one that is missing."""

    def __init__(self, files: ArrayFiles) -> None:
        """Map the arrays of `files`; the table is read when it is needed."""
        self._files = files
        self._images = np.load(files.images, mmap_mode="r", allow_pickle=False)
        self._texts = None if files.texts is None else np.load(files.texts, mmap_mode="r", allow_pickle=False)

    @property
    def keys(self) -> Sequence[str]:
        """From the table, or the shard's number followed by the row's, which are img2dataset's keys."""
        return self._keys

    def image(self, rows: Int64[Tensor, " rows"]) -> Float32[Tensor, "rows dim"]:
        """Image embeddings of rows."""
        return torch.from_numpy(self._images[rows.numpy()].astype(np.float32))

    def valid(self, rows: Int64[Tensor, " rows"]) -> Bool[Tensor, " rows"]:
        """Which rows are not missing."""
        return _is_valid(self._images[rows.numpy()])

    def captions(self, row: int) -> list[str]:
        """The caption of a row; raises `DataError` where no table holds it."""
        if self._captions is None:
            raise DataError(
                f"{self._files.images} comes without captions (metadata/*.parquet with a column "
                f"{' or '.join(CAPTION_COLUMNS[:3])}); take them from the pictures' shards."
            )
        return [self._captions[row]]

    def num_texts(self, row: int) -> int:
        """One, where there are text embeddings."""
        del row
        return int(self._texts is not None)

    def text(self, row: int, number: int) -> TextRow:
        """The embedding of a row's one caption."""
        if self._texts is None:
            raise DataError(
                f"{self._files.images} comes without text embeddings ({' or '.join(TEXT_FOLDERS)}); "
                "embed the captions with `unclip embed`."
            )
        if number != 0:
            raise DataError(f"{self._files.texts}: {self.keys[row]} has 1 caption and none of number {number}; use 0.")
        return TextRow(torch.from_numpy(self._texts[row].astype(np.float32)), None)

    @cached_property
    def _keys(self) -> list[str]:
        files, named = self._files, self._column(KEY_COLUMNS)
        return named or [f"{files.prefix}{row:0{files.width}d}" for row in range(len(self._images))]

    @cached_property
    def _captions(self) -> list[str] | None:
        column = self._files.caption_column
        return None if column is None else self._column([column])

    def _column(self, names: Sequence[str]) -> list[str] | None:
        if self._files.table is None:
            return None
        table = _parquet(self._files.table)
        name = next((name for name in names if name in table.schema_arrow.names), None)
        if name is None:
            return None
        return ["" if value is None else str(value) for value in table.read([name]).column(name).to_pylist()]


def _numbered(folder: Path, pattern: str) -> dict[int, Path]:
    """Files by the number that their names end in, in its order: img_emb_10 comes after img_emb_9."""
    found: dict[int, Path] = {}
    for path in sorted(folder.glob(pattern)):
        digits = re.search(r"\d+$", path.stem)
        if digits is None or int(digits[0]) in found:
            raise DataError(f"{path} does not end in a number of its own; name the files img_emb_0.npy, img_emb_1.npy.")
        found[int(digits[0])] = path
    return dict(sorted(found.items()))


def _beside(folder: Path, names: Sequence[str], pattern: str, arrays: Mapping[int, Path]) -> dict[int, Path]:
    """Files of the first of these folders, which must be one for each array."""
    for name in names:
        found = _numbered(folder / name, pattern)
        if found and found.keys() != arrays.keys():
            lonely = sorted(found.keys() ^ arrays.keys())
            raise DataError(
                f"{folder / name} and the image embeddings have other numbers: {lonely[:4]} stand in one of them only; "
                "fetch the missing files or remove their counterparts."
            )
        if found:
            return found
    return {}


def _prefix(folder: Path, array: Path) -> str:
    """The shard's number with as many zeros as the .tar of that number has, else as the array's own name."""
    digits = re.search(r"\d+$", array.stem)
    assert digits is not None, array
    tars = [path for path in folder.glob("*.tar") if path.stem.isdecimal() and int(path.stem) == int(digits[0])]
    return tars[0].stem if tars else digits[0]


def _shape(path: Path) -> tuple[int, int]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} is not a whole .npy array ({error}); fetch it again.") from None
    if array.ndim != 2 or array.dtype.kind != "f":
        raise DataError(f"{path} holds {array.dtype} of shape {array.shape}, not rows of embeddings; leave it out.")
    return array.shape[0], array.shape[1]


def _statistics(arrays: Sequence[Path]) -> Statistics:
    """Mean and deviation of all rows that are not missing, or of about a million of them spread evenly."""
    sizes = [_shape(path) for path in arrays]
    stride = -(-sum(rows for rows, _ in sizes) // MAX_COUNTED)
    parts = (_moments(path, stride) for path in arrays)
    moments = merge_all(parts, sizes[0][1])
    return Statistics(moments.mean.float(), moments.std.float())


def _moments(path: Path, stride: int) -> Moments:
    array = np.load(path, mmap_mode="r", allow_pickle=False)[::stride]
    starts = range(0, len(array), ROWS_AT_ONCE)
    chunks = (np.asarray(array[start : start + ROWS_AT_ONCE]) for start in starts)
    return merge_all(
        (Moments.of(torch.from_numpy(chunk.astype(np.float64))[_is_valid(chunk)]) for chunk in chunks), array.shape[1]
    )


def _is_valid(rows: np.ndarray) -> Bool[Tensor, " rows"]:
    return torch.from_numpy(np.any(rows != 0, axis=1) & np.isfinite(rows).all(axis=1))


def _parquet(path: Path) -> Any:
    parquet = optional_module("pyarrow.parquet", f"reading {path}")
    try:
        return parquet.ParquetFile(path)
    except (ValueError, OSError) as error:
        raise DataError(f"{path} is not a whole Parquet file ({str(error).splitlines()[0]}); fetch it again.") from None
