"""`unclip info`: what a model is made of. Knows how to print it; loads no weights."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from unclip.pipelines import ModelInfo

__all__ = ["info"]


def info(
    model: Annotated[str, typer.Argument(help="A shipped model, or a model folder.")] = "emoji",
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Show the stages of a model, their sizes and their default settings."""
    from unclip.pipelines import describe_model

    described = describe_model(model)
    print(described.model_dump_json() if as_json else as_text(described))


def as_text(described: "ModelInfo") -> str:
    """A line about the model, then one per stage."""
    sizes = ", ".join(f"{size} px" for size in described.image_sizes)
    total = sum(stage.num_bytes for stage in described.stages)
    lines = [f"{described.name}: draws {sizes}; {_megabytes(total)} in {described.folder}"]
    for stage in described.stages:
        size = f"{stage.num_parameters:>13,} parameters  {_megabytes(stage.num_bytes):>8}  {stage.storage:<8}"
        settings = described.defaults.stages.get(stage.name)
        defaults = (
            ""
            if settings is None
            else (f"  {settings.num_steps} steps of {settings.sampler}, guidance {settings.guidance_scale:g}")
        )
        lines.append(f"  {stage.name:<15} {size}{defaults}".rstrip())
    return "\n".join(lines)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
