"""Parquet tables, with paths of pictures or with the pictures themselves. Knows pyarrow; imports it late."""

import codecs
import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from unclip.data.sources.base import (
    Asked,
    Columns,
    Content,
    Source,
    clean_captions,
    find_columns,
    json_values,
    named_class,
    readable_name,
    unique_keys,
    whole_text,
)
from unclip.data.sources.folder import is_picture, read_file
from unclip.errors import DataError, optional_module


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
    return _arrow_source(folder, _with_bytes(rows, columns), columns)


def _arrow_source(folder: Path, rows: Any, columns: Columns) -> Source:
    class_names = _feature_classes(rows, columns)
    cells = [] if columns.caption is None else rows[columns.caption]
    return Source(
        description=f"{len(rows)} rows of a datasets folder ({columns})",
        names=[f"row {row}" for row in range(len(rows))],
        keys=[f"{row:09d}" for row in range(len(rows))],
        num_uncaptioned=count_uncaptioned(folder, columns, cells, class_names, len(rows)),
        read=partial(_read_arrow, rows, columns, class_names),
    )


def _read_arrow(rows: Any, columns: Columns, class_names: list[str] | None, index: int) -> Content:
    try:
        values = rows[index]
    except (OSError, ValueError) as error:
        raise DataError(f"row {index} cannot be read ({error})") from None
    info = json_values({name: value for name, value in values.items() if name not in columns})
    picture = picture_of_cell(values[columns.image])
    return Content(picture, clean_captions(named_class(values.get(columns.caption), class_names)), info)


def _feature_classes(rows: Any, columns: Columns) -> list[str] | None:
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
