"""The commands for data sets: `unclip data prepare`, `check`, `filter`, `stats`, `emoji`, and `unclip embed`."""

import importlib
import os
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from typer import Argument, Exit, Option, Typer

from unclip.cli.options import NODE_EXAMPLE, AsJson, Device, parse_pair
from unclip.errors import InputError, did_you_mean
from unclip.progress import say, show_progress

if TYPE_CHECKING:
    from PIL import Image

    from unclip.data import CheckReport, Source, Stats
    from unclip.safety.classifier import OpenNsfw

NUM_SHOWN = 20
NUM_DAMAGED_SHOWN = 5
FINDINGS_EXIT = 1
# A process takes two seconds to start, in which this one prepares some two hundred pictures.
WORTH_PROCESSES = 2000
MAX_WORKERS = 8
MAX_EMBED_WORKERS = 16
KEPT = ("nsfw", "duplicates")
"""What `filter` need not look for."""

Location: TypeAlias = Annotated[str, Argument(help="A folder, a table, a .tar, a saved set, or a URL of shards.")]
Captions: TypeAlias = Annotated[str | None, Option(help="txt, table, folders or none; else it is found out.")]
ImageColumn: TypeAlias = Annotated[str | None, Option(help="The table's column of pictures, if unusual.")]
CaptionColumn: TypeAlias = Annotated[
    str | None, Option(help="The table's column of captions, or the field of each .json, if unusual.")
]
Workers: TypeAlias = Annotated[
    int | None, Option(help="Processes that decode pictures; else one, and one per core from 2000 pictures on.")
]

data_app = Typer(help="Make and examine data sets.", rich_markup_mode=None)


