"""Recognising how people keep captioned pictures. Knows which format is which; the formats read themselves."""

from collections.abc import Collection, Sequence
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import NamedTuple

from unclip.data.shard_set import ShardSet
from unclip.data.sources.base import Asked, Content, Source, find_files, holds_addresses, readable_name
from unclip.data.sources.folder import (
    folder_names_source,
    has_captions,
    is_picture,
    text_files_source,
    uncaptioned_source,
)
from unclip.data.sources.tables import TABLE_SUFFIXES, arrow_source, is_saved_set, table_columns, table_source
from unclip.data.store import is_tar
from unclip.errors import DataError, InputError, NoCaptionsError, did_you_mean

CAPTION_KINDS = ("txt", "table", "folders", "none")
CHOICES = "txt (a .txt beside each), table (one CSV, TSV, JSONL or Parquet), folders (their names) or none"


class _Files(NamedTuple):
    """What lies in a folder and below."""

    all: Collection[Path]
    pictures: list[Path]
    tables: list[Path]


def open_source(
    location: Path | str,
    captions: str | None = None,
    *,
    image_column: str | None = None,
    caption_column: str | None = None,
) -> Source:
    """The captioned pictures at `location`, in a fixed order; pictures are read when they are asked for.

    What it is is decided in this order: a table (CSV, TSV, JSONL, Parquet) or a tar that is named itself, and a URL of
    shards; a set that Hugging Face `datasets` saved; a folder with tars (WebDataset, img2dataset); a folder with a
    table (`metadata.*` before others, also in folders below; several Parquet tables are one; one of addresses beside
    pictures, as img2dataset leaves it, does not count); pictures with a .txt of the same name, one caption a line, or a
    .caption or .json; pictures that all lie in folders below, whose names are the captions; tars in folders below.
    `captions`, one of `CAPTION_KINDS`, overrules this; `image_column` and `caption_column` name unusual columns, or
    fields of .json files.

    Raises `DataError` in one line where nothing fits, or two of them do; `InputError` for a location that is not there.
    """
    if captions is not None and captions not in CAPTION_KINDS:
        raise InputError(f"captions={captions!r} is unknown; {did_you_mean(captions, CAPTION_KINDS)}")
    asked = Asked(image_column, None if captions == "none" else caption_column, captions != "none")
    if "://" in str(location) or is_tar(str(location)):
        return _tar_source(str(location), captions, asked)
    try:
        path = Path(location).expanduser()
        is_there = path.exists()
    except (OSError, RuntimeError, ValueError) as error:  # no permission, no such home, no name
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{location} cannot be opened ({reason}); give a folder that may be read.") from None
    if not is_there:
        raise InputError(f"there is no {path}; give a folder of pictures, a table, or a folder of .tar shards.")
    source = _open(path, captions, asked)
    if not len(source):
        raise DataError(f"{path} holds no sample ({source.description}); give a set with pictures.")
    return source


def _open(path: Path, captions: str | None, asked: Asked) -> Source:
    if path.is_file():
        return _open_file(path, captions, asked)
    if is_saved_set(path):
        _refuse(path, "a saved set", captions)
        return arrow_source(path, asked)
    found = find_files(path)
    if captions in (None, "none") and any(is_tar(file.name) for file in found if file.parent == path):
        return _tar_source(str(path), captions, asked)
    pictures = list(filter(is_picture, found))
    files = _Files(frozenset(found), pictures, _tables(path, found, bool(pictures)))
    if captions == "table" or (captions is None and files.tables):
        return _open_table(path, files, captions, asked)
    if captions == "none" and not files.pictures and files.tables:
        return _open_table(path, files, captions, asked)
    if captions in (None, "none") and not files.pictures and any(is_tar(file.name) for file in found):
        return _tar_source(str(path), captions, asked)
    return _open_pictures(path, files, captions, asked)


def _open_file(path: Path, captions: str | None, asked: Asked) -> Source:
    if is_picture(path):
        raise InputError(f"{path} is one picture; give its folder, {path.absolute().parent}.")
    if not _is_table(path):
        raise InputError(f"{path} is not a set; give a folder, a .tar, or a table ({', '.join(TABLE_SUFFIXES)}).")
    _refuse(path, "a table", captions)
    return table_source(path.parent, [path], asked)


