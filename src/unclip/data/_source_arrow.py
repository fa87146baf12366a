"""Sets that Hugging Face `datasets` saved on disk. Knows `datasets`; imports it late."""

from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from unclip.data._optional import optional_module
from unclip.data._source import (
    Asked,
    Columns,
    Content,
    Source,
    clean_captions,
    find_columns,
    json_values,
    named_class,
)
from unclip.data._source_parquet import count_uncaptioned, picture_of_cell
from unclip.errors import DataError

__all__ = ["arrow_source", "is_saved_set"]


def is_saved_set(folder: Path) -> bool:
    """Whether `save_to_disk` made this folder."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def arrow_source(folder: Path, asked: Asked) -> Source:
    """The rows of one saved set; names of classes serve as captions, where no text does.

    Raises `DataError` for a folder of several splits, for a damaged one, and where a column is missing.
    """
    if (folder / "dataset_dict.json").is_file():
        splits = sorted(path.parent.name for path in folder.glob("*/state.json"))
        raise DataError(f"{folder} holds the splits {', '.join(splits)}; name one: {folder / splits[0]}.")
    rows = _load(folder)
    columns = find_columns(folder, rows.column_names, asked)
    return _source(folder, _with_bytes(rows, columns), columns)


def _source(folder: Path, rows: Any, columns: Columns) -> Source:
    class_names = _class_names(rows, columns)
    cells = [] if columns.caption is None else rows[columns.caption]
    return Source(
        description=f"{len(rows)} rows of a datasets folder ({columns})",
        names=[f"row {row}" for row in range(len(rows))],
        keys=[f"{row:09d}" for row in range(len(rows))],
        num_uncaptioned=count_uncaptioned(folder, columns, cells, class_names, len(rows)),
        read=partial(_read, rows, columns, class_names),
    )


def _read(rows: Any, columns: Columns, class_names: list[str] | None, index: int) -> Content:
    try:
        values = rows[index]
    except (OSError, ValueError) as error:
        raise DataError(f"row {index} cannot be read ({error})") from None
    info = json_values({name: value for name, value in values.items() if name not in columns})
    picture = picture_of_cell(values[columns.image])
    return Content(picture, clean_captions(named_class(values.get(columns.caption), class_names)), info)


def _class_names(rows: Any, columns: Columns) -> list[str] | None:
    feature = rows.features.get(columns.caption)
    return feature.names if isinstance(feature, _datasets().ClassLabel) else None


def _with_bytes(rows: Any, columns: Columns) -> Any:
    """The same rows with pictures as they lie in the files: decoding is for whoever wants pixels."""
    image = _datasets().Image
    if isinstance(rows.features[columns.image], image):
        return rows.cast_column(columns.image, image(decode=False))
    return rows


def _load(folder: Path) -> Any:
    try:
        return _datasets().load_from_disk(str(folder))
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder} cannot be read by datasets ({error}); save it again.") from None


def _datasets() -> ModuleType:
    return optional_module("datasets", "reading a saved set")
