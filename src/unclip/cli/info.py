"""`unclip info`: what a model is made of. Knows how to print it; loads no weights."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from unclip.model import ModelInfo, StageInfo


COLUMNS = "  {:<18} {:>13} {:>11} {:>9} {:>9} {:>9}  {}"


def info(
    model: Annotated[str, typer.Argument(help="A shipped model, a folder, a hub id, or a preset.")] = "emoji",
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Show the stages of a model, what they cost and their default settings.

    GFLOP are those of one step for one picture without guidance (CLIP: of one text). A size is what the weights take
    stored as float32, bfloat16 or int8. What a stage computes in is the best of this machine.
    """
    from unclip.model import describe_model

    described = describe_model(model)
    print(described.model_dump_json() if as_json else as_text(described))


def as_text(described: "ModelInfo") -> str:
    """A line about the model, the head of a table, a line per stage, and the sums."""
    stages = described.stages
    sizes = ", ".join(f"{size} px" for size in described.image_sizes)
    draws = f"draws {sizes}; " if sizes else ""
    files = _bytes(sum(stage.num_bytes or 0 for stage in stages))
    place = "" if described.folder is None else f"{files} in {described.folder}"
    source = ", ".join(part for part in (place, described.description) if part)
    obstacles = described.not_in_diffusers
    exports = "convert --to diffusers would " + ("refuse it:" if obstacles else "write it")
    total = [_bytes(sum(stage.memory[storage] for stage in stages)) for storage in stages[0].memory]
    return "\n".join(
        [
            f"{described.name}: {draws}{source}",
            COLUMNS.format("stage", "parameters", "GFLOP/step", *stages[0].memory, "by default").rstrip(),
            *(_row(stage, described) for stage in stages),
            COLUMNS.format("all", f"{sum(stage.num_parameters for stage in stages):,}", "", *total, "").rstrip(),
            exports,
            *(f"  {obstacle}" for obstacle in obstacles),
            *(f"not followed: {name}: {reason}" for name, reason in described.dropped.items()),
        ]
    )


def _row(stage: "StageInfo", described: "ModelInfo") -> str:
    settings = described.defaults.stages.get(stage.name)
    notes = [] if stage.storage is None else [f"stored as {stage.storage}"]
    notes.append(f"computes in {stage.number_format}")
    if settings is not None:
        plural = "s" if settings.num_steps > 1 else ""
        notes.insert(
            0, f"{settings.num_steps} step{plural} of {settings.sampler}, guidance {settings.guidance_scale:g}"
        )
    numbers = (f"{stage.num_parameters:,}", f"{stage.flops_per_step / 1e9:,.2f}", *map(_bytes, stage.memory.values()))
    return COLUMNS.format(stage.name, *numbers, "; ".join(notes)).rstrip()


def _bytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.2f} GB"
