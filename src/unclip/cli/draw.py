"""What every command that draws does around its task: read the options, load the model, write the files, report.

Knows options and files; the drawing is a method of `UnClip`.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from unclip import __version__
from unclip.cli.options import Shared, parse_size
from unclip.cli.per_stage import parse_per_stage
from unclip.cli.progress import show_progress

if TYPE_CHECKING:
    from unclip.pipelines import Draft, DrawOptions, Result, UnClip

__all__ = ["draw", "draw_part"]

T = TypeVar("T")
# Characters of a long text by which a note names it.
MAX_SHOWN = 40


def draw(
    shared: Shared,
    title: str,
    num_images: int,
    task: "Callable[[UnClip, DrawOptions], Result]",
    *,
    begun: "Draft | None" = None,
) -> None:
    """Run `task` and write its `num_images` pictures; files in a folder are called after `title`.

    The seeds are those of a draft that was `begun`, if one was. Nothing is drawn when an option is wrong or a file
    could not be written, and nothing is written unless all is drawn.
    """
    started = time.monotonic()
    options, seeds = _plan(shared, num_images, begun)
    from unclip.cli.output import check_writable, image_paths, save_images, series_paths

    name_files = series_paths if shared.is_series else image_paths
    check_writable(name_files(shared.out, title, seeds))
    pipe, result = _run(shared, options, task)
    # A task may keep other seeds than the first ones.
    paths = name_files(shared.out, title, result.seeds)
    save_images(result.images, paths, [_metadata(result, index, pipe.name) for index in range(len(paths))])
    _report(result, paths, pipe.name, time.monotonic() - started, shared.as_json)


def draw_part(
    shared: Shared,
    title: str,
    num_images: int,
    task: "Callable[[UnClip, DrawOptions], Draft]",
    *,
    begun: "Draft | None" = None,
) -> None:
    """Run `task` and write the draft that it stops with; all else is as for `draw`."""
    started = time.monotonic()
    options, seeds = _plan(shared, num_images, begun)
    from unclip.cli.output import check_writable, draft_path

    path = draft_path(shared.out, title, seeds[0])
    check_writable([path])
    _, draft = _run(shared, options, task)
    draft.save(path)
    _note_cut(draft.cut)
    line = {
        "draft": str(path),
        "prompt": draft.prompts[0],
        "seeds": list(draft.seeds),
        "model": draft.model,
        "version": __version__,
        "done": list(draft.done),
        "cut": draft.cut.get(draft.prompts[0], ""),
        "seconds": round(time.monotonic() - started, 3),
    }
    print(json.dumps(line) if shared.as_json else path)


def _plan(shared: Shared, num_images: int, begun: "Draft | None") -> "tuple[DrawOptions, Sequence[int]]":
    """What a task is told, and the seeds of what it makes."""
    options: DrawOptions = {
        "image_size": parse_size(shared.size),
        "num_steps": parse_per_stage("--steps", shared.steps, int),
        "guidance_scale": parse_per_stage("--guidance", shared.guidance, float),
        "sampler": parse_per_stage("--sampler", shared.sampler, str),
        "progress": show_progress,
    }
    if begun is not None:
        return options, begun.seeds
    # Imported here: torch takes two seconds, and `unclip --help` needs none of it.
    from unclip.pipelines import image_seeds

    seeds = image_seeds(shared.seed, num_images)
    return {**options, "seed": seeds[0]}, seeds


def _run(shared: Shared, options: "DrawOptions", task: "Callable[[UnClip, DrawOptions], T]") -> "tuple[UnClip, T]":
    """A task on the model that the options name."""
    from unclip.pipelines import UnClip

    pipe = UnClip.load(shared.model, shared.device)
    return pipe, task(pipe, options)


def _metadata(result: "Result", index: int, model: str) -> dict[str, str]:
    """What a PNG says about itself: enough to draw it again."""
    return {
        "prompt": result.prompts[index],
        "seed": str(result.seeds[index]),
        "model": model,
        "version": __version__,
        "settings": json.dumps(result.settings, sort_keys=True),
    }


def _report(result: "Result", paths: list[Path], model: str, seconds: float, as_json: bool) -> None:
    _note_cut(result.settings.get("cut", {}))
    _note_mask(result.settings)
    if not as_json:
        print("\n".join(str(path) for path in paths))
        return
    line = {
        "images": [str(path) for path in paths],
        "prompt": result.prompts[0],
        "seeds": result.seeds,
        "model": model,
        "version": __version__,
        "settings": result.settings,
        "cut": result.cut[0],
        "seconds": round(seconds, 3),
    }
    print(json.dumps(line))


def _note_cut(cut: Mapping[str, str]) -> None:
    """Name each text that was too long, by its beginning, and the end that was not read."""
    for text, end in cut.items():
        beginning = text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN].rstrip()}..."
        print(f"note: {beginning!r} is too long; not read: {end!r}", file=sys.stderr)


def _note_mask(settings: Mapping[str, Any]) -> None:
    """Say what a mask that is no black and white selects, and that one selects nothing or everything."""
    share = settings.get("painted")
    if share == 0.0:
        print("note: the mask selects nothing, so nothing was painted", file=sys.stderr)
    elif share == 1.0:
        print("note: the mask selects the whole picture, so nothing of it was kept", file=sys.stderr)
    elif share is not None and settings["mask_kind"] == "alpha":
        print(f"note: what is transparent was painted, {share:.1%} of the picture", file=sys.stderr)
