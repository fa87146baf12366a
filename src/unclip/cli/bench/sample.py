"""`unclip bench sample`: what drawing takes, by stage and batch. Knows how to print it; `unclip.bench` measures."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unclip.cli.bench.amounts import bytes_text, flops_text
from unclip.cli.bench.subject import chosen_subject, parse_batches
from unclip.cli.evaluate import read_evaluation
from unclip.cli.options import Device, parse_per_stage, parse_size
from unclip.errors import InputError
from unclip.progress import say

if TYPE_CHECKING:
    from unclip.bench import SampleReport, StageFigures, Subject
    from unclip.evaluate import Evaluation
    from unclip.model import StageSettings


COLUMNS = "  {:<16} {:>5} {:>6} {:>10} {:>12} {:>12} {:>12} {:>10} {:>8}"
HEAD = ("stage", "batch", "steps", "set-up s", "s a step", "s an image", "FLOP/image", "memory", "of peak")
TITLES = ("model", "FID", "CLIP score", "seconds an image", "peak memory", "FLOPs an image", "training cost")
# What trains the networks of a preset or a shipped model, where its recipes are ready.
SERIES = {"emoji": "emoji", "karlo": "karlo", "dalle2-paper": "paper"}
PLANNED_GPU = "a100"  # as `unclip plan` calls it


def sample(
    preset: Annotated[
        str | None, typer.Option(help="Of a model, or with --stage of a network; random weights.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="A shipped model, a folder or a hub id; emoji.")] = None,
    stage: Annotated[str | None, typer.Option(help="prior, decoder, upsampler_256, ...; else all.")] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", help="Change a shape: prior.depth=6.")] = None,
    batch: Annotated[str, typer.Option(help="Pictures at a time: 1, or several as 1,4,16.")] = "1",
    size: Annotated[str | None, typer.Option(help="A side that the model draws, or WIDTHxHEIGHT near one.")] = None,
    steps: Annotated[str | None, typer.Option(help="For all stages, or prior=25,decoder=25.")] = None,
    guidance: Annotated[str | None, typer.Option(help="1 is off; for all stages, or prior=1,decoder=3.")] = None,
    sampler: Annotated[str | None, typer.Option(help="ddpm, ddim, heun, dpm++ or dpm++sde; also per stage.")] = None,
    candidates: Annotated[int | None, typer.Option(help="Embeddings the prior draws; a preset: 1.")] = None,
    text_tokens: Annotated[int | None, typer.Option(help="Length of texts; 0: networks that read none.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16; else the device's best.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Steps to time at least.")] = 3,
    evaluation: Annotated[Path | None, typer.Option(help="results.json of `unclip evaluate`, for the row.")] = None,
    price: Annotated[float | None, typer.Option(help="Dollars for an hour of an A100, for the row.")] = None,
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Measure what drawing takes: seconds by stage, images a second, memory, operations, share of the peak.

    A few steps of each stage are timed; seconds an image are those of a step times the steps.
    """
    from unclip.bench import bench_sample

    if price is not None and not 0.0 < price < float("inf"):
        raise InputError(f"--price {price} is no price of an hour; give dollars above 0.")
    subject = chosen_subject(preset, model, stage, changes or [], text_tokens)
    found = None if evaluation is None else read_evaluation(evaluation)
    settings = _settled(subject, steps, guidance, sampler)
    batches, pixels = parse_batches(batch), parse_size(size)
    report = bench_sample(
        subject,
        batches=batches,
        settings=settings,
        image_size=pixels,
        text_tokens=text_tokens,
        num_candidates=candidates,
        dtype=dtype,
        device=device,
        repeats=repeats,
        tell=_tell,
    )
    for note in [] if found is None else _differences(report, found):
        say(f"note: {note}")
    cost = _training_cost(preset or report.subject, price) if stage is None else "-"
    row = _row(report, found, cost)
    print(json.dumps(report.as_dict() | {"row": dict(zip(TITLES, row, strict=True))}) if as_json else as_text(report))
    if not as_json:
        print(f"\n{_line(TITLES)}\n{_line(['---'] * len(TITLES))}\n{_line(row)}")


