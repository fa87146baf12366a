"""Read arrays of embeddings as clip-retrieval and DALLE2-pytorch write them.

`img_emb/*.npy`, (rows, dim), and beside it, if they exist, `text_emb/*.npy` and `metadata/*.parquet` whose files end in
the same number and have as many rows. Numbers are taken as they are: clip-retrieval's are L2-normalised.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch

from unclip.data.embedding_shards import EmbeddingPart, Layout, Moments, PartFile, Statistics, is_valid, merge_all
from unclip.data.sources.base import CAPTION_COLUMNS, usual_names
from unclip.data.sources.tables import open_parquet
from unclip.errors import DataError

LAYOUTS = "*.safetensors of `unclip embed`, or img_emb/*.npy"
IMAGE_FOLDERS = ("img_emb", "img_embeddings", "image_embeddings")
TEXT_FOLDERS = ("text_emb", "text_embeddings")
TABLE_FOLDERS = ("metadata",)
KEY_COLUMNS = ("key", "image_path")
# img2dataset numbers the ten thousand samples of a shard by four digits.
INDEX_WIDTH = 4
# From so many the mean is known to a thousandth of the deviation; reading all of 400 million would take an hour.
MAX_COUNTED = 2**20
ROWS_AT_ONCE = 2**14


def image_folder(folder: Path) -> Path | None:
    """Find the folder of image embeddings in `folder`, or `folder` itself if it holds the arrays; None without any."""
    for name in IMAGE_FOLDERS:
        if any((folder / name).glob("*.npy")):
            return folder / name
    return folder if any(folder.glob("img_emb*.npy")) else None


def open_foreign(folder: Path) -> Layout:
    """Open the set in `folder`; raises `DataError` if its arrays and tables do not fit each other."""
    images = image_folder(folder)
    assert images is not None, folder
    arrays = _numbered(images, "img_emb*.npy" if images == folder else "*.npy")
    texts, tables = _beside(folder, TEXT_FOLDERS, "*.npy", arrays), _beside(folder, TABLE_FOLDERS, "*.parquet", arrays)
    shapes = [_load(path).shape for path in arrays.values()]
    dims = {dim for _, dim in shapes}
    if len(dims) != 1:
        raise DataError(f"{images} holds embeddings of sizes {sorted(dims)}; keep those of two models in two folders.")
    width = max(INDEX_WIDTH, *(len(str(rows - 1)) for rows, _ in shapes))
    # A shard's number has as many zeros as the name of its .tar, or else as that of the array.
    tars = {int(path.stem): path.stem for path in folder.glob("*.tar") if path.stem.isdecimal()}
    files = [
        _ArrayFiles(path, texts.get(number), tables.get(number), tars.get(number) or _digits(path), width)
        for number, path in arrays.items()
    ]
    for file, shape in zip(files, shapes, strict=True):
        if file.texts is not None and (text_shape := _load(file.texts).shape) != shape:
            raise DataError(f"{file.texts} is {text_shape}, but {file.images} is {shape}; rows and sizes must agree.")
        if file.table is not None and (num_rows := open_parquet(file.table).metadata.num_rows) != shape[0]:
            raise DataError(f"{file.table} has {num_rows} rows, but {file.images} has {shape[0]}; fetch both again.")
    return Layout(
        parts=tuple(
            PartFile(name=file.images.name, size=rows, open=file.open)
            for file, (rows, _) in zip(files, shapes, strict=True)
        ),
        model_hash="",
        embedding_dim=dims.pop(),
        text_dim=0,
        text_length=0,
        statistics=partial(_statistics, tuple(arrays.values())),
        empty=None,
        has_captions=all(file.column(CAPTION_COLUMNS) for file in files),
        has_texts=bool(texts),
    )


@dataclass(frozen=True)
class _ArrayFiles:
    """The files of one part."""

    images: Path
    texts: Path | None
    table: Path | None
    prefix: str
    """Start of the keys if no table names them: the shard's number as img2dataset writes it."""
    width: int
    """Digits of a row's number in such a key."""

    def open(self) -> EmbeddingPart:
        """Map the arrays; the table is read when it is needed. A row of zeros is one that is missing."""
        images = _load(self.images)
        return EmbeddingPart(
            name=str(self.images),
            image_embedding=images,
            is_valid=None,
            text_embedding=None if self.texts is None else _load(self.texts),
            caption_start=np.arange(len(images) + 1),
            keys=cache(partial(self.keys, len(images))),
            all_captions=cache(partial(self.values, CAPTION_COLUMNS)),
        )

    def keys(self, num_rows: int) -> list[str]:
        """Read the keys in the table, or make img2dataset's: the shard's number followed by the row's."""
        return self.values(KEY_COLUMNS) or [f"{self.prefix}{row:0{self.width}d}" for row in range(num_rows)]

    def column(self, usual: Sequence[str]) -> str | None:
        """Return the table's first usual column; None without."""
        names = [] if self.table is None else open_parquet(self.table).schema_arrow.names
        return next(iter(usual_names(names, usual)), None)

    def values(self, usual: Sequence[str]) -> list[str] | None:
        """Read the texts in the table's first usual column; None without."""
        name = self.column(usual)
        if name is None or self.table is None:
            return None
        cells = open_parquet(self.table).read([name]).column(name).to_pylist()
        return ["" if cell is None else str(cell) for cell in cells]


def _numbered(folder: Path, pattern: str) -> dict[int, Path]:
    """Find files by the number that their names end in, in its order: img_emb_10 comes after img_emb_9."""
    paths: dict[int, Path] = {}
    for path in sorted(folder.glob(pattern)):
        digits = _digits(path)
        if not digits or int(digits) in paths:
            raise DataError(f"{path} does not end in a number of its own; name the files img_emb_0.npy, img_emb_1.npy.")
        paths[int(digits)] = path
    return dict(sorted(paths.items()))


def _digits(path: Path) -> str:
    return path.stem.removeprefix(path.stem.rstrip("0123456789"))


def _beside(folder: Path, names: Sequence[str], pattern: str, arrays: Mapping[int, Path]) -> dict[int, Path]:
    """Find the files of the first of these folders, which must be one for each array."""
    for name in names:
        paths = _numbered(folder / name, pattern)
        if paths and paths.keys() != arrays.keys():
            lonely = sorted(paths.keys() ^ arrays.keys())
            raise DataError(
                f"{folder / name} and the image embeddings have other numbers: {lonely[:4]} occur in one of them only; "
                "fetch the missing files or remove their counterparts."
            )
        if paths:
            return paths
    return {}


def _load(path: Path) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} is not a whole .npy array ({error}); fetch it again.") from None
    if array.ndim != 2 or array.dtype.kind != "f":
        raise DataError(f"{path} holds {array.dtype} of shape {array.shape}, not rows of embeddings; leave it out.")
    return array


def _statistics(paths: Sequence[Path]) -> Statistics:
    """Compute mean and deviation of all rows that are not missing, or of about a million of them spread evenly."""
    arrays = [_load(path) for path in paths]
    stride = -(-sum(map(len, arrays)) // MAX_COUNTED)
    parts = (_moments(array[::stride]) for array in arrays)
    moments = merge_all(parts, arrays[0].shape[1])
    return Statistics(moments.mean.float(), moments.std.float())


def _moments(array: np.ndarray) -> Moments:
    chunks = (np.asarray(array[start : start + ROWS_AT_ONCE]) for start in range(0, len(array), ROWS_AT_ONCE))
    parts = (Moments.of(torch.from_numpy(chunk.astype(np.float64))[is_valid(chunk)]) for chunk in chunks)
    return merge_all(parts, array.shape[1])
