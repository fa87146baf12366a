"""Parquet tables, with paths of pictures or with the pictures themselves. Knows pyarrow; imports it late."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
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
from unclip.errors import DataError

__all__ = ["count_uncaptioned", "parquet_columns", "parquet_rows", "parquet_source", "picture_of_cell"]


def parquet_columns(table: Path) -> list[str]:
    """The names of a table's columns."""
    return list(_open(table).schema_arrow.names)


def parquet_rows(table: Path) -> Iterator[dict[str, Any]]:
    """The rows of a table without pictures."""
    for batch in _open(table).iter_batches():
        try:
            yield from batch.to_pylist()
        except UnicodeDecodeError:
            raise DataError(f"{table} holds text that is not UTF-8; write it again.") from None


def parquet_source(root: Path, tables: Sequence[Path], asked: Asked) -> Source | None:
    """The rows of tables that hold the pictures' bytes, as Hugging Face writes them; None where they hold paths.

    A row is read with its whole row group, of which the last is kept: read in order, each group is read once.
    """
    schema = _open(tables[0]).schema_arrow
    columns = find_columns(tables[0], schema.names, asked)
    if not _holds_pictures(schema.field(columns.image).type):
        return None
    reader = _Rows(root, tables, columns, _class_names(schema, columns))
    return Source(
        description=f"{len(reader.names)} rows of {len(tables)} Parquet tables ({columns})",
        names=reader.names,
        keys=reader.keys,
        num_uncaptioned=reader.count_uncaptioned(),
        read=reader.read,
    )


def picture_of_cell(cell: object) -> bytes:
    """The bytes in a cell: bare, or in Hugging Face's {"bytes", "path"}; raises `DataError` where there are none."""
    picture = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(picture, bytes):
        raise DataError("its row holds no picture")
    return picture


def count_uncaptioned(
    table: Path, columns: Columns, cells: Iterable[object], class_names: list[str] | None, num_rows: int
) -> int:
    """How many of the rows have no caption; raises `DataError` where the column holds no texts."""
    try:
        return num_rows - sum(bool(clean_captions(named_class(cell, class_names))) for cell in cells)
    except (DataError, UnicodeDecodeError) as error:
        reason = error if isinstance(error, DataError) else "its text is not UTF-8"
        raise DataError(f"{table}, column {columns.caption!r}: {reason}; name another by caption_column.") from None


class _Rows:
    """Rows by number over all tables."""

    def __init__(self, root: Path, tables: Sequence[Path], columns: Columns, class_names: list[str] | None) -> None:
        self._tables, self._columns, self._class_names = tables, columns, class_names
        self._groups = [
            (table, group, _open(table).metadata.row_group(group).num_rows)
            for table in tables
            for group in range(_open(table).num_row_groups)
        ]
        self._places = [(index, row) for index, (_, _, count) in enumerate(self._groups) for row in range(count)]
        self._last: tuple[int, Any] | None = None
        self.names, self.keys = [], []
        for table in tables:
            name = table.relative_to(root).as_posix()
            stem = name.removesuffix(table.suffix).replace(".", "_")
            rows = range(_open(table).metadata.num_rows)
            self.names += [f"{name} row {row}" for row in rows]
            self.keys += [f"{stem}/{row:09d}" for row in rows]

    def read(self, index: int) -> Content:
        """The sample in row `index`."""
        group, row = self._places[index]
        if self._last is None or self._last[0] != group:
            self._last = (group, self._read_group(group))
        try:
            values = self._last[1].slice(row, 1).to_pylist()[0]
        except UnicodeDecodeError:
            raise DataError("its row holds text that is not UTF-8") from None
        info = json_values({name: value for name, value in values.items() if name not in self._columns})
        picture = picture_of_cell(values[self._columns.image])
        return Content(picture, clean_captions(named_class(values.get(self._columns.caption), self._class_names)), info)

    def count_uncaptioned(self) -> int:
        """How many rows have no caption; reads that column alone."""
        column = self._columns.caption
        if column is None:
            return len(self.keys)
        cells = (
            value for table in self._tables for value in _open(table).read(columns=[column]).column(column).to_pylist()
        )
        return count_uncaptioned(self._tables[0], self._columns, cells, self._class_names, len(self.keys))

    def _read_group(self, index: int) -> Any:
        table, group, _ = self._groups[index]
        try:
            return _open(table).read_row_group(group)
        except OSError as error:
            raise DataError(f"row group {group} of {table} cannot be read ({error})") from None


def _open(table: Path) -> Any:
    parquet = optional_module("pyarrow.parquet", "reading Parquet")
    arrow = optional_module("pyarrow", "reading Parquet")
    try:
        return parquet.ParquetFile(table)
    except (OSError, arrow.ArrowInvalid) as error:
        raise DataError(f"{table} cannot be read as Parquet ({error}); write or download it again.") from None


# Hugging Face keeps the names of classes beside the schema.
def _class_names(schema: Any, columns: Columns) -> list[str] | None:
    features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    return features.get(columns.caption, {}).get("names")


def _holds_pictures(kind: Any) -> bool:
    types = optional_module("pyarrow", "reading Parquet").types
    return types.is_struct(kind) or types.is_binary(kind) or types.is_large_binary(kind)
