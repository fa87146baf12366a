"""Tables of pictures and captions: CSV, TSV, JSON lines and Parquet. Knows no folder without a table."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from unclip.data._source import Content, Source, clean_captions, json_values, unique_keys
from unclip.data._source_columns import Asked, Columns, find_columns
from unclip.data._source_folder import read_file
from unclip.data._source_parquet import parquet_rows, parquet_source
from unclip.errors import DataError

__all__ = ["TABLE_SUFFIXES", "table_source"]

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
Row = Mapping[str, Any]


@dataclass
class _Entry:
    """A picture file and what the rows that name it say."""

    path: Path
    captions: list[str] = field(default_factory=list)
    info: dict[str, Any] = field(default_factory=dict)


def table_source(root: Path, tables: Sequence[Path], asked: Asked) -> Source:
    """The pictures that the rows of `tables` name, relative to their table; rows that name the same one are joined.

    Rows of Parquet may hold the pictures themselves. Raises `DataError` for a table that cannot be read, that lacks a
    column, or of whose pictures none is there.
    """
    if tables[0].suffix.lower() == ".parquet":
        source = parquet_source(root, tables, asked)
        if source is not None:
            return source
        rows_of: Callable[[Path], Iterator[Row]] = parquet_rows
    else:
        rows_of = _text_rows
    entries: dict[Path, _Entry] = {}
    for table in tables:
        columns = _add_rows(entries, table, rows_of(table), asked)
    return _source(root, tables, list(entries.values()), columns)


def _source(root: Path, tables: Sequence[Path], entries: list[_Entry], columns: Columns) -> Source:
    if not any(entry.path.is_file() for entry in entries):
        raise DataError(
            f"{tables[0]} names {len(entries)} pictures, such as {entries[0].path}, and none is there; "
            f"paths in column {columns.image!r} are relative to the table's folder."
        )
    table_names = tables[0].name if len(tables) == 1 else f"{len(tables)} tables"
    names = [_relative(entry.path, root) for entry in entries]
    return Source(
        description=f"{len(entries)} pictures of {table_names} ({columns})",
        names=names,
        keys=unique_keys(names),
        num_uncaptioned=sum(not entry.captions for entry in entries),
        read=partial(_read, entries),
    )


def _read(entries: Sequence[_Entry], index: int) -> Content:
    entry = entries[index]
    return Content(read_file(entry.path), clean_captions(entry.captions), entry.info)


def _add_rows(entries: dict[Path, _Entry], table: Path, rows: Iterator[Row], asked: Asked) -> Columns:
    columns = None
    for number, row in enumerate(rows, start=1):
        columns = columns or find_columns(table, row.keys(), asked)
        name = row.get(columns.image)
        if not isinstance(name, str) or not name.strip():
            raise DataError(
                f"{table}: row {number} names no picture in column {columns.image!r}; correct or remove it."
            )
        entry = entries.setdefault(table.parent / name.strip(), _Entry(table.parent / name.strip()))
        entry.captions += _captions(table, number, row, columns)
        entry.info |= json_values({name: row[name] for name in row if name not in columns})
    if columns is None:
        raise DataError(f"{table} has no rows; give a table with a picture and a caption in each row.")
    return columns


def _captions(table: Path, number: int, row: Row, columns: Columns) -> tuple[str, ...]:
    try:
        return clean_captions(row.get(columns.caption) if columns.caption else None)
    except DataError as error:
        raise DataError(f"{table}: row {number}: {error}; correct it.") from None


def _text_rows(table: Path) -> Iterator[Row]:
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            if table.suffix.lower() == ".jsonl":
                yield from (_json_row(line) for line in file if line.strip())
            else:
                yield from _cells(csv.DictReader(file, delimiter="\t" if table.suffix.lower() == ".tsv" else ","))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{table} cannot be read ({error}); save it again as UTF-8.") from None


def _json_row(line: str) -> Row:
    row = json.loads(line)
    if not isinstance(row, dict):
        raise ValueError(f"a line is {line.strip()[:40]!r}, not an object")
    return row


def _cells(reader: "csv.DictReader[str]") -> Iterator[Row]:
    for row in reader:
        # The csv module keeps cells beyond the header under the key None.
        if None in row:
            raise ValueError(f"line {reader.line_num} has more cells than the header; quote captions that hold commas")
        yield row


def _relative(path: Path, root: Path) -> str:
    """The path within `root`, or the whole one with its root and its steps up left out of the later key."""
    if path.is_relative_to(root) and ".." not in path.parts:
        return path.relative_to(root).as_posix()
    return "/".join(part for part in path.parts if part not in ("..", path.anchor))
