"""Sets that Hugging Face `datasets` saved on disk. Knows `datasets`; imports it late."""

from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from unclip.data._optional import optional_module
from unclip.data._source import Content, Source, clean_captions, json_values
from unclip.data._source_columns import Columns, find_columns
from unclip.data._source_parquet import picture_of_cell
from unclip.errors import DataError

__all__ = ["arrow_source", "is_saved_set"]


def is_saved_set(folder: Path) -> bool:
    """Whether `save_to_disk` made this folder."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def arrow_source(folder: Path, image_column: str | None, caption_column: str | None) -> Source:
    """The rows of one saved set; names of classes serve as captions, where no text does.

    Raises `DataError` for a folder of several splits, for a damaged one, and where a column is missing.
    """
    if (folder / "dataset_dict.json").is_file():
        splits = sorted(path.parent.name for path in folder.glob("*/state.json"))
        raise DataError(f"{folder} holds the splits {', '.join(splits)}; name one: {folder / splits[0]}.")
    rows = _load(folder)
    columns = find_columns(folder, rows.column_names, image_column, caption_column)
    return _source(_with_bytes(rows, columns), columns)


def _source(rows: Any, columns: Columns) -> Source:
    captions = _class_names(rows, columns)
    return Source(
        description=f"{len(rows)} rows of a datasets folder ({columns})",
        names=[f"row {row}" for row in range(len(rows))],
        keys=[f"{row:09d}" for row in range(len(rows))],
        num_uncaptioned=sum(not clean_captions(_caption(value, captions)) for value in rows[columns.caption]),
        read=partial(_read, rows, columns, captions),
    )


def _read(rows: Any, columns: Columns, class_names: list[str] | None, index: int) -> Content:
    try:
        values = rows[index]
    except (OSError, ValueError) as error:
        raise DataError(f"row {index} cannot be read ({error})") from None
    info = json_values({name: value for name, value in values.items() if name not in columns})
    picture = picture_of_cell(values[columns.image])
    return Content(picture, clean_captions(_caption(values[columns.caption], class_names)), info)


def _caption(value: object, class_names: list[str] | None) -> object:
    if class_names is None or not isinstance(value, int):
        return value
    return class_names[value].replace("_", " ") if value >= 0 else None


def _class_names(rows: Any, columns: Columns) -> list[str] | None:
    feature = rows.features[columns.caption]
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
