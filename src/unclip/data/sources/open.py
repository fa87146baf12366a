"""Recognise how people keep captioned pictures, and open the source of that format."""

from collections.abc import Sequence
from itertools import chain, repeat
from pathlib import Path

from unclip.data.shard_set import ShardSet
from unclip.data.sources.base import ColumnOptions, Content, Source, find_files, holds_urls, readable_name
from unclip.data.sources.folder import (
    folder_names_source,
    has_captions,
    is_picture,
    text_files_source,
    uncaptioned_source,
)
from unclip.data.sources.tables import TABLE_SUFFIXES, is_saved_set, saved_source, table_columns, table_source
from unclip.data.store import is_tar
from unclip.errors import DataError, InputError, NoCaptionsError, did_you_mean

CAPTION_KINDS = ("txt", "table", "folders", "none")
CHOICES = "txt (a .txt beside each), table (one CSV, TSV, JSONL or Parquet), folders (their names) or none"


def open_source(
    location: Path | str,
    captions: str | None = None,
    *,
    image_column: str | None = None,
    caption_column: str | None = None,
) -> Source:
    """Open the captioned pictures at `location`, in a fixed order; pictures are read when they are requested.

    The format is decided in this order: a table (CSV, TSV, JSONL, Parquet) or a tar that is named itself, and a URL of
    shards; a set that Hugging Face `datasets` saved; a folder with tars (WebDataset, img2dataset); a folder with a
    table (`metadata.*` before others, also in folders below; several Parquet tables are one; one of URLs beside
    pictures, as img2dataset leaves it, does not count); pictures with a .txt of the same name, one caption a line, or a
    .caption or .json; pictures that all lie in folders below, whose names are the captions; tars in folders below.
    `captions`, one of `CAPTION_KINDS`, overrules this order; `image_column` and `caption_column` name unusual columns,
    or fields of .json files.

    Raises `DataError` if no format fits, or two of them do; `InputError` for a location that does not exist.
    """
    if captions is not None and captions not in CAPTION_KINDS:
        raise InputError(f"captions={captions!r} is unknown; {did_you_mean(captions, CAPTION_KINDS)}")
    options = ColumnOptions(image_column, None if captions == "none" else caption_column, captions != "none")
    if "://" in str(location) or is_tar(str(location)):
        return _tar_source(str(location), captions, options)
    try:
        path = Path(location).expanduser()
        exists = path.exists()
    except (OSError, RuntimeError, ValueError) as error:  # no permission, no such home, no valid name
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{location} cannot be opened ({reason}); give a folder that may be read.") from None
    if not exists:
        raise InputError(f"there is no {path}; give a folder of pictures, a table, or a folder of .tar shards.")
    is_saved = is_saved_set(path)
    if path.is_file() and is_picture(path):
        raise InputError(f"{path} is one picture; give its folder, {path.absolute().parent}.")
    if path.is_file() and not _is_table(path):
        raise InputError(f"{path} is not a set; give a folder, a .tar, or a table ({', '.join(TABLE_SUFFIXES)}).")
    if captions in ("txt", "folders") and (path.is_file() or is_saved):
        kind = "a saved set" if is_saved else "a table"
        raise InputError(f"{path} is {kind}, so captions={captions!r} does not fit; allowed: none, table.")
    if path.is_file():
        source = table_source(path.parent, [path], options)
    else:
        source = saved_source(path, options) if is_saved else _open_folder(path, captions, options)
    if not len(source):
        raise DataError(f"{path} holds no sample ({source.description}); give a set with pictures.")
    return source