@data_app.command()
def prepare(
    source: Location,
    out: Annotated[Path, Argument(help="New folder for the shards.")],
    image_size: Annotated[int, Option(help="Side in pixels.")],
    crop: Annotated[str, Option(help="center, shortest, pad, stretch or none.")] = "center",
    allow_upscale: Annotated[bool, Option("--allow-upscale", help="Enlarge pictures that are too small.")] = False,
    form: Annotated[str, Option("--format", help="png, webp or jpg.")] = "png",
    quality: Annotated[int, Option(help="1 to 100, of webp and jpg.")] = 95,
    samples_per_shard: Annotated[int, Option(help="Samples in each .tar.")] = 1000,
    shuffle: Annotated[bool, Option(help="Mix the samples; else they keep their order.")] = True,
    captions: Captions = None,
    image_column: ImageColumn = None,
    caption_column: CaptionColumn = None,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Make WebDataset shards of one size from captioned pictures, however they are kept.

    center cuts the largest square, shortest scales the shorter side and cuts nothing, pad puts the whole picture on a
    white square, stretch ignores proportions, none keeps every size. Pictures that are damaged or too small are left
    out and named in skipped.jsonl.
    """
    from unclip.config import load_config
    from unclip.data import PrepareConfig
    from unclip.data import prepare as write

    settings = {"image_size": image_size, "crop": crop, "allow_upscale": allow_upscale, "shuffle": shuffle}
    settings |= {"samples_per_shard": samples_per_shard, "form": {"suffix": form, "quality": quality}}
    config = load_config(PrepareConfig, settings)
    samples, processes = open_source(source, captions, image_column, caption_column, workers)
    prepared = write(samples, out, config, partial(show_progress, "prepare", unit="pictures"), num_workers=processes)
    skipped = f"; {prepared.num_skipped} skipped, see {out / 'skipped.jsonl'}" if prepared.num_skipped else ""
    without = f", {prepared.num_uncaptioned} without a caption" if prepared.num_uncaptioned else ""
    summary = f"{out}: {prepared.num_written} samples{without} in {len(prepared.shards)} shards{skipped}"
    print(prepared.model_dump_json() if as_json else summary)


@data_app.command()
def check(
    source: Location,
    min_side: Annotated[int, Option(help="Pixels that the shorter side has at least.")] = 64,
    max_aspect: Annotated[float, Option(help="Longer side by shorter side, at most.")] = 4.0,
    max_distance: Annotated[int, Option(help="Bits of 64 in which hashes of duplicates differ, at most.")] = 4,
    nsfw: Annotated[str | None, Option(help="module:function that scores a PIL picture.")] = None,
    nsfw_threshold: Annotated[float, Option(help="The score from which a picture is a finding.")] = 0.5,
    max_bad: Annotated[float, Option(help="Share of bad samples, 0 to 1, up to which the exit code is 0.")] = 0.0,
    captions: Captions = None,
    image_column: ImageColumn = None,
    caption_column: CaptionColumn = None,
    workers: Workers = None,
    out: Annotated[Path | None, Option("-o", "--out", help="A .json file for the whole report.")] = None,
    as_json: Annotated[bool, Option("--json", help="Print the whole report as one line of JSON.")] = False,
) -> None:
    """Find pictures that are unreadable, tiny, extreme, double or without caption, and say what the captions are like.

    Exit code 0: no more than --max-bad of the samples have a problem; 1: more; 2: wrong input.
    """
    from unclip.config import load_config
    from unclip.data import CheckConfig
    from unclip.data import check as find
    from unclip.files import atomic_write, check_writable

    if not 0 <= max_bad <= 1:
        raise InputError(f"--max-bad {max_bad} is no share; use 0 (none) to 1 (all).")
    check_writable([] if out is None else [out])
    settings = {"min_side": min_side, "max_aspect": max_aspect, "max_distance": max_distance}
    config = load_config(CheckConfig, {**settings, "nsfw_threshold": nsfw_threshold})
    judge = None if nsfw is None else import_function(nsfw)
    samples, processes = open_source(source, captions, image_column, caption_column, workers)
    progress = partial(show_progress, "check", unit="pictures")
    report = find(samples, config, progress, nsfw=judge, num_workers=processes)
    if out is not None:
        atomic_write(out, report.model_dump_json(indent=1) + "\n")
    print(report.model_dump_json() if as_json else check_text(report))
    if report.bad_share > max_bad:
        raise Exit(FINDINGS_EXIT)


def import_function(name: str, option: str = "--nsfw", purpose: str = "scores a picture") -> Callable[..., Any]:
    """Import the function called `module:function`; raises `InputError` if there is none."""
    module, _, function = name.partition(":")
    try:
        imported = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{option} {name!r} cannot be imported ({error}); write module:function.") from None
    if not callable(imported):
        raise InputError(f"{option} {name!r} is a {type(imported).__name__}, not a function that {purpose}.")
    return imported


def check_text(report: "CheckReport") -> str:
    """Write the first findings, a line each, and a summary."""
    lines = [f"{finding.name}: {finding.problem} ({finding.detail})" for finding in report.findings[:NUM_SHOWN]]
    if len(report.findings) > NUM_SHOWN:
        lines.append(f"... and {len(report.findings) - NUM_SHOWN} more; -o FILE writes them all")
    captions = report.captions
    if repeated := [f"{count} times {text!r}" for text, count in list(captions.repeated_captions.items())[:3]]:
        lines.append(f"captions that repeat: {', '.join(repeated)}")
    if captions.num_captions == 0:
        lines.append("no sample has a caption: train without text, or name the captions' field by --caption-column")
    if captions.num_cut:
        lines.append(f"captions longer than CLIP reads: {captions.num_cut} of {captions.num_captions}")
    counts = ", ".join(f"{count} {problem}" for problem, count in sorted(report.counts.items()))
    lines.append(f"{report.num_bad} of {report.num_samples} samples have a problem{f': {counts}' if counts else ''}")
    return "\n".join(lines)


@data_app.command("filter")
def filter_set(
    source: Location,
    out: Annotated[Path, Argument(help="New folder for the shards.")],
    nsfw_threshold: Annotated[float, Option("--nsfw", help="The score from which a picture is removed, 0 to 1.")] = 0.5,
    max_distance: Annotated[int, Option(help="Bits of 64 in which hashes of duplicates differ, at most.")] = 4,
    opt_out: Annotated[
        list[Path] | None, Option(help="A list: SHA-256, URL, domain, file name or words a line; repeat for several.")
    ] = None,
    hook: Annotated[
        str | None, Option(help="module:function of picture, captions and fields, which returns a reason or None.")
    ] = None,
    keep: Annotated[str, Option(help="nsfw,duplicates: do not look for these.")] = "",
    dry_run: Annotated[bool, Option("--dry-run", help="Count, and write nothing.")] = False,
    samples_per_shard: Annotated[int, Option(help="Samples in each .tar.")] = 1000,
    captions: Captions = None,
    image_column: ImageColumn = None,
    caption_column: CaptionColumn = None,
    workers: Workers = None,
    as_json: Annotated[bool, Option("--json", help="Print the whole report as one line of JSON.")] = False,
) -> None:
    """Copy a set as shards without NSFW pictures, duplicates, what opted out and what a hook finds.

    Pictures, captions and fields stay as they are. filter.json names each removed sample with its first reason, looked
    for in this order: opt-out, unreadable, NSFW, hook, duplicate.
    """
    from unclip.data import FilterConfig, OptOut, filter_samples

    kept = {name.strip() for name in keep.split(",") if name.strip()}
    for name in kept - {*KEPT}:
        raise InputError(f"--keep {name!r} is unknown; {did_you_mean(name, KEPT)}")
    found = None if hook is None else import_function(hook, "--hook", "takes a picture, its captions and its fields")
    config = FilterConfig(
        nsfw_threshold=nsfw_threshold,
        max_distance=None if "duplicates" in kept else max_distance,
        samples_per_shard=samples_per_shard,
    )
    lists = OptOut.read(opt_out or [])
    if "nsfw" not in kept:
        open_nsfw()  # refused here where the package is missing
    samples, processes = open_source(source, captions, image_column, caption_column, workers)
    report = filter_samples(
        samples,
        None if dry_run else out,
        config,
        partial(show_progress, "filter", unit="pictures"),
        nsfw=None if "nsfw" in kept else nsfw_score,
        opt_out=lists,
        hook=found,
        num_workers=processes,
    )
    place = "nothing was written" if dry_run else f"see {out / 'filter.json'}"
    summary = f"{out}: {report.num_kept} of {report.num_read} samples kept; removed: {report.counts_text}; {place}"
    print(report.model_dump_json() if as_json else summary)


@cache  # for all pictures that a process scores
def open_nsfw() -> "OpenNsfw":
    """Open the classifier; raises `DependencyError` where its package is missing."""
    from unclip.safety.classifier import OpenNsfw

    return OpenNsfw()


def nsfw_score(picture: "Image.Image") -> float:
    """Return how likely a picture is sexual, 0 to 1; a function of a module, so that processes can be given it."""
    return open_nsfw().classify([picture])[0]["sexual"]


@data_app.command()
def stats(
    source: Location,
    image_size: Annotated[int, Option(help="Estimate what shards of this size would take.")] = 64,
    captions: Captions = None,
    image_column: ImageColumn = None,
    caption_column: CaptionColumn = None,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Show how many pictures there are, their sizes and colours, what the captions are like, and the disk they need."""
    from unclip.data import PrepareConfig
    from unclip.data import stats as measure

    samples, processes = open_source(source, captions, image_column, caption_column, workers)
    config = PrepareConfig(image_size=image_size, allow_upscale=True)
    counted = measure(samples, config, partial(show_progress, "stats", unit="pictures"), num_workers=processes)
    print(counted.model_dump_json() if as_json else stats_text(counted, image_size))


def stats_text(counted: "Stats", image_size: int) -> str:
    """Write a line for each kind of number."""

    def classes(counts: Mapping[str, int]) -> str:
        return ", ".join(f"{label}: {count:,}" for label, count in counts.items() if count)

    assert counted.prepared_bytes is not None
    readable, captions = counted.num_samples - counted.num_unreadable, counted.captions
    rows = {
        "pictures": f"{readable:,} of {counted.num_samples:,} can be read, {counted.num_bytes / 1e6:,.1f} MB",
        "shorter side": classes(counted.sides),
        "width / height": classes(counted.aspects),
        "mean": f"{' '.join(f'{value:.3f}' for value in counted.mean)} (red, green, blue in 0 to 1)",
        "deviation": " ".join(f"{value:.3f}" for value in counted.std),
        "captions": f"{captions.num_captions:,}, {captions.num_distinct:,} different; "
        f"{captions.num_uncaptioned:,} pictures have none",
    }
    if captions.words is not None and captions.tokens is not None:
        spans = (captions.words, captions.tokens)
        words, tokens = ((f"{span.smallest:g} to {span.largest:g}", f"median {span.median:g}") for span in spans)
        rows |= {
            "words": f"{words[0]} a caption, {words[1]}",
            "tokens": f"{', '.join(tokens)}; {captions.num_cut:,} captions are longer than the 77 CLIP reads",
            "frequent words": ", ".join(f"{word} {n}" for word, n in list(captions.frequent_words.items())[:10]),
        }
    rows["as shards"] = f"about {counted.prepared_bytes / 1e6:,.1f} MB at {image_size} pixels, PNG"
    return "\n".join(f"{name:<15} {text}" for name, text in rows.items())


@data_app.command()
def emoji(
    out: Annotated[Path, Argument(help="Folder for the shards.")],
    image_size: Annotated[int, Option(help="Side of the pictures in pixels.")] = 64,
    split: Annotated[str, Option(help="train or test.")] = "train",
    compositions: Annotated[int, Option(help="New pictures to add: pairs, counts, other colours, hats.")] = 0,
) -> None:
    """Rasterise the emoji set into WebDataset shards, with alpha."""
    from unclip.data import write_emoji_shards

    progress = partial(show_progress, split, unit="pictures")
    write_emoji_shards(out, image_size, split, progress=progress, compositions=compositions)
    print(out)


def open_source(
    location: str, captions: str | None, image_column: str | None, caption_column: str | None, workers: int | None
) -> tuple["Source", int]:
    """Open the source and say on stderr what it was taken for; returns it and the processes that decode it."""
    from unclip import data

    source = data.open_source(location, captions, image_column=image_column, caption_column=caption_column)
    without = f"; {source.num_uncaptioned} without a caption" if source.num_uncaptioned else ""
    say(f"{location}: {source.description}{without}")
    return source, num_workers(workers, source)


def num_workers(workers: int | None, source: "Source") -> int:
    """Return how many processes to use: `workers`, or as many as are worth their start."""
    if workers is None:
        return min(os.cpu_count() or 1, MAX_WORKERS) if len(source) >= WORTH_PROCESSES else 1
    if workers < 1:
        raise InputError(f"--workers {workers} does nothing; use 1 or more.")
    return workers


def embed(
    shards: Annotated[str, Argument(help="A folder of .tar shards, or s3://... or https://...")],
    clip: Annotated[str, Option(help="A shipped model, a folder or a hub id; only its CLIP is read.")],
    out: Annotated[Path, Option("-o", "--out", help="Folder for the features; what is there stays.")],
    hidden: Annotated[bool, Option("--hidden", help="Keep the hidden states of the captions too.")] = False,
    batch_size: Annotated[int, Option(help="Pictures that go through CLIP together.")] = 256,
    workers: Annotated[int | None, Option(help="Processes that decode pictures; else by the device.")] = None,
    device: Device = "auto",
    node: Annotated[str, Option(help="This machine's share: 0/4 to 3/4 on four that share the folder.")] = "0/1",
    ray: Annotated[int | None, Option(help="Compute on Ray (RAY_ADDRESS) by this many workers.")] = None,
    cpus: Annotated[float, Option(help="CPUs, and threads, of each of Ray's workers.")] = 1.0,
    gpus: Annotated[float, Option(help="GPUs of each of Ray's workers.")] = 0.0,
) -> None:
    """Compute CLIP's features of pictures and captions; the same command again goes on where it stopped."""
    from unclip import data
    from unclip.model import open_clip
    from unclip.runtime import resolve_device

    share = parse_pair("--node", node, "/", NODE_EXAMPLE)
    options: dict[str, Any] = {"hidden": hidden, "batch_size": batch_size}
    options["progress"] = partial(show_progress, "embedding", unit="samples")
    if ray is not None:
        if share != (0, 1):
            raise InputError(f"--node {node} and --ray both divide the work; give one of them.")
        options |= {"num_actors": ray, "cpus_per_actor": cpus, "gpus_per_actor": gpus, "num_workers": workers or 0}
        report = data.embed_on_ray(shards, partial(open_clip, clip), out, **options)
    else:
        if workers is None:
            # The tower needs the cores of a CPU; a GPU needs one to decode for it on each core.
            on_cpu = resolve_device(device).type == "cpu"
            workers = 1 if on_cpu else min(os.cpu_count() or 1, MAX_EMBED_WORKERS)
        report = data.embed(shards, open_clip(clip, device), out, num_workers=workers, node=share, **options)
    lines = [f"embedded {report.num_samples} samples of {report.num_shards} shards"]
    lines += [f"left out {key}: {reason}" for key, reason in list(report.damaged.items())[:NUM_DAMAGED_SHOWN]]
    if len(report.damaged) > NUM_DAMAGED_SHOWN:
        lines.append(f"left out {len(report.damaged) - NUM_DAMAGED_SHOWN} more")
    if not report.finished:
        lines.append("shards of other machines are not there yet; the last of them writes the statistics")
    print("\n".join([*lines, str(report.out)]))
