"""Tables of pictures and captions: CSV, TSV, JSON lines and Parquet. Knows no folder without a table."""

import codecs
import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from unclip.data._source import (
    Asked,
    Columns,
    Content,
    Source,
    clean_captions,
    find_columns,
    json_values,
    readable_name,
    unique_keys,
    whole_text,
)
from unclip.data._source_folder import is_picture, read_file
from unclip.data._source_parquet import parquet_columns, parquet_rows, parquet_source
from unclip.errors import DataError

__all__ = ["TABLE_SUFFIXES", "table_columns", "table_source"]

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


def table_columns(table: Path) -> list[str]:
    """The names of a table's columns; none where it cannot be read, which `table_source` tells."""
    try:
        if table.suffix.lower() == ".parquet":
            return parquet_columns(table)
        return list(next(_text_rows(table), {}))
    except DataError:
        return []


def _source(root: Path, tables: Sequence[Path], entries: list[_Entry], columns: Columns) -> Source:
    if not any(os.path.isfile(entry.path) for entry in entries):
        raise DataError(
            f"{tables[0]} names {len(entries)} pictures, such as {entries[0].path}, and none is there; "
            f"paths in column {columns.image!r} are relative to the table's folder."
        )
    table_names = tables[0].name if len(tables) == 1 else f"{len(tables)} tables"
    names = [readable_name(whole_text(_relative(entry.path, root))) for entry in entries]
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
        if not _is_path(name):
            raise DataError(
                f"{table}: row {number} holds {name[:40]!r} in column {columns.image!r}, which is no path; name the "
                "column of file names by image_column."
            )
        entry = entries.setdefault(table.parent / name.strip(), _Entry(table.parent / name.strip()))
        entry.captions += _captions(table, number, row, columns)
        entry.info |= json_values({name: row[name] for name in row if name not in columns})
    if columns is None:
        raise DataError(f"{table} has no rows; give a table with a picture and a caption in each row.")
    return columns


def _is_path(name: str) -> bool:
    """Whether a file could have this name; pictures themselves, as base64, addresses and cut rows could not."""
    parts = name.strip().encode(errors="surrogatepass").split(b"/")
    has_breaks = any(character in name.strip() for character in "\0\r\n")
    return not has_breaks and "://" not in name and max(map(len, parts)) < 256 and len(name) < 4096


def _captions(table: Path, number: int, row: Row, columns: Columns) -> tuple[str, ...]:
    try:
        return clean_captions(row.get(columns.caption) if columns.caption else None)
    except DataError as error:
        raise DataError(f"{table}: row {number}: {error}; correct it.") from None


def _text_rows(table: Path) -> Iterator[Row]:
    suffix = table.suffix.lower()
    try:
        with open(table, "rb") as file:
            is_wide = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        with open(table, encoding="utf-16" if is_wide else "utf-8-sig", newline="") as lines:
            yield from _json_rows(lines) if suffix == ".jsonl" else _cells(lines, "\t" if suffix == ".tsv" else ",")
    except (OSError, UnicodeError) as error:
        raise DataError(f"{table} cannot be read ({error}); save it again as UTF-8.") from None
    except ValueError as error:
        raise DataError(f"{table}: {error}.") from None


def _json_rows(lines: Iterable[str]) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"line {number}: {str(error).partition(': line')[0]}") from None
        if not isinstance(row, dict):
            raise ValueError(f"line {number}: a line is {line.strip()[:40]!r}, not an object")
        yield row


def _cells(lines: Iterable[str], delimiter: str) -> Iterator[Row]:
    """The rows of a CSV or TSV; raises `ValueError` naming the line of one that is not whole."""
    # Strict: else a quote that is never closed takes the rest of the table into one cell.
    reader = csv.DictReader(lines, delimiter=delimiter, strict=True)
    first = 1
    try:
        if reader.fieldnames is not None:
            first = reader.line_num + 1
        for row in reader:
            # The csv module keeps cells beyond the header under the key None.
            if None in row:
                raise ValueError(
                    f"line {reader.line_num} has more cells than the header; quote captions that hold commas"
                )
            swallowed = next(filter(None, (_row_within(cell, delimiter) for cell in row.values())), None)
            if swallowed is not None:
                raise ValueError(
                    f"the row of line {first} goes on to line {reader.line_num} and takes in that of {swallowed}; "
                    "close the quote of its cell, or double it"
                )
            yield row
            first = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"the row of line {first} is not whole ({error}); close or double its quotes") from None


def _row_within(cell: str | None, delimiter: str) -> str | None:
    """The picture's name that begins a later line of a cell: its quote was closed by that of another row."""
    starts = (line.partition(delimiter) for line in (cell or "").splitlines()[1:])
    return next((name for name, comma, _ in starts if comma and is_picture(Path(name.strip().strip('"')))), None)


def _relative(path: Path, root: Path) -> str:
    """The path within `root`, or the whole one with its root and its steps up left out of the later key."""
    if path.is_relative_to(root) and ".." not in path.parts:
        return path.relative_to(root).as_posix()
    return "/".join(part for part in path.parts if part not in ("..", path.anchor))