def as_text(report: "SampleReport") -> str:
    """Where it was measured, a line for each stage and batch, and what they add up to."""
    weights = "random weights" if report.random_weights else "its own weights"
    pixels = f", {report.image_size} px" if report.image_size else ""
    peaks = "; ".join(
        f"{name} {peak.matmul / 1e12:.3g} (convolutions {peak.convolution / 1e12:.3g}) TFLOP/s"
        for name, peak in report.peaks.items()
    )
    lines = [f"{report.subject}{pixels}, {weights}, {report.dtype} on {report.machine}", f"  measured peak: {peaks}"]
    lines.append(COLUMNS.format(*HEAD))
    for batch in report.batches:
        lines += [_stage_line(figures) for figures in batch.stages]
        numbers = (f"{batch.seconds_per_image:.4g}", flops_text(batch.flops_per_image))
        memory, share = bytes_text(batch.peak_memory_bytes), f"{batch.share_of_peak:.1%}"
        lines.append(COLUMNS.format("all", batch.batch, "", "", "", *numbers, memory, share))
        speed, loaded = f"{batch.images_per_second:.4g} images/s", bytes_text(batch.peak_memory_loaded_bytes)
        lines.append(f"  {speed}; memory with one stage loaded at a time, {loaded} with all of them")
    if any(batch.extrapolated for batch in report.batches):
        lines.append("  * extrapolated: fewer steps were timed; seconds are set-up + steps x seconds a step")
    return "\n".join(lines)


def _stage_line(figures: "StageFigures") -> str:
    mark = "*" if figures.extrapolated else ""
    return COLUMNS.format(
        figures.stage,
        figures.batch,
        f"{figures.num_steps}{mark}",
        f"{figures.setup_seconds:.3g}",
        f"{figures.seconds_per_step:.4g}",
        f"{figures.seconds / figures.batch:.4g}",
        flops_text(figures.flops / figures.batch),
        bytes_text(figures.peak_memory_bytes),
        f"{figures.share_of_peak:.1%}",
    )


def _settled(
    subject: "Subject", steps: str | None, guidance: str | None, sampler: str | None
) -> "dict[str, StageSettings]":
    from unclip.pipelines.settings import resolve_settings

    return resolve_settings(
        subject.settings,
        [name for name in subject.settings if name.startswith("upsampler_")],
        num_steps=parse_per_stage("--steps", steps, int),
        guidance_scale=parse_per_stage("--guidance", guidance, float),
        sampler=parse_per_stage("--sampler", sampler, str),
    )


def _row(report: "SampleReport", found: "Evaluation | None", cost: str) -> list[str]:
    """The first batch size as a row of the field's table; quality is that of the point with the least FID."""
    quality: dict[str, float] = {}
    if found is not None:
        points = [{figure.name: figure.value for figure in point.figures} for point in found.points]
        quality = min(points, key=lambda figures: figures.get("fid", float("inf")))
    first = report.batches[0]
    seconds = f"{_number(first.seconds_per_image)} s" + (" *" if first.extrapolated else "")
    fid = f"{quality['fid']:.2f}" if "fid" in quality else "-"
    score = f"{quality['clip_score']:.2f}" if "clip_score" in quality else "-"
    memory, flops = bytes_text(first.peak_memory_bytes), flops_text(first.flops_per_image)
    return [report.subject, fid, score, seconds, memory, flops, cost]


def _differences(report: "SampleReport", found: "Evaluation") -> list[str]:
    """Why figures of the evaluation are not of what was measured, and what its reader must know."""
    asked = {figures.stage: figures for figures in report.batches[0].stages}
    notes = (
        [f"the evaluation is of {found.subject}, not of {report.subject}"] if found.subject != report.subject else []
    )
    if found.image_size != report.image_size:
        notes.append(f"the evaluation compared pictures at {found.image_size} px, not {report.image_size}")
    for stage, settings in found.points[0].settings.items():
        steps = settings.get("num_steps") if isinstance(settings, dict) else None
        if stage in asked and steps != asked[stage].num_steps:
            notes.append(f"the evaluation drew with {steps} steps of the {stage}, not {asked[stage].num_steps}")
    return [*notes, *found.notes]


def _tell(what: str, done: int, total: int) -> None:
    say(f"measuring {what} ({done + 1} of {total})")


def _training_cost(name: str, price: float | None) -> str:
    """GPU hours of all recipes of a series as `unclip plan` counts them; "-" where none is ready."""
    from unclip import recipes, training

    if name not in SERIES:
        return "-"
    hours = 0.0
    for recipe in (recipe for recipe in recipes.RECIPES if recipe.startswith(f"{SERIES[name]}/")):
        config = recipes.get_recipe(recipe)
        pictures, clip = recipes.num_pictures(recipe), recipes.frozen_clip(config)
        hours += training.make_plan(config, num_pictures=pictures, gpu=PLANNED_GPU, clip=clip).gpu_hours
    cost = 0.0 if price is None else hours * price
    dollars = "" if price is None else f", ${cost:,.0f}" if cost >= 100 else f", ${cost:,.2f}"
    return f"{_number(hours)} {PLANNED_GPU.upper()} hours{dollars} (planned)"


def _number(value: float) -> str:
    """Three digits, and never a power of ten: 0.28, 8,220."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _line(cells: "list[str] | tuple[str, ...]") -> str:
    return f"| {' | '.join(cells)} |"
