"""Recognising how people keep captioned pictures. Knows which format is which; the formats read themselves."""

from collections.abc import Sequence
from pathlib import Path

from unclip.data._source import Source
from unclip.data._source_arrow import arrow_source, is_saved_set
from unclip.data._source_columns import Asked
from unclip.data._source_folder import find_pictures, folder_names_source, text_files_source, uncaptioned_source
from unclip.data._source_table import TABLE_SUFFIXES, table_source
from unclip.data._source_tars import tar_source
from unclip.errors import DataError, InputError, NoCaptionsError, did_you_mean

__all__ = ["CAPTION_KINDS", "open_source"]

CAPTION_KINDS = ("txt", "table", "folders", "none")
CHOICES = "txt (a .txt beside each), table (one CSV, TSV, JSONL or Parquet), folders (their names) or none"


def open_source(
    location: Path | str,
    captions: str | None = None,
    *,
    image_column: str | None = None,
    caption_column: str | None = None,
) -> Source:
    """The captioned pictures at `location`, in a fixed order; pictures are read when they are asked for.

    What it is is decided in this order: a table (CSV, TSV, JSONL, Parquet) or a .tar that is named itself, and a URL of
    shards; a set that Hugging Face `datasets` saved; a folder with .tar shards (WebDataset, img2dataset); a folder
    with a table (`metadata.*` before others, also in folders below; several Parquet tables are one); pictures with a
    .txt of the same name, one caption a line; pictures that all lie in folders below, whose names are the captions.
    `captions`, one of `CAPTION_KINDS`, overrules this; `image_column` and `caption_column` name unusual columns.

    Raises `DataError` in one line where nothing fits, or two of them do; `InputError` for a location that is not there.
    """
    if captions is not None and captions not in CAPTION_KINDS:
        raise InputError(f"captions={captions!r} is unknown; {did_you_mean(captions, CAPTION_KINDS)}")
    if "://" in str(location) or str(location).endswith(".tar"):
        return tar_source(str(location), captions)
    path = Path(location)
    if not path.exists():
        raise InputError(f"there is no {path}; give a folder of pictures, a table, or a folder of .tar shards.")
    source = _open(path, captions, Asked(image_column, caption_column, captions != "none"))
    if not len(source):
        raise DataError(f"{path} holds no sample ({source.description}); give a set with pictures.")
    return source


def _open(path: Path, captions: str | None, asked: Asked) -> Source:
    if path.is_file():
        return _open_file(path, captions, asked)
    if is_saved_set(path):
        _refuse(path, "a saved set", captions)
        return arrow_source(path, asked)
    if captions in (None, "none") and any(path.glob("*.tar")):
        return tar_source(str(path), captions)
    if captions == "table" or (captions is None and _tables(path)):
        return _open_table(path, captions, asked)
    pictures = find_pictures(path)
    if captions == "none" and not pictures and _tables(path):
        return _open_table(path, captions, asked)
    return _open_pictures(path, pictures, captions)


def _open_file(path: Path, captions: str | None, asked: Asked) -> Source:
    if not _is_table(path):
        raise InputError(f"{path} is not a set; give a folder, a .tar, or a table ({', '.join(TABLE_SUFFIXES)}).")
    _refuse(path, "a table", captions)
    return table_source(path.parent, [path], asked)


def _open_table(folder: Path, captions: str | None, asked: Asked) -> Source:
    tables = _tables(folder)
    if not tables:
        raise DataError(f"{folder} holds no table ({', '.join(TABLE_SUFFIXES)}); use other captions: {CHOICES}.")
    if len(tables) > 1 and {table.suffix for table in tables} != {".parquet"} and tables[0].stem != "metadata":
        names = ", ".join(table.name for table in tables[:5])
        raise DataError(f"{folder} holds {len(tables)} tables ({names}); name the one to use in place of the folder.")
    if captions is None and _has_text_files(find_pictures(folder)):
        raise DataError(
            f"{folder} holds {tables[0].name} and also .txt files beside pictures; say captions='table' or 'txt'."
        )
    return table_source(folder, tables, asked)


def _tables(folder: Path) -> list[Path]:
    """`metadata.*` here, else in folders below; else the tables here; else the Parquet files below."""
    here = sorted(path for path in folder.iterdir() if _is_table(path))
    metadata = [path for path in here if path.stem == "metadata"]
    below = sorted(path for suffix in (".csv", ".jsonl") for path in folder.glob(f"*/**/metadata{suffix}"))
    return metadata or here or below or sorted(folder.glob("*/**/*.parquet"))


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in TABLE_SUFFIXES and not path.name.startswith(".")


def _open_pictures(folder: Path, pictures: Sequence[Path], captions: str | None) -> Source:
    if not pictures:
        raise DataError(f"{folder} holds no picture, table or .tar shard; give a folder of pictures with captions.")
    if captions == "none":
        return uncaptioned_source(folder, pictures)
    if captions == "txt" or (captions is None and _has_text_files(pictures)):
        return text_files_source(folder, pictures)
    folders = {path.parent for path in pictures}
    if captions == "folders" or (len(folders) > 1 and folder not in folders):
        return folder_names_source(folder, pictures)
    raise NoCaptionsError(f"{folder} holds {len(pictures)} pictures and no captions; say captions={CHOICES}.")


def _has_text_files(pictures: Sequence[Path]) -> bool:
    return any(path.with_suffix(".txt").is_file() for path in pictures)


def _refuse(path: Path, kind: str, captions: str | None) -> None:
    if captions in ("txt", "folders"):
        raise InputError(f"{path} is {kind}, so captions={captions!r} does not fit; allowed: none, table.")
