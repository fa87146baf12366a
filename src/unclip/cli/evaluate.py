"""`unclip evaluate`: a model, or a folder of pictures, against a reference. Knows options; pipelines measure."""

import inspect
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unclip.cli.embed import parse_node
from unclip.cli.options import Device
from unclip.cli.per_stage import parse_per_stage
from unclip.errors import InputError, did_you_mean
from unclip.progress import on_terminal, say, show_progress

if TYPE_CHECKING:
    from unclip.evaluate import Evaluation
    from unclip.metrics import FeatureNetwork


COCO_SIZE = 256
# What is swept, by the option that sets it, and what its values are.
SWEPT = {"guidance": ("guidance_scale", float), "steps": ("num_steps", int), "sampler": ("sampler", str)}


def evaluate(
    model: Annotated[str | None, typer.Argument(help="A shipped model, a folder or a hub id.")] = None,
    prompts: Annotated[str | None, typer.Option(help="A .txt, COCO's .json, or a set of captioned pictures.")] = None,
    reference: Annotated[str | None, typer.Option(help="Real pictures: a folder, a table or shards.")] = None,
    coco: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="CAPTIONS.json FOLDER", help="Both of COCO: 30,000 captions at 256 px."),
    ] = None,
    images: Annotated[str | None, typer.Option(help="Pictures to evaluate in place of a model.")] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder for the results; work goes on there.")] = None,
    metrics: Annotated[str | None, typer.Option(help="fid,kid,...; else all that there are features for.")] = None,
    features: Annotated[str, typer.Option(help="inception, dinov2-vitl14, clip:MODEL; with commas.")] = "inception",
    weights: Annotated[list[str] | None, typer.Option(help="inception=FILE: weights of a feature network.")] = None,
    num_images: Annotated[int | None, typer.Option("-n", "--num-images", help="Pictures to draw.")] = None,
    images_per_prompt: Annotated[int, typer.Option(help="Pictures of each prompt.")] = 1,
    size: Annotated[int | None, typer.Option(help="Side at which pictures are compared.")] = None,
    seed: Annotated[int, typer.Option(help="Of captions and pictures.")] = 0,
    steps: Annotated[str | None, typer.Option(help="For all stages, or prior=25,decoder=25.")] = None,
    guidance: Annotated[str | None, typer.Option(help="1 is off; for all stages, or prior=1,decoder=3.")] = None,
    sampler: Annotated[str | None, typer.Option(help="As for generate; also per stage.")] = None,
    sweep: Annotated[list[str] | None, typer.Option(help="guidance.decoder=1,2,3: evaluate each.")] = None,
    bootstrap: Annotated[int, typer.Option(help="Sets redrawn for 95 % intervals; 0: none.")] = 0,
    batch_size: Annotated[int | None, typer.Option(help="Pictures that go through a network together.")] = None,
    suites: Annotated[str | None, typer.Option(help="prior,round_trip,upsampler,diversity: single stages.")] = None,
    suite_pictures: Annotated[int, typer.Option(help="Real pictures that suites look at.")] = 64,
    keep_pictures: Annotated[bool, typer.Option("--keep-pictures", help="Keep all, not only the first 64.")] = False,
    node: Annotated[str | None, typer.Option(help="This process's share: 0/4 to 3/4; else torchrun's.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Where features of folders are kept; else UNCLIP_CACHE.")] = None,
    card: Annotated[Path | None, typer.Option(help="A model card that gets the figures between its marks.")] = None,
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Measure a model on prompts, or a folder of pictures; the same command again goes on where it stopped."""
    command = _command(locals())
    if coco is not None:
        if prompts is not None or reference is not None:
            raise InputError("--coco brings prompts and reference; leave out --prompts and --reference.")
        prompts, reference, size = coco[0], coco[1], size or COCO_SIZE
    _check(model, images, prompts, out)
    if card is not None and not card.is_file():
        raise InputError(f"there is no model card {card}; give a Markdown file that is there.")
    from unclip.evaluate import EvaluateOptions, embed_in_card, evaluate_folders, evaluate_model
    from unclip.pipelines import UnClip

    options = EvaluateOptions(
        metrics=_names(metrics),
        size=size,
        seed=seed,
        bootstrap=bootstrap,
        batch_size=batch_size,
        node=_node(node),
        cache=cache,
        num_images=num_images,
        images_per_prompt=images_per_prompt,
        num_steps=parse_per_stage("--steps", steps, int),
        guidance_scale=parse_per_stage("--guidance", guidance, float),
        sampler=parse_per_stage("--sampler", sampler, str),
        sweep=dict(map(_parse_sweep, sweep or ())),
        suites=_names(suites) or (),
        num_suite_pictures=suite_pictures,
        keep_pictures=keep_pictures,
        command=command,
    )
    device = _local_device(device)
    pipe = None if model is None else UnClip.load(model, device)
    _check_paths(prompts, reference, images)
    networks = _open_networks(_names(features) or [], weights or [], device, cache)
    try:
        if pipe is None or prompts is None or out is None:
            assert images is not None, "checked above"
            result = evaluate_folders(
                images, reference, networks, out, options=options, captions=prompts, progress=_tell
            )
        else:
            result = evaluate_model(pipe, prompts, reference, networks, out, options=options, progress=_tell)
    except KeyboardInterrupt:
        say("unclip: interrupted; the same command goes on")
        raise
    if card is not None and result is not None:
        embed_in_card(card, result, command=options.command)
    _report(result, out, as_json)


def _tell(stage: str, done: int, total: int) -> None:
    """Progress; where nobody watches, not of the reading, which a line about a wrong input may follow."""
    if stage != "reading" or on_terminal():
        show_progress(stage, done, total, "done")


def _check_paths(*locations: str | None) -> None:
    """Raise `InputError` for a file that is not there, before networks are fetched."""
    for location in filter(None, locations):
        is_name = "://" not in location and not any(mark in location for mark in "*{")
        if is_name and not Path(location).exists():
            raise InputError(f"there is no {location}; give a file or folder that is there.")


def _check(model: str | None, images: str | None, prompts: str | None, out: Path | None) -> None:
    """Raise `InputError` unless there is either a model with prompts and a folder, or a folder of pictures."""
    if (model is None) == (images is None):
        raise InputError("give either a model to draw with, or --images FOLDER.")
    if model is not None and prompts is None:
        raise InputError(f"{model} draws prompts; give --prompts FILE, or --coco CAPTIONS.json FOLDER.")
    if model is not None and out is None:
        raise InputError("what is drawn is kept in a folder, from which an interrupted run goes on; name one with -o.")


def _command(values: Mapping[str, object]) -> str:
    """The command line of these parameters of `evaluate`, those that are not the defaults.

    Not the process's own arguments: those may be another program's, a notebook's or a server's.
    """
    words = ["unclip", "evaluate"]
    for name, parameter in inspect.signature(evaluate).parameters.items():
        value, info = values[name], parameter.annotation.__metadata__[0]
        if value == parameter.default:
            continue
        long_names = [text for text in info.param_decls or () if text.startswith("--")]
        option = long_names[0] if long_names else f"--{name.replace('_', '-')}"
        if isinstance(info, typer.models.ArgumentInfo):
            words.append(str(value))
        elif value is True:
            words.append(option)
        else:
            for one in value if isinstance(value, list) else [value]:
                words += [option, *map(str, one if isinstance(one, tuple) else [one])]
    return shlex.join(words)


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _parse_sweep(text: str) -> tuple[str, list[Any]]:
    """`guidance.decoder=1,2` as the name of a setting and its values; raises `InputError` for anything else."""
    name, separator, values = text.partition("=")
    option, dot, stage = name.strip().partition(".")
    if not separator or option not in SWEPT:
        hint = did_you_mean(option, SWEPT)
        raise InputError(f"--sweep {text!r} cannot be read; write guidance.decoder=1,2,3; {hint}")
    setting, kind = SWEPT[option]
    try:
        return f"{setting}{dot}{stage}", [kind(value.strip()) for value in values.split(",")]
    except ValueError:
        raise InputError(f"--sweep {text!r} has a value that is no number; write guidance.decoder=1,2,3.") from None


def _node(text: str | None) -> tuple[int, int]:
    """The share that was asked for, or that of a launcher such as torchrun."""
    if text is not None:
        return parse_node(text)
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def _local_device(device: str) -> str:
    """The GPU of a launcher's process, where no device was named."""
    rank = os.environ.get("LOCAL_RANK")
    if device != "auto" or rank is None:
        return device
    import torch

    return f"cuda:{rank}" if torch.cuda.is_available() else device


