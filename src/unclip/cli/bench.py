"""`unclip bench sample` and `unclip bench train`: print what sampling and training take."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option, Typer

from unclip.cli.evaluate import read_evaluation
from unclip.cli.options import AsJson, Device, help_of, parse_changes, parse_per_stage, parse_size
from unclip.errors import InputError
from unclip.files import bytes_text
from unclip.progress import say

if TYPE_CHECKING:
    from unclip.bench import BatchFigures, SampleReport, StageFigures, Subject, TrainReport
    from unclip.evaluate import Evaluation
    from unclip.training import TrainConfig

COLUMNS = "  {:<16} {:>5} {:>6} {:>10} {:>12} {:>12} {:>12} {:>10} {:>8}"
HEAD = ("stage", "batch", "steps", "set-up s", "s a step", "s an image", "FLOP/image", "memory", "of peak")
TITLES = ("model", "FID", "CLIP score", "seconds an image", "peak memory", "FLOPs an image", "training cost")
# Series of recipes that train a preset or a shipped model.
SERIES = {"emoji": "emoji", "karlo": "karlo", "dalle2-paper": "paper"}
PLANNED_GPU = "a100"  # as `unclip plan` calls it

bench_app = Typer(help="Measure seconds, memory and operations.", rich_markup_mode=None)


@bench_app.command()
def sample(
    preset: Annotated[str | None, Option(help="Of a model, or with --stage of a network; random weights.")] = None,
    model: Annotated[str | None, Option(help="A shipped model, a folder or a hub id; emoji.")] = None,
    stage: Annotated[str | None, Option(help="prior, decoder, upsampler_256, ...; else all.")] = None,
    changes: Annotated[list[str] | None, Option("--set", help="Change a shape: prior.depth=6.")] = None,
    batch: Annotated[str, Option(help="Pictures at a time: 1, or several as 1,4,16.")] = "1",
    size: Annotated[str | None, Option(help=help_of("image_size"))] = None,
    steps: Annotated[str | None, Option(help="For all stages, or prior=25,decoder=25.")] = None,
    guidance: Annotated[str | None, Option(help=help_of("guidance_scale"))] = None,
    sampler: Annotated[str | None, Option(help=help_of("sampler"))] = None,
    candidates: Annotated[int | None, Option(help="Embeddings the prior draws; a preset: 1.")] = None,
    text_tokens: Annotated[int | None, Option(help="Length of texts; 0: networks that read none.")] = None,
    dtype: Annotated[str | None, Option(help="float32, bfloat16 or float16; else the device's best.")] = None,
    repeats: Annotated[int, Option(min=1, help="Steps to time at least.")] = 3,
    evaluation: Annotated[Path | None, Option(help="results.json of `unclip evaluate`, for the row.")] = None,
    price: Annotated[float | None, Option(help="Dollars for an hour of an A100, for the row.")] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Measure what drawing takes: seconds by stage, images a second, memory, operations, share of the peak.

    A few steps of each stage are timed; seconds an image are those of a step times the steps.
    """
    from unclip.bench import bench_sample
    from unclip.pipelines.settings import resolve_settings

    if price is not None and not 0.0 < price < float("inf"):
        raise InputError(f"--price {price} is not the price of an hour; give dollars above 0.")
    subject = _choose_subject(preset, model, stage, parse_changes(changes), text_tokens)
    quality = None if evaluation is None else read_evaluation(evaluation)
    sizes = batch.split(",")
    if not all(text.strip().isdecimal() and int(text) for text in sizes):
        raise InputError(f"--batch {batch!r} cannot be read; write 1, or several as 1,4,16.")
    report = bench_sample(
        subject,
        batches=list(dict.fromkeys(map(int, sizes))),
        settings=resolve_settings(
            subject.settings,
            num_steps=parse_per_stage("--steps", steps, int),
            guidance_scale=parse_per_stage("--guidance", guidance, float),
            sampler=parse_per_stage("--sampler", sampler, str),
        ),
        image_size=parse_size(size),
        text_tokens=text_tokens,
        num_candidates=candidates,
        dtype=dtype,
        device=device,
        repeats=repeats,
        progress=lambda job, done, total: say(f"measuring {job} ({done + 1} of {total})"),
    )
    for note in [] if quality is None else _differences(report, quality):
        say(f"note: {note}")
    row = _row(report, quality, _training_cost(preset or report.subject, price) if stage is None else "-")
    if as_json:
        print(json.dumps(report.as_dict() | {"row": dict(zip(TITLES, row, strict=True))}))
        return
    print(_sample_table(report) + "\n")
    for cells in (TITLES, ["---"] * len(TITLES), row):
        print(f"| {' | '.join(cells)} |")


