"""What a file or folder of others is, and who imports it; or what else it looks like. Reads no weights."""

from collections.abc import Sequence
from pathlib import Path

from unclip.errors import CheckpointError
from unclip.interop.foreign import ForeignModel
from unclip.interop.sources import read_json
from unclip.interop.unclip_folder import PIPELINES, import_unclip

__all__ = ["import_foreign"]

INDEX = "model_index.json"
KNOWN = "a diffusers unCLIP folder"


def import_foreign(paths: Sequence[Path]) -> list[ForeignModel]:
    """The models, or parts of models, at `paths`, none of whose weights are read yet.

    Raises `CheckpointError` for what is damaged or unknown (with what it looks like), `ConfigError` for what has
    options that we have no equal of.
    """
    return [_import(path) for path in paths]


def _import(path: Path) -> ForeignModel:
    if path.is_dir() and (path / INDEX).exists():
        index = read_json(path / INDEX)
        kind = index.get("_class_name")
        if kind in PIPELINES:
            return import_unclip(path, index)
        raise CheckpointError(f"{path} is a diffusers folder of a {kind}, which is no unCLIP; give {KNOWN}.")
    raise CheckpointError(f"{path} is nothing that is known here; give {KNOWN}.")
