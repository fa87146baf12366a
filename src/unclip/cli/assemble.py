"""`unclip assemble`: stages that were trained one by one joined to a model. Knows options; pipelines do the work."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unclip.errors import InputError
from unclip.progress import say

if TYPE_CHECKING:
    from unclip.model import Assembled


STORAGES = ("float32", "bfloat16", "int8")
PART = "A run of `unclip train`, its file, or a model"


def assemble(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="A folder that does not exist yet, or is empty.")],
    clip: Annotated[str | None, typer.Option(help=f"{PART}; else the one that the stages were trained with.")] = None,
    prior: Annotated[str | None, typer.Option(help=f"{PART}.")] = None,
    decoder: Annotated[str | None, typer.Option(help=f"{PART}.")] = None,
    upsampler: Annotated[list[str] | None, typer.Option(help=f"{PART}; once for each.")] = None,
    storage: Annotated[str | None, typer.Option(help="float32, bfloat16 or int8; else as it is stored.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Join stages that were trained one by one to a model that draws."""
    if storage is not None and storage not in STORAGES:
        raise InputError(f"--storage {storage} is not one of {', '.join(STORAGES)}.")
    from unclip.model import assemble as assemble_model

    done = assemble_model(
        folder,
        clip=clip,
        prior=prior,
        decoder=decoder,
        upsamplers=upsampler or [],
        storage=storage,  # type: ignore[arg-type]  # checked
    )
    for note in done.notes:
        say(f"note: {note}")
    print(json.dumps(as_record(done)) if as_json else as_text(done))


def as_record(done: "Assembled") -> dict[str, object]:
    """What was done, ready for JSON."""
    return {
        "stages": dict(done.origins),
        "notes": list(done.notes),
        "folder": str(done.folder),
        "num_bytes": done.num_bytes,
    }


def as_text(done: "Assembled") -> str:
    """A line for each stage, where the model is, and what draws with it."""
    lines = [f"{stage} from {origin}" for stage, origin in done.origins.items()]
    lines.append(f"wrote {done.folder} ({done.num_bytes / 1e6:.1f} MB)")
    missing = [stage for stage in ("clip", "prior", "decoder") if stage not in done.origins]
    if missing:
        lines.append(f"it has no {' and no '.join(missing)}, which drawing from text needs")
    else:
        lines.append(f'next: unclip generate "..." --model {done.folder}')
    return "\n".join(lines)