def _open_networks(
    names: Sequence[str], weights: Sequence[str], device: str, cache: Path | None
) -> "list[FeatureNetwork]":
    from unclip.evaluate import open_features

    files = _weights(weights, names)
    return [open_features(name, files.get(name), device, cache) for name in names]


def _weights(given: Sequence[str], names: Sequence[str]) -> Mapping[str, Path]:
    """`inception=FILE` by name; raises `InputError` for a network that is not used."""
    files = dict[str, Path]()
    for text in given:
        name, separator, path = text.partition("=")
        if not separator or not path:
            raise InputError(f"--weights {text!r} cannot be read; write inception=FILE.")
        if name not in names:
            raise InputError(f"--weights {text!r} is of a network that is not used; {did_you_mean(name, names)}")
        files[name] = Path(path)
    return files


def _report(result: "Evaluation | None", out: Path | None, as_json: bool) -> None:
    if result is None:
        say("chunks of other processes are not there yet; the last of them writes the results")
        return
    if as_json:
        print(result.model_dump_json())
        return
    notes = [*result.notes, *(figure.warning for figure in result.points[0].figures if figure.warning)]
    for note in notes:
        say(f"note: {note}")
    print("\n".join(_lines(result)))
    if out is not None:
        print(out / "report.html")


def _lines(result: "Evaluation") -> list[str]:
    """A line for each figure of each point, and for the measures of single stages."""
    lines = []
    for point in result.points:
        before = f"{point.label}: " if point.label else ""
        for figure in point.figures:
            interval = "" if figure.low is None else f" [{figure.low:.4g}, {figure.high:.4g}]"
            lines.append(f"{before}{figure.title} {figure.value:.6g}{interval}")
        for suite, measures in point.suites.items():
            lines += [f"{before}{suite} {name} {value:.6g}" for name, value in measures.items()]
        if point.seconds_per_image is not None:
            lines.append(f"{before}seconds per image {point.seconds_per_image:.4g}")
    return lines
