"""Read tables: rows of CSV, TSV, JSON lines or Parquet that name picture files, and rows that hold the pictures."""

import codecs
import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from unclip.data.sources.base import (
    ColumnOptions,
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
from unclip.data.sources.folder import is_picture, read_file
from unclip.errors import DataError, optional_module

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
Row = Mapping[str, Any]


def table_source(root: Path, tables: Sequence[Path], options: ColumnOptions) -> Source:
    """Read the pictures that the rows of `tables` name, relative to their table; rows of one picture are joined.

    Rows of Parquet may hold the pictures themselves. Raises `DataError` for a table that cannot be read or lacks a
    column, and if none of its pictures exists.
    """
    if tables[0].suffix.lower() == ".parquet":
        schema = open_parquet(tables[0]).schema_arrow
        columns = find_columns(tables[0], schema.names, options)
        types, kind = optional_module("pyarrow", "reading Parquet").types, schema.field(columns.image).type
        if types.is_struct(kind) or types.is_binary(kind) or types.is_large_binary(kind):
            parts = [part for table in tables for part in _row_groups(table, table.relative_to(root))]
            return _arrow_source(f"{len(tables)} Parquet tables", tables[0], parts, schema, columns)
    entries: dict[Path, _Entry] = {}
    for table in tables:
        columns = _add_rows(entries, table, options)
    files = list(entries.values())
    if not any(os.path.isfile(entry.path) for entry in files):
        raise DataError(
            f"{tables[0]} names {len(files)} pictures, such as {files[0].path}, and none exists; "
            f"paths in column {columns.image!r} are relative to the table's folder."
        )
    names = [readable_name(whole_text(_relative(entry.path, root))) for entry in files]
    origin = tables[0].name if len(tables) == 1 else f"{len(tables)} tables"
    return Source(
        description=f"{len(files)} pictures of {origin} ({columns})",
        names=names,
        keys=unique_keys(names),
        num_uncaptioned=sum(not entry.captions for entry in files),
        read=lambda index: Content(
            read_file(files[index].path), clean_captions(files[index].captions), files[index].info
        ),
    )


def is_saved_set(folder: Path) -> bool:
    """Return whether `save_to_disk` of Hugging Face `datasets` wrote this folder."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def saved_source(folder: Path, options: ColumnOptions) -> Source:
    """Read a saved set from its mapped Arrow files; raises `DataError` if it is damaged, has splits, lacks a column."""
    if (folder / "dataset_dict.json").is_file():
        splits = sorted(path.parent.name for path in folder.glob("*/state.json"))
        raise DataError(f"{folder} holds the splits {', '.join(splits)}; name one: {folder / splits[0]}.")
    arrow = optional_module("pyarrow", "reading a saved set")
    try:
        files = [folder / file["filename"] for file in json.loads((folder / "state.json").read_bytes())["_data_files"]]
        tables = [arrow.ipc.open_stream(arrow.memory_map(str(path))).read_all() for path in files]
        schema = tables[0].schema
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise DataError(f"{folder} cannot be read as a saved set ({error}); save it again.") from None
    starts = accumulate((table.num_rows for table in tables), initial=0)
    parts = [
        _RowGroup(
            "", "", start, table.num_rows, partial(lambda table, names: table.select(names) if names else table, table)
        )
        for table, start in zip(tables, starts, strict=False)
    ]
    return _arrow_source("a datasets folder", folder, parts, schema, find_columns(folder, schema.names, options))


def table_columns(table: Path) -> list[str]:
    """Return the names of a table's columns; none if it cannot be read, which `table_source` reports."""
    try:
        if table.suffix.lower() == ".parquet":
            return list(open_parquet(table).schema_arrow.names)
        return list(next(_text_rows(table), {}))
    except DataError:
        return []


class _RowGroup(NamedTuple):
    """Rows of Arrow that are read together: a row group of Parquet, or a mapped file."""

    name: str
    """In front of the number of a row in names: "a.parquet "."""
    key: str
    """In front of the number of a row in keys: "a/"."""
    start: int
    """Number of the first row."""
    num_rows: int
    read: Callable[[list[str] | None], Any]
    """Reads the columns of these names, or all, as a `pyarrow.Table`."""


def _arrow_source(kind: str, location: Path, parts: Sequence[_RowGroup], schema: Any, columns: Columns) -> Source:
    """Read rows that hold the pictures' bytes, bare or as Hugging Face's {"bytes", "path"}.

    A row is read with its whole part, of which the last is kept: in order, each part is read once.
    """
    # Hugging Face keeps the names of classes in the schema's metadata.
    features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    classes = (features.get(columns.caption) or {}).get("names")
    rows = [(number, row) for number, part in enumerate(parts) for row in range(part.num_rows)]
    read_part = lru_cache(maxsize=1)(lambda number: parts[number].read(None))

    def captions(cell: object) -> tuple[str, ...]:
        if classes is not None and isinstance(cell, int):  # "golden_retriever" becomes "golden retriever"
            cell = classes[cell].replace("_", " ") if 0 <= cell < len(classes) else None
        return clean_captions(cell)

    def read(index: int) -> Content:
        number, row = rows[index]
        try:
            values = read_part(number).slice(row, 1).to_pylist()[0]
        except UnicodeDecodeError:
            raise DataError("its row holds text that is not UTF-8") from None
        cell = values[columns.image]
        picture = cell.get("bytes") if isinstance(cell, dict) else cell
        if not isinstance(picture, bytes):
            raise DataError("its row holds no picture")
        info = json_values({name: value for name, value in values.items() if name not in columns})
        return Content(picture, captions(values.get(columns.caption)), info)

    missing = len(rows)
    if columns.caption is not None:
        cells = (cell for part in parts for cell in part.read([columns.caption]).column(0).to_pylist())
        try:
            missing = sum(not captions(cell) for cell in cells)
        except (DataError, UnicodeDecodeError) as error:
            reason = error if isinstance(error, DataError) else "its text is not UTF-8"
            raise DataError(
                f"{location}, column {columns.caption!r}: {reason}; name another by caption_column."
            ) from None
    return Source(
        description=f"{len(rows)} rows of {kind} ({columns})",
        names=[f"{parts[number].name}row {parts[number].start + row}" for number, row in rows],
        keys=[f"{parts[number].key}{parts[number].start + row:09d}" for number, row in rows],
        num_uncaptioned=missing,
        read=read,
    )


def open_parquet(table: Path) -> Any:
    """Open a `pyarrow.parquet.ParquetFile`; raises `DataError` if it is not one."""
    parquet = optional_module("pyarrow.parquet", f"reading {table}")
    try:
        return parquet.ParquetFile(table)
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise DataError(f"{table} cannot be read as Parquet ({reason}); write or download it again.") from None


def _row_groups(table: Path, name: Path) -> Iterator[_RowGroup]:
    metadata = open_parquet(table).metadata
    sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]

    def read(group: int, names: list[str] | None) -> Any:
        try:
            return open_parquet(table).read_row_group(group, columns=names)
        except OSError as error:
            raise DataError(f"row group {group} of {table} cannot be read ({error})") from None

    key = f"{name.as_posix().removesuffix(name.suffix).replace('.', '_')}/"
    for group, (start, size) in enumerate(zip(accumulate(sizes, initial=0), sizes, strict=False)):
        yield _RowGroup(f"{name.as_posix()} ", key, start, size, partial(read, group))


