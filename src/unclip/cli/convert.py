"""`unclip convert`: models of other layouts as ours, or ours as theirs. Knows options; pipelines do the work."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unclip.errors import InputError

if TYPE_CHECKING:
    from unclip.model import Conversion


STORAGES = ("float32", "bfloat16", "int8")


def convert(
    sources: Annotated[list[str], typer.Argument(metavar="SRC", help="A model, or its parts: folders, files, ids.")],
    folder: Annotated[Path, typer.Argument(metavar="DST", help="A folder that does not exist yet, or is empty.")],
    to: Annotated[str, typer.Option(help="unclip, or diffusers: for models of Karlo's shape, see info.")] = "unclip",
    storage: Annotated[str | None, typer.Option(help="float32, bfloat16 or int8; else as it is stored.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub repository.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Convert published weights to a model folder, or a model to diffusers' layout.

    diffusers' unCLIP holds models whose stages are shaped as Karlo's are: `unclip info MODEL` says in its last lines
    whether a model is one, or all that is in the way (the shipped emoji is none).
    """
    if storage is not None and storage not in STORAGES:
        raise InputError(f"--storage {storage} is not one of {', '.join(STORAGES)}.")
    from unclip.model import convert as convert_model

    done = convert_model(sources, folder, to=to, storage=storage, revision=revision)  # type: ignore[arg-type]
    print(json.dumps(as_record(done)) if as_json else as_text(done))


def as_record(done: "Conversion") -> dict[str, object]:
    """What was done, ready for JSON."""
    return {
        "recognised": done.descriptions,
        "stages": sorted(done.source.networks),
        "dropped": done.dropped,
        "folder": str(done.folder),
        "num_bytes": done.num_bytes,
    }


def as_text(done: "Conversion") -> str:
    """A line for each source, what was left behind, and where the model is."""
    lines = [f"found {description}" for description in done.descriptions]
    lines += [f"left behind {name}: {reason}" for name, reason in done.dropped.items()]
    stages = ", ".join(done.source.networks)
    return "\n".join([*lines, f"wrote {stages} to {done.folder} ({done.num_bytes / 1e6:.1f} MB)"])
