"""The command `evaluate memorisation`: how near drawn pictures lie to those that the model was trained on."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from unclip.cli.options import AsJson, Device, help_of, parse_per_stage
from unclip.errors import InputError
from unclip.progress import on_terminal, say, show_progress

if TYPE_CHECKING:
    from unclip.evaluate import Memorisation

TRAIN_KIND = "train"


def memorisation(
    model: Annotated[str, Argument(help="A shipped model, a folder or a hub id.")],
    train: Annotated[str, Option(help="The pictures that it was trained on: a folder, a table or shards.")],
    out: Annotated[Path, Option("-o", "--out", help="Folder for the results; work goes on there.")],
    prompts: Annotated[
        list[str] | None, Option(help="KIND=FILE, repeated: .txt or captioned pictures; else --train's captions.")
    ] = None,
    held_out: Annotated[str | None, Option(help="Real pictures that it was not trained on, to compare with.")] = None,
    num_images: Annotated[int, Option("-n", "--num-images", min=1, help="Pictures of each kind of prompts.")] = 100,
    features: Annotated[str | None, Option(help="inception, dinov2-vitl14, clip:MODEL; else the model's CLIP.")] = None,
    size: Annotated[int | None, Option(help="Side at which pictures are compared.")] = None,
    seed: Annotated[int, Option(help="Of captions and pictures.")] = 0,
    steps: Annotated[str | None, Option(help="For all stages, or prior=25,decoder=25.")] = None,
    guidance: Annotated[str | None, Option(help=help_of("guidance_scale"))] = None,
    batch_size: Annotated[int | None, Option(help="Pictures that go through a network together.")] = None,
    cache: Annotated[Path | None, Option(help="Where features of pictures are kept; else UNCLIP_CACHE.")] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Share of drawn pictures that are nearer to a training picture than training pictures are to each other.

    By kind of prompts, by features and by pixels; the nearest pairs go on a sheet, to be looked at.
    """
    from unclip.evaluate import EvaluateOptions, evaluate_memorisation, open_features
    from unclip.pipelines import UnClip

    # A name of letters before the first =, so that a path may hold one.
    matches = [re.fullmatch(r"([\w-]+)=(.+)", text) for text in prompts or [f"{TRAIN_KIND}={train}"]]
    kinds = {match[1]: match[2] for match in matches if match is not None}
    if len(kinds) < len(matches):
        raise InputError(f"--prompts {' '.join(prompts or ())!r} cannot be read; write KIND=FILE, each kind once.")
    for location in filter(None, (train, held_out, *kinds.values())):  # before networks are opened
        if not ("://" in location or any(mark in location for mark in "*{") or Path(location).exists()):
            raise InputError(f"there is no {location}; give a file or folder that is there.")
    options = EvaluateOptions(
        num_images=num_images,
        size=size,
        seed=seed,
        num_steps=parse_per_stage("--steps", steps, int),
        guidance_scale=parse_per_stage("--guidance", guidance, float),
        batch_size=batch_size,
        cache=cache,
    )
    pipe = UnClip.load(model, device)
    names = [f"clip:{model}"] if features is None else [name.strip() for name in features.split(",") if name.strip()]
    networks = [open_features(name, None, device, cache) for name in names]
    report = evaluate_memorisation(
        pipe, train, kinds, networks, out, held_out=held_out, options=options, progress=_show_progress
    )
    print(report.model_dump_json() if as_json else _text(report, out))


def _show_progress(stage: str, done: int, total: int) -> None:
    """Show progress; where stderr is no terminal, not of reading, which an error about the input may follow."""
    if stage != "reading" or on_terminal():
        show_progress(stage, done, total, "done")


def _text(report: "Memorisation", out: Path) -> str:
    """Write a line for each kind by each distance; notes go to stderr."""
    for note in report.notes:
        say(f"note: {note}")
    lines = []
    for measure in report.measures:
        limits = ", ".join(f"{name} {limit:.4g}" for name, limit in measure.thresholds.items())
        lines.append(f"{measure.name}: thresholds {limits}")
        for one in measure.kinds:
            shares = ", ".join(f"{100 * share:.1f} % < {name}" for name, share in one.closer.items())
            lines.append(f"{measure.name}: {one.kind}, {one.num_images} pictures: {shares}; median {one.median:.4g}")
    return "\n".join([*lines, str(out / "memorisation.html")])