@bench_app.command()
def train(
    recipe: Annotated[str | None, Option(help="Such as emoji/decoder; else --preset and --stage.")] = None,
    preset: Annotated[str | None, Option(help="Of a model or a network.")] = None,
    stage: Annotated[str | None, Option(help="clip, prior, decoder, upsampler_256, ...")] = None,
    changes: Annotated[
        list[str] | None, Option("--set", help="Change a shape, prior.depth=6, or a setting of the recipe.")
    ] = None,
    batch: Annotated[int | None, Option(min=1, help="Images of a step; a preset: 8.")] = None,
    micro_batch: Annotated[int | None, Option(min=1, help="Images of one forward pass; else all.")] = None,
    precision: Annotated[str | None, Option(help="bfloat16, float16 or float32.")] = None,
    checkpointing: Annotated[bool, Option("--checkpointing", help="Compute activations again.")] = False,
    text_tokens: Annotated[int | None, Option(help="Length of texts; 0: networks that read none.")] = None,
    repeats: Annotated[int, Option(min=1, help="Steps to time.")] = 3,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Measure steps of the trainer on made-up samples: seconds, images a second, memory, operations.

    A step is forward, backward, optimiser and averages; CLIP's features are given, as stored ones are.
    """
    from unclip.bench import bench_train

    config = _train_config(recipe, preset, stage, parse_changes(changes), text_tokens)
    rows = micro_batch or config.micro_batch_size
    if batch is not None and micro_batch is None and rows is not None and batch % rows:
        rows = None  # A recipe's own passes need not divide another batch.
    config = config.replace(
        batch_size=batch or config.batch_size,
        micro_batch_size=rows,
        precision=precision or config.precision,
        activation_checkpointing=checkpointing or config.activation_checkpointing,
    )
    if rows is not None and config.batch_size % rows:
        raise InputError(f"--batch {config.batch_size} does not divide in passes of {rows}; use a multiple.")
    report = bench_train(config, device=device, repeats=repeats)
    print(json.dumps(report.as_dict()) if as_json else _train_table(report))


def _choose_subject(
    preset: str | None, model: str | None, stage: str | None, changes: dict[str, str], text_tokens: int | None
) -> "Subject":
    """Return the preset, changed, or the model as it is; raises `InputError` for options that exclude each other."""
    from unclip.bench import model_subject, preset_subject

    if text_tokens is not None and text_tokens < 0:
        raise InputError(f"--text-tokens {text_tokens} is not a length; give 0 for no text, or more.")
    if preset is None:
        if changes or text_tokens is not None:
            raise InputError("--set and --text-tokens change a shape, but a model has its weights; give a --preset.")
        return model_subject(model or "emoji").only(stage)
    if model is not None:
        raise InputError(f"--preset {preset} and --model {model} are two things to measure; give one of them.")
    return preset_subject(preset, stage).changed(changes, text_tokens)


def _train_config(
    recipe: str | None, preset: str | None, stage: str | None, changes: dict[str, str], text_tokens: int | None
) -> "TrainConfig":
    """Return the recipe, changed, or settings for the preset; raises `InputError` unless one of the two is given."""
    from unclip.bench import train_config
    from unclip.config import override
    from unclip.recipes import get_recipe

    if recipe is not None and preset is not None:
        raise InputError(f"--recipe {recipe} and --preset {preset} are two things to train; give one of them.")
    if recipe is not None:
        if stage is not None or text_tokens is not None:
            raise InputError(f"--stage and --text-tokens belong to --preset; the recipe {recipe} says both.")
        # A setting that begins with the recipe's stage is one of its network's shape.
        shape = f"{recipe.split('/')[-1]}."
        settings = {
            f"task.model.{name.removeprefix(shape)}" if name.startswith(shape) else name: value
            for name, value in changes.items()
        }
        return override(get_recipe(recipe), settings)
    if preset is None:
        raise InputError("give what to train: --recipe emoji/decoder, or --preset karlo --stage decoder.")
    if stage is None:
        raise InputError(f"--preset {preset} needs a --stage to train, such as prior or decoder.")
    subject = _choose_subject(preset, None, stage, changes, text_tokens)
    return train_config(f"{subject.name}/{stage}", subject.networks[stage])


def _sample_table(report: "SampleReport") -> str:
    """Write where it was measured, a line for each stage and batch, and what they add up to."""
    weights = "random weights" if report.random_weights else "its own weights"
    pixels = f", {report.image_size} px" if report.image_size else ""
    peaks = "; ".join(
        f"{name} {peak.matmul / 1e12:.3g} (convolutions {peak.convolution / 1e12:.3g}) TFLOP/s"
        for name, peak in report.peaks.items()
    )
    lines = [f"{report.subject}{pixels}, {weights}, {report.dtype} on {report.machine}", f"  measured peak: {peaks}"]
    lines.append(COLUMNS.format(*HEAD))
    for batch in report.batches:
        for stage in batch.stages:
            steps = f"{stage.num_steps}{'*' if stage.extrapolated else ''}"
            seconds = (f"{stage.setup_seconds:.3g}", f"{stage.seconds_per_step:.4g}")
            lines.append(COLUMNS.format(stage.stage, stage.batch, steps, *seconds, *_cells(stage)))
        lines.append(COLUMNS.format("all", batch.batch, "", "", "", *_cells(batch)))
        speed, loaded = f"{batch.images_per_second:.4g} images/s", bytes_text(batch.peak_memory_loaded_bytes)
        lines.append(f"  {speed}; memory with one stage loaded at a time, {loaded} with all of them")
    if any(batch.extrapolated for batch in report.batches):
        lines.append("  * extrapolated: fewer steps were timed; seconds are set-up + steps x seconds a step")
    return "\n".join(lines)


def _cells(figures: "StageFigures | BatchFigures") -> tuple[str, ...]:
    flops, memory = _flops_text(figures.flops_per_image), bytes_text(figures.peak_memory_bytes)
    return f"{figures.seconds_per_image:.4g}", flops, memory, f"{figures.share_of_peak:.1%}"


def _train_table(report: "TrainReport") -> str:
    passes = f"{report.batch} in passes of {report.micro_batch_size}"
    extra = ", activation checkpointing" if report.activation_checkpointing else ""
    peak = f"{report.peak.matmul / 1e12:.3g} TFLOP/s measured (convolutions {report.peak.convolution / 1e12:.3g})"
    return f"""{report.name}, {report.num_parameters:,} parameters, {report.precision} on {report.machine}
  batch          {passes}, {report.optimizer}{extra}
  step           {report.seconds_per_step:.4g} s, {report.images_per_second:.4g} images/s
  memory         {bytes_text(report.peak_memory_bytes)}
  operations     {_flops_text(report.flops_per_step)}FLOP a step
  share of peak  {report.share_of_peak:.1%} of {peak}"""


def _row(report: "SampleReport", evaluation: "Evaluation | None", cost: str) -> list[str]:
    """Return the first batch size as a row of the field's table; quality is that of the point with the least FID."""
    points = [] if evaluation is None else evaluation.points
    figures = [{figure.name: figure.value for figure in point.figures} for point in points]
    quality = min(figures, key=lambda point: point.get("fid", float("inf")), default={})
    first = report.batches[0]
    return [
        report.subject,
        f"{quality['fid']:.2f}" if "fid" in quality else "-",
        f"{quality['clip_score']:.2f}" if "clip_score" in quality else "-",
        f"{_number(first.seconds_per_image)} s" + (" *" if first.extrapolated else ""),
        bytes_text(first.peak_memory_bytes),
        _flops_text(first.flops_per_image),
        cost,
    ]


def _differences(report: "SampleReport", evaluation: "Evaluation") -> list[str]:
    """List what was evaluated otherwise than it was measured, and the evaluation's own notes."""
    num_steps = {figures.stage: figures.num_steps for figures in report.batches[0].stages}
    notes = []
    if evaluation.subject != report.subject:
        notes.append(f"the evaluation is of {evaluation.subject}, not of {report.subject}")
    if evaluation.image_size != report.image_size:
        notes.append(f"the evaluation compared pictures at {evaluation.image_size} px, not {report.image_size}")
    for stage, settings in evaluation.points[0].settings.items():
        steps = settings.get("num_steps") if isinstance(settings, dict) else None
        if stage in num_steps and steps != num_steps[stage]:
            notes.append(f"the evaluation drew with {steps} steps of the {stage}, not {num_steps[stage]}")
    return [*notes, *evaluation.notes]


def _training_cost(name: str, price: float | None) -> str:
    """Return the GPU hours of all recipes of a series as `unclip plan` counts them; "-" without such a series."""
    from unclip import recipes, training

    if name not in SERIES:
        return "-"
    hours = 0.0
    for recipe in recipes.RECIPES:
        if recipe.startswith(f"{SERIES[name]}/"):
            config = recipes.get_recipe(recipe)
            pictures, clip = recipes.num_pictures(recipe), recipes.frozen_clip(config)
            hours += training.make_plan(config, num_pictures=pictures, gpu=PLANNED_GPU, clip=clip).gpu_hours
    cost = 0.0 if price is None else hours * price
    dollars = "" if price is None else f", ${cost:,.0f}" if cost >= 100 else f", ${cost:,.2f}"
    return f"{_number(hours)} {PLANNED_GPU.upper()} hours{dollars} (planned)"


def _number(value: float) -> str:
    """Write three digits, never with a power of ten: 0.28, 8,220."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _flops_text(count: float) -> str:
    """Write operations with three digits: 8.27 M, 12.3 G, 1.05 T, 2.1 P."""
    units = {"P": 1e15, "T": 1e12, "G": 1e9, "M": 1e6}
    unit = next((unit for unit, size in units.items() if count >= size), "M")
    return f"{count / units[unit]:.3g} {unit}"
