"""The commands `evaluate`, of a model or a folder of pictures, and `compare`, of several results on one page."""

import inspect
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option
from typer.models import ArgumentInfo

from unclip.cli.options import NODE_EXAMPLE, AsJson, Device, help_of, parse_pair, parse_per_stage
from unclip.errors import InputError, did_you_mean
from unclip.progress import on_terminal, say, show_progress

if TYPE_CHECKING:
    from unclip.evaluate import Evaluation, Speed
    from unclip.metrics import FeatureNetwork

COCO_SIZE = 256
# The settings that --sweep takes, by the option that sets each, and the type of their values.
SWEPT = {"guidance": ("guidance_scale", float), "steps": ("num_steps", int), "sampler": ("sampler", str)}


def evaluate(
    model: Annotated[str | None, Argument(help="A shipped model, a folder or a hub id.")] = None,
    prompts: Annotated[str | None, Option(help="A .txt, COCO's .json, or a set of captioned pictures.")] = None,
    reference: Annotated[str | None, Option(help="Real pictures: a folder, a table or shards.")] = None,
    coco: Annotated[
        tuple[str, str] | None,
        Option(metavar="CAPTIONS.json FOLDER", help="Both of COCO: 30,000 captions at 256 px."),
    ] = None,
    images: Annotated[str | None, Option(help="Pictures to evaluate in place of a model.")] = None,
    out: Annotated[Path | None, Option("-o", "--out", help="Folder for the results; work goes on there.")] = None,
    metrics: Annotated[str | None, Option(help="fid,kid,...; else all that there are features for.")] = None,
    features: Annotated[str, Option(help="inception, dinov2-vitl14, clip:MODEL; with commas.")] = "inception",
    weights: Annotated[list[str] | None, Option(help="inception=FILE: weights of a feature network.")] = None,
    num_images: Annotated[int | None, Option("-n", "--num-images", help=help_of("num_images"))] = None,
    images_per_prompt: Annotated[int, Option(help="Pictures of each prompt.")] = 1,
    size: Annotated[int | None, Option(help="Side at which pictures are compared.")] = None,
    seed: Annotated[int, Option(help="Of captions and pictures.")] = 0,
    steps: Annotated[str | None, Option(help="For all stages, or prior=25,decoder=25.")] = None,
    guidance: Annotated[str | None, Option(help=help_of("guidance_scale"))] = None,
    sampler: Annotated[str | None, Option(help="As for generate; also per stage.")] = None,
    sweep: Annotated[list[str] | None, Option(help="guidance.decoder=1,2,3: evaluate each.")] = None,
    bootstrap: Annotated[int, Option(help="Sets redrawn for 95 % intervals; 0: none.")] = 0,
    batch_size: Annotated[int | None, Option(help="Pictures that go through a network together.")] = None,
    suites: Annotated[str | None, Option(help="prior,round_trip,upsampler,diversity: single stages.")] = None,
    suite_pictures: Annotated[int, Option(help="Real pictures that suites look at.")] = 64,
    keep_pictures: Annotated[bool, Option("--keep-pictures", help="Keep all, not only the first 64.")] = False,
    node: Annotated[str | None, Option(help="This process's share: 0/4 to 3/4; else torchrun's.")] = None,
    cache: Annotated[Path | None, Option(help="Where features of folders are kept; else UNCLIP_CACHE.")] = None,
    card: Annotated[Path | None, Option(help="A model card that gets the figures between its marks.")] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Measure a model on prompts, or a folder of pictures; the same command again goes on where it stopped."""
    command = _command_line(locals())
    if coco is not None:
        if prompts is not None or reference is not None:
            raise InputError("--coco brings prompts and reference; leave out --prompts and --reference.")
        prompts, reference, size = coco[0], coco[1], size or COCO_SIZE
    _check_subject(model, images, prompts, out, card)
    from unclip.evaluate import EvaluateOptions, embed_in_card, evaluate_folders, evaluate_model
    from unclip.pipelines import UnClip
    from unclip.training.distributed import launcher_share

    share, device = launcher_share(device)
    options = EvaluateOptions(
        metrics=_names(metrics),
        size=size,
        seed=seed,
        bootstrap=bootstrap,
        batch_size=batch_size,
        node=share if node is None else parse_pair("--node", node, "/", NODE_EXAMPLE),
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
    pipe = None if model is None else UnClip.load(model, device)
    for location in filter(None, (prompts, reference, images)):  # before networks are fetched
        if not ("://" in location or any(mark in location for mark in "*{") or Path(location).exists()):
            raise InputError(f"there is no {location}; give a file or folder that is there.")
    networks = _open_networks(_names(features) or [], weights or [], device, cache)
    shared: dict[str, Any] = {"options": options, "progress": _show_progress}
    try:
        if pipe is not None and prompts is not None and out is not None:
            result = evaluate_model(pipe, prompts, reference, networks, out, **shared)
        else:
            assert images is not None, "checked above"
            result = evaluate_folders(images, reference, networks, out, captions=prompts, **shared)
    except KeyboardInterrupt:
        say("unclip: interrupted; the same command goes on")
        raise
    if card is not None and result is not None:
        embed_in_card(card, result, command=command)
    _print_result(result, out, as_json)


def _check_subject(
    model: str | None, images: str | None, prompts: str | None, out: Path | None, card: Path | None
) -> None:
    """Raise `InputError` unless a model has prompts and a folder, or there are pictures; a card must exist."""
    if (model is None) == (images is None):
        raise InputError("give either a model to draw with, or --images FOLDER.")
    if model is not None and prompts is None:
        raise InputError(f"{model} draws prompts; give --prompts FILE, or --coco CAPTIONS.json FOLDER.")
    if model is not None and out is None:
        raise InputError("drawn pictures are kept, so that an interrupted run can resume; name one with -o FOLDER.")
    if card is not None and not card.is_file():
        raise InputError(f"there is no model card {card}; give a Markdown file that is there.")


def _command_line(values: Mapping[str, object]) -> str:
    """Write the command line of these parameters of `evaluate`, without defaults.

    Not the process's own arguments: those may be another program's, a notebook's or a server's.
    """
    words = ["unclip", "evaluate"]
    for name, parameter in inspect.signature(evaluate).parameters.items():
        value, info = values[name], parameter.annotation.__metadata__[0]
        # typer keeps the first name of an annotated option as its default.
        flags = [flag for flag in (info.default, *(info.param_decls or ())) if str(flag).startswith("--")]
        option = [] if isinstance(info, ArgumentInfo) else flags[:1] or [f"--{name.replace('_', '-')}"]
        if value is True:
            words += option
        elif value != parameter.default:
            for one in value if isinstance(value, list) else [value]:
                words += [*option, *map(str, one if isinstance(one, tuple) else [one])]
    return shlex.join(words)


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _parse_sweep(text: str) -> tuple[str, list[Any]]:
    """Read `guidance.decoder=1,2` as a setting and its values; raises `InputError` for anything else."""
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


def _open_networks(
    names: Sequence[str], weights: Sequence[str], device: str, cache: Path | None
) -> "list[FeatureNetwork]":
    """Open feature networks, with weights from `inception=FILE`; raises `InputError` for those of an unused network."""
    from unclip.evaluate import open_features

    files = dict[str, Path]()
    for text in weights:
        name, separator, path = text.partition("=")
        if not separator or not path:
            raise InputError(f"--weights {text!r} cannot be read; write inception=FILE.")
        if name not in names:
            raise InputError(f"--weights {text!r} is of a network that is not used; {did_you_mean(name, names)}")
        files[name] = Path(path)
    return [open_features(name, files.get(name), device, cache) for name in names]


def _show_progress(stage: str, done: int, total: int) -> None:
    """Show progress; where stderr is no terminal, not of reading, which an error about the input may follow."""
    if stage != "reading" or on_terminal():
        show_progress(stage, done, total, "done")


def _print_result(result: "Evaluation | None", out: Path | None, as_json: bool) -> None:
    """Print a line for each figure of each point, and for the measures of single stages."""
    if result is None:
        say("chunks of other processes are not there yet; the last of them writes the results")
        return
    if as_json:
        print(result.model_dump_json())
        return
    for note in [*result.notes, *(figure.warning for figure in result.points[0].figures if figure.warning)]:
        say(f"note: {note}")
    for point in result.points:
        before = f"{point.label}: " if point.label else ""
        for figure in point.figures:
            interval = "" if figure.low is None else f" [{figure.low:.4g}, {figure.high:.4g}]"
            print(f"{before}{figure.title} {figure.value:.6g}{interval}")
        for suite, measures in point.suites.items():
            for name, value in measures.items():
                print(f"{before}{suite} {name} {value:.6g}")
        if point.seconds_per_image is not None:
            print(f"{before}seconds per image {point.seconds_per_image:.4g}")
    if out is not None:
        print(out / "report.html")


def compare(
    results: Annotated[
        list[Path], Argument(help="results.json of `evaluate`, lines that `bench sample --json` printed.")
    ],
    out: Annotated[Path, Option("-o", "--out", help="Folder for comparison.html and comparison.md.")],
) -> None:
    """Put evaluations and timings on one page: tables, quality against seconds, memory against size."""
    from unclip.evaluate import write_comparison

    evaluations, speeds = list["Evaluation"](), list["Speed"]()
    for path in results:
        for record in _read_objects(path):
            if record.get("command") == "bench sample":
                speeds += _speeds(path, record)
            else:
                evaluations.append(_evaluation(path, record))
    print(write_comparison(evaluations, out, speeds=speeds))


def read_evaluation(path: Path) -> "Evaluation":
    """Read the one evaluation in a file; raises `InputError` and `ConfigError` in one line for anything else."""
    records = _read_objects(path)
    if len(records) != 1:
        raise InputError(f"{path} holds {len(records)} results, not one; give the results.json of an evaluation.")
    return _evaluation(path, records[0])


def _read_objects(path: Path) -> list[Mapping[str, Any]]:
    """Read the JSON objects that follow each other in a file."""
    records = []
    try:
        text = path.read_text(encoding="utf-8").strip()
        while text:
            record, end = json.JSONDecoder().raw_decode(text)
            records.append(record)
            text = text[end:].lstrip()
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}); give the results.json of an evaluation.") from None
    if not all(isinstance(record, dict) for record in records):
        raise InputError(f"{path} holds no evaluation and no timing; give the results.json of one.")
    return records


def _evaluation(path: Path, record: Mapping[str, Any]) -> "Evaluation":
    from unclip.config import load_config
    from unclip.evaluate import Evaluation

    if "points" not in record:
        raise InputError(f"{path} holds no evaluation; give the results.json of one.")
    return load_config(Evaluation, record)


def _speeds(path: Path, record: Mapping[str, Any]) -> Iterator["Speed"]:
    """Read a timing for each batch size of a benchmark."""
    from unclip.config import load_config
    from unclip.evaluate import Speed

    if record.get("image_size") is None:
        raise InputError(f"{path} has timings of {record.get('subject')} without a picture; measure all stages.")
    shared = {name: record[name] for name in ("subject", "image_size", "machine")}
    for batch in record["batches"]:
        figures = {"seconds_per_image": batch["seconds_per_image"], "peak_bytes": batch["peak_memory_bytes"]}
        yield load_config(Speed, {**shared, **figures, "batch_size": batch["batch"]})
