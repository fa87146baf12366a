"""What every command that draws does around its task: read the options, load the model, write the files, report.

Knows options and files; the drawing is a method of `UnClip`.
"""

import json
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from unclip import __version__
from unclip.cli.options import Shared, parse_size
from unclip.cli.per_stage import parse_per_stage
from unclip.errors import InputError
from unclip.progress import say, show_progress

if TYPE_CHECKING:
    from PIL import Image

    from unclip.pipelines import Draft, DrawOptions, Result, UnClip


# What a model that ships has learned: a prompt beyond it draws something else without complaint.
KNOWN = {"emoji": "emoji alone, and draws whatever is asked as one"}
SHOWN_WORDS = 5

T = TypeVar("T")
# Characters of a long text by which a note names it.
MAX_SHOWN = 40


def draw(
    shared: Shared,
    titles: str | Sequence[str],
    num_images: int,
    task: "Callable[[UnClip, DrawOptions], Result]",
    *,
    begun: "Draft | None" = None,
) -> None:
    """Run `task` and write its `num_images` pictures; files in a folder are called after the title of each.

    The seeds are those of a draft that was `begun`, if one was. Nothing is drawn when an option is wrong or a file
    could not be written, and nothing is written unless all is drawn.
    """
    started = time.monotonic()
    options, seeds = _plan(shared, num_images, begun)
    from unclip.cli.output import parse_out, save_images

    target = parse_out(shared.out, shared.form, is_series=shared.is_series)
    if target.is_stdout and shared.as_json:
        raise InputError("-o - and --json both write to stdout; leave one out.")
    target.check(_each(titles, seeds), seeds)
    pipe, result = _run(shared, options, task)
    # A task may keep other seeds than the first ones, and a series has more pictures.
    names = _each(titles, result.seeds)
    metadata = [result.metadata(index) for index in range(len(result.seeds))]
    paths = save_images(target, result.images, names, result.seeds, metadata)
    _note_words(shared.model, pipe, result.prompts)
    _report(result, [] if target.is_stdout else paths, pipe.name, time.monotonic() - started, shared.as_json)


def draw_part(
    shared: Shared,
    titles: str | Sequence[str],
    num_images: int,
    task: "Callable[[UnClip, DrawOptions], Draft]",
    *,
    begun: "Draft | None" = None,
) -> None:
    """Run `task` and write the draft that it stops with; all else is as for `draw`."""
    started = time.monotonic()
    if shared.form is not None:
        raise InputError(f"--format {shared.form} is of pictures, and these are unfinished; leave it out.")
    options, seeds = _plan(shared, num_images, begun)
    from unclip.cli.output import parse_out
    from unclip.files import claimed_paths

    target, title = parse_out(shared.out, is_draft=True), _each(titles, seeds)[:1]
    target.check(title, seeds[:1])
    pipe, draft = _run(shared, options, task)
    if target.is_folder:
        with claimed_paths(target.names(title, seeds[:1])) as (path,):
            draft.save(path)
    else:
        path = target.path
        draft.save(path)
    _note_words(shared.model, pipe, draft.prompts)
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


def read_pictures(*inputs: T) -> "list[T | Image.Image]":
    """The inputs of a task, in which `-` became the picture on stdin; raises `InputError` where it is there twice."""
    if sum(str(name) == "-" for name in inputs) > 1:
        raise InputError("- was given twice, but stdin holds one picture; give a file for the other.")
    return [_read_stdin() if str(name) == "-" else name for name in inputs]


def title_of(source: "str | Path") -> str:
    """What files are called after that are drawn from a picture or a text."""
    return "stdin" if str(source) == "-" else Path(source).stem


def _read_stdin() -> "Image.Image":
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError("- is the picture on stdin, and nothing is piped there; write: unclip ... - < picture.png")
    from unclip.pictures import read_picture

    return read_picture(sys.stdin.buffer.read(), "the picture on stdin")


def _each(titles: str | Sequence[str], seeds: Sequence[int]) -> list[str]:
    """A title for each seed."""
    return [titles] * len(seeds) if isinstance(titles, str) else list(titles)


def _note_words(model: str, pipe: "UnClip", prompts: Sequence[str]) -> None:
    """Say on stderr what a model that ships knows, and which words of the prompts its tokenizer never learned."""
    text = " ".join(dict.fromkeys(prompts))
    if model not in KNOWN or not text.strip():
        return
    words = list(dict.fromkeys(re.findall(r"[^\W\d_]+", text.lower())))
    # Start and end are two tokens, and a word that captions had is one.
    lengths = pipe.clip.tokenizer.encode(words, 16).mask.sum(1).tolist() if words else []
    unknown = [word for word, length in zip(words, lengths, strict=True) if length > 3]
    which = f"; its captions lack: {', '.join(unknown[:SHOWN_WORDS])}" if unknown else ""
    say(f"note: the model {model} knows {KNOWN[model]}{which}")


def _plan(shared: Shared, num_images: int, begun: "Draft | None") -> "tuple[DrawOptions, Sequence[int]]":
    """What a task is told, and the seeds of what it makes."""
    options: DrawOptions = {
        "image_size": parse_size(shared.size),
        "num_steps": parse_per_stage("--steps", shared.steps, int),
        "guidance_scale": parse_per_stage("--guidance", shared.guidance, float),
        "sampler": parse_per_stage("--sampler", shared.sampler, str),
        "progress": show_progress,
    }
    if shared.batch_size is not None:
        options["batch_size"] = shared.batch_size
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


def _report(result: "Result", paths: list[Path], model: str, seconds: float, as_json: bool) -> None:
    _note_cut(result.settings.get("cut", {}))
    _note_mask(result.settings)
    if not paths:
        return
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
        say(f"note: {beginning!r} is too long; not read: {end!r}")


def _note_mask(settings: Mapping[str, Any]) -> None:
    """Say what a mask that is no black and white selects, and that one selects nothing or everything."""
    share = settings.get("painted")
    if share == 0.0:
        say("note: the mask selects nothing, so nothing was painted")
    elif share == 1.0:
        say("note: the mask selects the whole picture, so nothing of it was kept")
    elif share is not None and settings["mask_kind"] == "alpha":
        say(f"note: what is transparent was painted, {share:.1%} of the picture")
