"""`unclip plan`: what a recipe will take on given GPUs. Knows how to print a plan; training makes it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from unclip.training import Plan


ROW = "  {:<15} {}"
NAMES = {"compute_copies": "bf16 copies", "clip": "frozen CLIP"}
DAY_HOURS, DAY_MINUTES = 24, 24 * 60


def plan(
    recipe: Annotated[str, typer.Argument(help="A recipe, such as karlo/decoder.")],
    gpus: Annotated[int, typer.Option("--gpus", help="How many GPUs.")] = 8,
    gpu: Annotated[str, typer.Option("--gpu", help="a100, h100, h200, l40s, rtx4090 or v100.")] = "h100",
    price: Annotated[float | None, typer.Option("--price", help="Dollars for an hour of one GPU.")] = None,
    utilisation: Annotated[
        float, typer.Option("--utilisation", help="Share of the GPU's dense peak that is reached.")
    ] = 0.4,
    strategy: Annotated[str | None, typer.Option("--strategy", help="ddp, fsdp or fsdp_zero2.")] = None,
    pictures: Annotated[
        int | None, typer.Option("--pictures", help="Size of the data set; else the recipe's own.")
    ] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", help="Change a setting: key=value.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Show parameters, operations, memory, time, price and disk of a recipe; nothing is trained.

    Operations and activations are counted on the recipe's networks; time is what they take at --utilisation.
    """
    from unclip import recipes, training
    from unclip.cli.train import configure, parse_change

    overrides = dict(parse_change(change) for change in changes or [])
    overrides |= {} if strategy is None else {"strategy": strategy}
    config = configure(recipe, overrides)
    made = training.make_plan(
        config,
        num_pictures=recipes.num_pictures(recipe) if pictures is None else pictures,
        num_gpus=gpus,
        gpu=gpu,
        utilisation=utilisation,
        price=price,
        clip=recipes.frozen_clip(config),
    )
    print(made.model_dump_json() if as_json else as_text(made))


def as_text(made: "Plan") -> str:
    """A headline, then a line for each number of the plan; memory as a table of strategies."""
    passes = f"{made.accumulation} x {made.micro_batch_size} on each GPU"
    lines = [
        f"{made.recipe} on {made.num_gpus} x {made.gpu.name}, {made.strategy}, at {made.utilisation:.0%} of "
        f"{_peak(made):,.0f} TFLOP/s ({made.precision})",
        ROW.format("parameters", _parameters(made)),
        ROW.format("operations", _operations(made)),
        ROW.format("batch", f"{made.batch_size:,} = {passes}"),
        ROW.format("length", f"{made.num_images:,} images, {made.num_steps:,} steps"),
        ROW.format("speed", f"{made.images_per_second:,.0f} images/s, {_hours(made.gpu_hours)}"),
        ROW.format("time", duration(made.days) + _dollars(made)),
        ROW.format("disk", _disk(made)),
        ROW.format("main memory", f"{_gb(made.host_memory)} in the first process, which resumes from a checkpoint"),
        ROW.format("memory per GPU", "".join(f"{strategy:>12}" for strategy in made.memory)),
        *_memory_rows(made),
        ROW.format("  total", "".join(f"{_gb(memory.total):>12}" for memory in made.memory.values())),
        ROW.format("fits", "yes" if made.fits else f"not in {_gb(made.gpu.memory)}: {made.advice}"),
        *(ROW.format("note", note) for note in made.notes),
    ]
    return "\n".join(lines)


def _peak(made: "Plan") -> float:
    return (made.gpu.float32_flops if made.precision == "float32" else made.gpu.half_flops) / 1e12


def _parameters(made: "Plan") -> str:
    frozen = f", and {made.clip_parameters:,} of the frozen CLIP" if made.clip_parameters else ""
    return f"{made.parameters:,}{frozen}"


def _operations(made: "Plan") -> str:
    once = f"; {made.flops_once / 1e12:,.3g} TFLOP once" if made.flops_once else ""
    return (
        f"{made.forward_flops / 1e9:,.2f} GFLOP forward, {made.flops_per_image / 1e9:,.2f} to train on an image{once}"
    )


def _hours(gpu_hours: float) -> str:
    return f"{gpu_hours:,.0f} GPU hours" if gpu_hours >= 100 else f"{gpu_hours:.2f} GPU hours"


def _dollars(made: "Plan") -> str:
    return "" if made.dollars is None else f", ${made.dollars:,.0f} at ${made.price:g} a GPU hour"


def _disk(made: "Plan") -> str:
    parts = {name: size for name, size in made.disk.model_dump().items() if size}
    return f"{made.num_pictures:,} pictures: " + ", ".join(f"{name} {_gb(size)}" for name, size in parts.items())


def duration(days: float) -> str:
    """Days as a reader wants them: in minutes below an hour, in hours below two days."""
    if days * DAY_HOURS < 1:
        return f"{days * DAY_MINUTES:.1f} minutes"
    return f"{days * DAY_HOURS:.1f} hours" if days < 2 else f"{days:,.1f} days"


def _memory_rows(made: "Plan") -> list[str]:
    """A row for each part that any strategy needs."""
    parts = [memory.model_dump() for memory in made.memory.values()]
    used = [name for name in parts[0] if any(part[name] for part in parts)]
    return [_memory_row(name, [part[name] for part in parts]) for name in used]


def _memory_row(name: str, sizes: Sequence[int]) -> str:
    return ROW.format("  " + NAMES.get(name, name), "".join(f"{_gb(size):>12}" for size in sizes))


def _gb(size: float) -> str:
    return f"{size / 1e9:,.2f} GB" if size < 1e12 else f"{size / 1e12:,.2f} TB"
