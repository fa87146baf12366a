"""`unclip bench train`: what a training step takes. Knows how to print it; `unclip.bench` measures."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unclip.cli.bench.amounts import bytes_text, flops_text
from unclip.cli.bench.subject import chosen_subject
from unclip.cli.options import Device
from unclip.errors import InputError

if TYPE_CHECKING:
    from unclip.bench import TrainReport
    from unclip.training import TrainConfig


ROW = "  {:<14} {}"


def train(
    recipe: Annotated[str | None, typer.Option(help="Such as emoji/decoder; else --preset and --stage.")] = None,
    preset: Annotated[str | None, typer.Option(help="Of a model or a network.")] = None,
    stage: Annotated[str | None, typer.Option(help="clip, prior, decoder, upsampler_256, ...")] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="Change a shape, prior.depth=6, or a setting of the recipe.")
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images of a step; a preset: 8.")] = None,
    micro_batch: Annotated[int | None, typer.Option(min=1, help="Images of one forward pass; else all.")] = None,
    precision: Annotated[str | None, typer.Option(help="bfloat16, float16 or float32.")] = None,
    checkpointing: Annotated[bool, typer.Option("--checkpointing", help="Compute activations again.")] = False,
    text_tokens: Annotated[int | None, typer.Option(help="Length of texts; 0: networks that read none.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Steps to time.")] = 3,
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Measure steps of the trainer on made-up samples: seconds, images a second, memory, operations.

    A step is forward, backward, optimiser and averages; CLIP's features are given, as stored ones are.
    """
    from unclip.bench import bench_train

    config = _config(recipe, preset, stage, changes or [], text_tokens)
    asked: dict[str, Any] = {"batch_size": batch, "precision": precision}
    asked |= {"activation_checkpointing": True} if checkpointing else {}
    # A recipe's own passes may not divide another batch.
    asked |= {"micro_batch_size": micro_batch} if micro_batch is not None else {}
    config = config.replace(**{name: value for name, value in asked.items() if value is not None})
    rows = config.micro_batch_size
    if batch is not None and micro_batch is None and rows is not None and batch % rows:
        config = config.replace(micro_batch_size=None)
    rows = config.micro_batch_size
    if rows is not None and config.batch_size % rows:
        raise InputError(f"--batch {config.batch_size} does not divide in passes of {rows}; use a multiple.")
    report = bench_train(config, device=device, repeats=repeats)
    print(json.dumps(report.as_dict()) if as_json else as_text(report))


def as_text(report: "TrainReport") -> str:
    """A headline, and a line for each figure."""
    passes = f"{report.batch} in passes of {report.micro_batch_size}"
    extra = ", activation checkpointing" if report.activation_checkpointing else ""
    lines = [
        f"{report.name}, {report.num_parameters:,} parameters, {report.precision} on {report.machine}",
        ROW.format("batch", f"{passes}, {report.optimizer}{extra}"),
        ROW.format("step", f"{report.seconds_per_step:.4g} s, {report.images_per_second:.4g} images/s"),
        ROW.format("memory", bytes_text(report.peak_memory_bytes)),
        ROW.format("operations", f"{flops_text(report.flops_per_step)}FLOP a step"),
        ROW.format(
            "share of peak",
            f"{report.share_of_peak:.1%} of {report.peak.matmul / 1e12:.3g} TFLOP/s measured "
            f"(convolutions {report.peak.convolution / 1e12:.3g})",
        ),
    ]
    return "\n".join(lines)


def _config(
    recipe: str | None, preset: str | None, stage: str | None, changes: list[str], text_tokens: int | None
) -> "TrainConfig":
    if recipe is not None and preset is not None:
        raise InputError(f"--recipe {recipe} and --preset {preset} are two things to train; give one of them.")
    if recipe is None and preset is None:
        raise InputError("give what to train: --recipe emoji/decoder, or --preset karlo --stage decoder.")
    if recipe is not None:
        if stage is not None or text_tokens is not None:
            raise InputError(f"--stage and --text-tokens belong to --preset; the recipe {recipe} says both.")
        return _of_recipe(recipe, changes)
    from unclip.bench import train_config

    if stage is None:
        raise InputError(f"--preset {preset} needs a --stage to train, such as prior or decoder.")
    subject = chosen_subject(preset, None, stage, changes, text_tokens)
    return train_config(f"{subject.name}/{stage}", subject.networks[stage])


def _of_recipe(recipe: str, changes: list[str]) -> "TrainConfig":
    """The recipe; a setting that begins with its stage is one of the network's shape."""
    from unclip import recipes
    from unclip.cli.train import parse_change
    from unclip.config import override

    own = f"{recipe.split('/')[-1]}."
    settings = {
        f"task.model.{name.removeprefix(own)}" if name.startswith(own) else name: value
        for name, value in (parse_change(change) for change in changes)
    }
    return override(recipes.get_recipe(recipe), settings)