def _open_table(folder: Path, files: _Files, captions: str | None, asked: Asked) -> Source:
    tables = files.tables
    if not tables:
        raise DataError(f"{folder} holds no table ({', '.join(TABLE_SUFFIXES)}); use other captions: {CHOICES}.")
    if len(tables) > 1 and {table.suffix for table in tables} != {".parquet"} and tables[0].stem != "metadata":
        names = ", ".join(table.name for table in tables[:5])
        raise DataError(f"{folder} holds {len(tables)} tables ({names}); name the one to use in place of the folder.")
    if captions is None and has_captions(files.pictures, files.all, None):
        raise DataError(
            f"{folder} holds {tables[0].name} and also .txt files beside pictures; say captions='table' or 'txt'."
        )
    return table_source(folder, tables, asked)


def _tables(folder: Path, files: Sequence[Path], with_pictures: bool) -> list[Path]:
    """`metadata.*` here, else in folders below; else the tables here; else the Parquet files below.

    A table of addresses beside pictures says where they came from and is left out.
    """
    tables = [path for path in files if _is_table(path)]
    if with_pictures:
        tables = [path for path in tables if not holds_addresses(table_columns(path))]
    here = [path for path in tables if path.parent == folder]
    metadata = [path for path in here if path.stem == "metadata"]
    below = [path for path in tables if path.stem == "metadata" and path.suffix in (".csv", ".jsonl")]
    return metadata or here or below or [path for path in tables if path.suffix == ".parquet"]


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in TABLE_SUFFIXES and not path.name.startswith(".")


def _open_pictures(folder: Path, files: _Files, captions: str | None, asked: Asked) -> Source:
    pictures, column = files.pictures, asked.caption
    if asked.image is not None:
        raise InputError(f"{folder} holds no table, so image_column={asked.image!r} does not fit.")
    if not pictures:
        raise DataError(f"{folder} holds no picture, table or .tar shard; give a folder of pictures with captions.")
    if captions == "none":
        return uncaptioned_source(folder, pictures)
    if captions == "txt" or (captions is None and (column is not None or has_captions(pictures, files.all, None))):
        return text_files_source(folder, pictures, files.all, column)
    folders = {path.parent for path in pictures}
    if captions == "folders" or (len(folders) > 1 and folder not in folders):
        if column is not None:
            raise InputError(f"captions={captions!r} has no columns; leave out caption_column.")
        return folder_names_source(folder, pictures)
    raise NoCaptionsError(f"{folder} holds {len(pictures)} pictures and no captions; say captions={CHOICES}.")


def _tar_source(location: str, captions: str | None, asked: Asked) -> Source:
    """The samples of the shards at a folder, a file or a URL; captions as `ShardSet` finds them."""
    if captions not in (None, "none"):
        raise InputError(f"{location} holds shards, so captions={captions!r} does not fit; leave it out, or say none.")
    if asked.image is not None:
        raise InputError(f"{location} holds shards, which have no column {asked.image!r}; leave out --image-column.")
    shards = ShardSet.open(location, caption_column=asked.caption)
    missing = shards.count_uncaptioned() if asked.with_captions else None
    if asked.caption is not None and missing == len(shards):
        fields = ", ".join(shards.fields()) or "none"
        raise DataError(f"no sample of {location} has texts in {asked.caption!r} (caption_column); fields: {fields}.")
    shard_of_each = chain.from_iterable(map(repeat, shards.shard_names, shards.shard_sizes))
    told = f", captions from {asked.caption!r}" if asked.caption is not None else ""
    named = ", ".join(shards.fields()) if missing == len(shards) else ""
    hint = f"; one of {named} may be named as caption_column" if named else ""
    source = Source(
        description=f"{len(shards.shard_names)} shards with {len(shards)} samples{told}{hint}",
        names=[readable_name(f"{shard} {key}") for shard, key in zip(shard_of_each, shards.keys, strict=True)],
        keys=shards.keys,
        num_uncaptioned=missing,
        read=partial(_read_shard, shards),
    )
    return source.without_captions(not asked.with_captions)


def _read_shard(shards: ShardSet, index: int) -> Content:
    sample = shards.sample(index)
    captions = tuple(text for text in sample.captions if text.strip())
    return Content(sample.picture, captions, sample.info)


def _refuse(path: Path, kind: str, captions: str | None) -> None:
    if captions in ("txt", "folders"):
        raise InputError(f"{path} is {kind}, so captions={captions!r} does not fit; allowed: none, table.")
