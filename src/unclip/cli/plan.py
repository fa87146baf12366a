"""`unclip plan`: what a recipe will take on given GPUs. Knows how to print a plan; training makes it."""

from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from unclip.cli.options import AsJson, Changes, parse_changes

if TYPE_CHECKING:
    from unclip.training import Plan

NAMES = {"compute_copies": "bf16 copies", "clip": "frozen CLIP"}
DAY_HOURS, DAY_MINUTES = 24, 24 * 60


def plan(
    recipe: Annotated[str, Argument(help="A recipe, such as karlo/decoder.")],
    gpus: Annotated[int, Option(help="How many GPUs.")] = 8,
    gpu: Annotated[str, Option(help="a100, h100, h200, l40s, rtx4090 or v100.")] = "h100",
    price: Annotated[float | None, Option(help="Dollars for an hour of one GPU.")] = None,
    utilisation: Annotated[float, Option(help="Share of the GPU's dense peak that is reached.")] = 0.4,
    strategy: Annotated[str | None, Option(help="ddp, fsdp or fsdp_zero2.")] = None,
    pictures: Annotated[int | None, Option(help="Size of the data set; else the recipe's own.")] = None,
    changes: Changes = None,
    as_json: AsJson = False,
) -> None:
    """Show parameters, operations, memory, time, price and disk of a recipe; nothing is trained.

    Operations and activations are counted on the recipe's networks; time is what they take at --utilisation.
    """
    from unclip import recipes, training
    from unclip.cli.train import configure

    overrides = parse_changes(changes) | ({} if strategy is None else {"strategy": strategy})
    config = configure(recipe, overrides)
    planned = training.make_plan(
        config,
        num_pictures=recipes.num_pictures(recipe) if pictures is None else pictures,
        num_gpus=gpus,
        gpu=gpu,
        utilisation=utilisation,
        price=price,
        clip=recipes.frozen_clip(config),
    )
    print(planned.model_dump_json() if as_json else plan_text(planned))


def plan_text(plan: "Plan") -> str:
    """Write a headline, then a line for each number of the plan; memory as a table of strategies."""
    peak = (plan.gpu.float32_flops if plan.precision == "float32" else plan.gpu.half_flops) / 1e12
    frozen = f", and {plan.clip_parameters:,} of the frozen CLIP" if plan.clip_parameters else ""
    once = f"; {plan.flops_once / 1e12:,.3g} TFLOP once" if plan.flops_once else ""
    forward, training = f"{plan.forward_flops / 1e9:,.2f}", f"{plan.flops_per_image / 1e9:,.2f}"
    hours = f"{plan.gpu_hours:,.0f}" if plan.gpu_hours >= 100 else f"{plan.gpu_hours:.2f}"
    dollars = "" if plan.dollars is None else f", ${plan.dollars:,.0f} at ${plan.price:g} a GPU hour"
    disk = ", ".join(f"{name} {_gb(size)}" for name, size in plan.disk.model_dump().items() if size)
    memory = [use.model_dump() for use in plan.memory.values()]
    rows = [
        ("parameters", f"{plan.parameters:,}{frozen}"),
        ("operations", f"{forward} GFLOP forward, {training} to train on an image{once}"),
        ("batch", f"{plan.batch_size:,} = {plan.accumulation} x {plan.micro_batch_size} on each GPU"),
        ("length", f"{plan.num_images:,} images, {plan.num_steps:,} steps"),
        ("speed", f"{plan.images_per_second:,.0f} images/s, {hours} GPU hours"),
        ("time", duration(plan.days) + dollars),
        ("disk", f"{plan.num_pictures:,} pictures: {disk}"),
        ("main memory", f"{_gb(plan.host_memory)} in the first process, which resumes from a checkpoint"),
        ("memory per GPU", "".join(f"{strategy:>12}" for strategy in plan.memory)),
        *(
            (f"  {NAMES.get(part, part)}", "".join(f"{_gb(use[part]):>12}" for use in memory))
            for part in memory[0]
            if any(use[part] for use in memory)
        ),
        ("  total", "".join(f"{_gb(use.total):>12}" for use in plan.memory.values())),
        ("fits", "yes" if plan.fits else f"not in {_gb(plan.gpu.memory)}: {plan.advice}"),
        *(("note", note) for note in plan.notes),
    ]
    headline = f"{plan.recipe} on {plan.num_gpus} x {plan.gpu.name}, {plan.strategy}, at {plan.utilisation:.0%} of "
    return "\n".join(
        [f"{headline}{peak:,.0f} TFLOP/s ({plan.precision})", *(f"  {name:<15} {text}" for name, text in rows)]
    )


def duration(days: float) -> str:
    """Write days in minutes below an hour, in hours below two days."""
    if days * DAY_HOURS < 1:
        return f"{days * DAY_MINUTES:.1f} minutes"
    return f"{days * DAY_HOURS:.1f} hours" if days < 2 else f"{days:,.1f} days"


def _gb(size: float) -> str:
    return f"{size / 1e9:,.2f} GB" if size < 1e12 else f"{size / 1e12:,.2f} TB"