def _open_folder(folder: Path, captions: str | None, options: ColumnOptions) -> Source:
    files, may_be_tars = find_files(folder), captions in (None, "none")
    if may_be_tars and any(is_tar(path.name) for path in files if path.parent == folder):
        return _tar_source(str(folder), captions, options)
    pictures, paths, column = list(filter(is_picture, files)), frozenset(files), options.caption
    tables = _tables(folder, files, bool(pictures))
    if captions == "table" or (tables and (captions is None or (captions == "none" and not pictures))):
        if not tables:
            raise DataError(f"{folder} holds no table ({', '.join(TABLE_SUFFIXES)}); use other captions: {CHOICES}.")
        if len(tables) > 1 and {table.suffix for table in tables} != {".parquet"} and tables[0].stem != "metadata":
            names = ", ".join(table.name for table in tables[:5])
            raise DataError(f"{folder} holds {len(tables)} tables ({names}); name the one to use, not the folder.")
        if captions is None and has_captions(pictures, paths):
            raise DataError(
                f"{folder} holds {tables[0].name} and also .txt files beside pictures; say captions='table' or 'txt'."
            )
        return table_source(folder, tables, options)
    if may_be_tars and not pictures and any(is_tar(path.name) for path in files):
        return _tar_source(str(folder), captions, options)
    if options.image is not None:
        raise InputError(f"{folder} holds no table, so image_column={options.image!r} does not fit.")
    if not pictures:
        raise DataError(f"{folder} holds no picture, table or .tar shard; give a folder of pictures with captions.")
    if captions == "none":
        return uncaptioned_source(folder, pictures)
    if captions == "txt" or (captions is None and (column is not None or has_captions(pictures, paths))):
        return text_files_source(folder, pictures, paths, column)
    folders = {path.parent for path in pictures}
    if captions == "folders" or (len(folders) > 1 and folder not in folders):
        if column is not None:
            raise InputError(f"captions={captions!r} has no columns; leave out caption_column.")
        return folder_names_source(folder, pictures)
    raise NoCaptionsError(f"{folder} holds {len(pictures)} pictures and no captions; say captions={CHOICES}.")


def _tables(folder: Path, files: Sequence[Path], with_pictures: bool) -> list[Path]:
    """Find `metadata.*` here, else in folders below; else the tables here; else the Parquet files below.

    A table of URLs beside pictures gives their origin and is left out.
    """
    tables = [path for path in files if _is_table(path)]
    if with_pictures:
        tables = [path for path in tables if not holds_urls(table_columns(path))]
    here = [path for path in tables if path.parent == folder]
    metadata = [path for path in here if path.stem == "metadata"]
    below = [path for path in tables if path.stem == "metadata" and path.suffix in (".csv", ".jsonl")]
    return metadata or here or below or [path for path in tables if path.suffix == ".parquet"]


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in TABLE_SUFFIXES and not path.name.startswith(".")


def _tar_source(location: str, captions: str | None, options: ColumnOptions) -> Source:
    """Open the shards at a folder, a file or a URL; captions as `ShardSet` finds them."""
    if captions not in (None, "none"):
        raise InputError(f"{location} holds shards, so captions={captions!r} does not fit; leave it out, or say none.")
    if options.image is not None:
        raise InputError(f"{location} holds shards, which have no column {options.image!r}; leave out --image-column.")
    shards = ShardSet.open(location, caption_column=options.caption)
    missing = shards.count_uncaptioned() if options.with_captions else None
    fields = shards.fields() if missing == len(shards) else []
    description = f"{len(shards.shard_names)} shards with {len(shards)} samples"
    if options.caption is not None:
        if missing == len(shards):
            raise DataError(
                f"no sample of {location} has texts in {options.caption!r} (caption_column); "
                f"fields: {', '.join(fields) or 'none'}."
            )
        description += f", captions from {options.caption!r}"
    elif fields:
        description += f"; one of {', '.join(fields)} may be named as caption_column"
    elif not options.with_captions:
        description += "; captions left out"

    def read(index: int) -> Content:
        sample = shards.sample(index)
        texts = sample.captions if options.with_captions else ()
        return Content(sample.picture, tuple(text for text in texts if text.strip()), sample.info)

    shard_names = chain.from_iterable(map(repeat, shards.shard_names, shards.shard_sizes))
    return Source(
        description=description,
        names=[readable_name(f"{shard} {key}") for shard, key in zip(shard_names, shards.keys, strict=True)],
        keys=shards.keys,
        num_uncaptioned=missing if options.with_captions else len(shards),
        read=read,
    )
