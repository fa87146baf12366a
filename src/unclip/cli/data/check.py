"""`unclip data check`: what is wrong with a set. Knows options and exit codes; the data part finds the problems."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unclip.cli.data.source import CaptionColumn, Captions, ImageColumn, Location, Workers, num_workers, open_and_tell

if TYPE_CHECKING:
    from unclip.data import CheckReport


NUM_SHOWN = 20
FINDINGS_EXIT = 1


def check(
    source: Location,
    min_side: Annotated[int, typer.Option(help="Pixels that the shorter side has at least.")] = 64,
    max_aspect: Annotated[float, typer.Option(help="Longer side by shorter side, at most.")] = 4.0,
    max_distance: Annotated[int, typer.Option(help="Bits of 64 in which hashes of duplicates differ, at most.")] = 4,
    nsfw: Annotated[str | None, typer.Option(help="module:function that scores a PIL picture.")] = None,
    nsfw_threshold: Annotated[float, typer.Option(help="The score from which a picture is a finding.")] = 0.5,
    max_bad: Annotated[float, typer.Option(help="Share of bad samples, 0 to 1, up to which the exit code is 0.")] = 0.0,
    captions: Captions = None,
    image_column: ImageColumn = None,
    caption_column: CaptionColumn = None,
    workers: Workers = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="A .json file for the whole report.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole report as one line of JSON.")] = False,
) -> None:
    """Find pictures that are unreadable, tiny, extreme, double or without caption, and say what the captions are like.

    Exit code 0: no more than --max-bad of the samples have a problem; 1: more; 2: wrong input.
    """
    from unclip.config import load_config
    from unclip.data import CheckConfig
    from unclip.data import check as find
    from unclip.errors import InputError
    from unclip.files import atomic_write, check_writable
    from unclip.progress import show_progress

    if not 0 <= max_bad <= 1:
        raise InputError(f"--max-bad {max_bad} is no share; use 0 (none) to 1 (all).")
    check_writable([] if out is None else [out])
    settings = {"min_side": min_side, "max_aspect": max_aspect, "max_distance": max_distance}
    config = load_config(CheckConfig, {**settings, "nsfw_threshold": nsfw_threshold})
    judge = None if nsfw is None else imported(nsfw)
    opened = open_and_tell(source, captions, image_column, caption_column)
    report = find(
        opened,
        config,
        lambda done, total: show_progress("check", done, total, "pictures"),
        nsfw=judge,
        num_workers=num_workers(workers, opened),
    )
    if out is not None:
        atomic_write(out, report.model_dump_json(indent=1) + "\n")
    print(report.model_dump_json() if as_json else as_text(report))
    if report.bad_share > max_bad:
        raise typer.Exit(FINDINGS_EXIT)


def imported(name: str) -> Callable[..., Any]:
    """The function called `module:function`; raises `InputError` where there is none."""
    import importlib

    from unclip.errors import InputError

    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"--nsfw {name!r} cannot be imported ({error}); write module:function.") from None
    if not callable(found):
        raise InputError(f"--nsfw {name!r} is a {type(found).__name__}, not a function that scores a picture.")
    return found


def as_text(report: "CheckReport") -> str:
    """The first findings, a line each, and a summary."""
    shown = [f"{found.name}: {found.problem} ({found.detail})" for found in report.findings[:NUM_SHOWN]]
    more = len(report.findings) - len(shown)
    rest = [f"... and {more} more; -o FILE writes them all"] if more else []
    counts = ", ".join(f"{count} {problem}" for problem, count in sorted(report.counts.items()))
    repeated = [f"{count} times {text!r}" for text, count in list(report.captions.repeated_captions.items())[:3]]
    notes = [f"captions that repeat: {', '.join(repeated)}"] if repeated else []
    if report.captions.num_captions == 0:
        notes.append("no sample has a caption: train without text, or name the captions' field by --caption-column")
    if report.captions.num_cut:
        notes.append(f"captions longer than CLIP reads: {report.captions.num_cut} of {report.captions.num_captions}")
    summary = f"{report.num_bad} of {report.num_samples} samples have a problem{f': {counts}' if counts else ''}"
    return "\n".join([*shown, *rest, *notes, summary])