@dataclass
class _Entry:
    """A picture file with the fields of the rows that name it."""

    path: Path
    captions: list[str] = field(default_factory=list)
    info: dict[str, Any] = field(default_factory=dict)


def _add_rows(entries: dict[Path, _Entry], table: Path, options: ColumnOptions) -> Columns:
    columns = None
    for number, row in enumerate(_text_rows(table), start=1):
        columns = columns or find_columns(table, row.keys(), options)
        cell = row.get(columns.image)
        name = cell.strip() if isinstance(cell, str) else ""
        if not name:
            raise DataError(
                f"{table}: row {number} names no picture in column {columns.image!r}; correct or remove it."
            )
        if not _is_path(name):
            raise DataError(
                f"{table}: row {number} holds {name[:40]!r} in column {columns.image!r}, which is no path; name the "
                "column of file names by image_column."
            )
        entry = entries.setdefault(table.parent / name, _Entry(table.parent / name))
        try:
            entry.captions += clean_captions(row.get(columns.caption) if columns.caption else None)
        except DataError as error:
            raise DataError(f"{table}: row {number}: {error}; correct it.") from None
        entry.info |= json_values({name: row[name] for name in row if name not in columns})
    if columns is None:
        raise DataError(f"{table} has no rows; give a table with a picture and a caption in each row.")
    return columns


def _is_path(name: str) -> bool:
    """Return whether a file could have this name; base64 of pictures, URLs and cut rows could not."""
    parts = name.encode(errors="surrogatepass").split(b"/")
    has_breaks = any(character in name for character in "\0\r\n")
    return not has_breaks and "://" not in name and max(map(len, parts)) < 256 and len(name) < 4096


# The standard library, not pyarrow: its errors name the line, and a JSON escape of half a surrogate pair is read.
def _text_rows(table: Path) -> Iterator[Row]:
    suffix = table.suffix.lower()
    try:
        if suffix == ".parquet":
            for batch in open_parquet(table).iter_batches():
                yield from batch.to_pylist()
            return
        with open(table, "rb") as file:
            is_wide = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        with open(table, encoding="utf-16" if is_wide else "utf-8-sig", newline="") as lines:
            yield from _json_rows(lines) if suffix == ".jsonl" else _csv_rows(lines, "\t" if suffix == ".tsv" else ",")
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


def _csv_rows(lines: Iterable[str], delimiter: str) -> Iterator[Row]:
    """Yield the rows of a CSV or TSV; raises `ValueError` naming the line of one that is not whole."""
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
            # A later line of a cell that begins with a picture's name: its quote was closed by that of another row.
            later = (line.partition(delimiter) for cell in row.values() for line in (cell or "").splitlines()[1:])
            for name, comma, _ in later:
                if comma and is_picture(Path(name.strip().strip('"'))):
                    raise ValueError(
                        f"the row of line {first} goes on to line {reader.line_num} and takes in that of {name}; "
                        "close the quote of its cell, or double it"
                    )
            yield row
            first = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"the row of line {first} is not whole ({error}); close or double its quotes") from None


def _relative(path: Path, root: Path) -> str:
    """Return the path within `root`, or the whole one without its root and its steps up, which keys cannot hold."""
    if path.is_relative_to(root) and ".." not in path.parts:
        return path.relative_to(root).as_posix()
    return "/".join(part for part in path.parts if part not in ("..", path.anchor))
