"""Draw at the command line: check what was typed, load the model, and afterwards write the files and report."""

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin, get_type_hints

import typer

from unclip import __version__
from unclip.cli.options import AsJson, Device, ModelName, Typed, make_parameter, place_parameter, read_typed
from unclip.cli.signatures import read_tasks
from unclip.errors import InputError
from unclip.progress import say, show_progress

if TYPE_CHECKING:
    from unclip.cli.output import Target
    from unclip.pipelines import Draft, DrawOptions, Result, UnClip

# What a shipped model has learned: it draws any other prompt too, but not what the prompt says.
KNOWN = {"emoji": "emoji alone, and draws whatever is asked as one"}
SHOWN_WORDS = 5
# Characters of a long text by which a note names it.
MAX_SHOWN = 40
# Options of the library that a command line has no use for.
NOT_TYPED = ("output_type", "progress")
SERIES_OUT = Annotated[
    str | None, typer.Option("-o", "--out", help="All in one .png, .jpg, .webp or .gif, a folder, or - (stdout).")
]


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What was typed for any command that draws, besides its task's own options. `draws` gives it to a command."""

    is_series: bool
    options: Mapping[str, Any]
    """Seed, size, steps and so on, by the names of `DrawOptions`."""
    model: ModelName = "emoji"
    out: Annotated[
        str | None,
        typer.Option("-o", "--out", help="A .png, .jpg or .webp file, a folder, or - (stdout); else this folder."),
    ] = None
    form: Annotated[str | None, typer.Option("--format", help="png, jpg or webp, in a folder or on stdout.")] = None
    device: Device = "auto"
    as_json: AsJson = False

    def begin(
        self,
        titles: str | Sequence[str],
        num_images: int = 1,
        *,
        is_draft: bool = False,
        seeds: Sequence[int] | None = None,
    ) -> "Run":
        """Load the model for pictures whose files are called after `titles`, one for all or one for each.

        Raises `InputError` for wrong options and for a place where the files cannot be written. `is_draft` says that
        unfinished pictures are written; `seeds` are those of a draft that goes on.
        """
        started = time.monotonic()
        if is_draft and self.form is not None:
            raise InputError(f"--format {self.form} is of pictures, and these are unfinished; leave it out.")
        # Imported here: torch takes two seconds, and `unclip --help` needs none of it.
        from unclip.cli.output import parse_out
        from unclip.pipelines import UnClip, image_seeds

        options: Any = {**self.options, "progress": show_progress}
        if seeds is None:
            seeds = image_seeds(self.options["seed"], num_images)
            options["seed"] = seeds[0]
        target = parse_out(self.out, self.form, is_series=self.is_series, is_draft=is_draft)
        if target.is_stdout and self.as_json:
            raise InputError("-o - and --json both write to stdout; leave one out.")
        num_files = 1 if is_draft else len(seeds)
        target.check(_title_each(titles, seeds)[:num_files], seeds[:num_files])
        return Run(self, UnClip.load(self.model, self.device), options, target, titles, started)


@dataclass(frozen=True)
class Run:
    """A loaded model and the options of its task; the result is saved as the command line says."""

    drawing: Drawing
    pipe: "UnClip"
    options: "DrawOptions"
    target: "Target"
    titles: str | Sequence[str]
    started: float

    def save(self, result: "Result") -> None:
        """Write all pictures or none, and print their paths or one line of JSON."""
        from unclip.cli.output import save_images

        # A task may keep other seeds than the first ones, and a series has more pictures.
        titles = _title_each(self.titles, result.seeds)
        metadata = [result.metadata(index) for index in range(len(result.seeds))]
        paths = save_images(self.target, result.images, titles, result.seeds, metadata)
        self._note_prompts(result.prompts, result.settings.get("cut", {}))
        _note_mask(result.settings)
        if self.target.is_stdout:
            return
        line = {
            "images": [str(path) for path in paths],
            "prompt": result.prompts[0],
            "seeds": result.seeds,
            "model": self.pipe.name,
            "version": __version__,
            "settings": result.settings,
            "cut": result.cut[0],
        }
        self._report(line, "\n".join(str(path) for path in paths))

    def save_draft(self, draft: "Draft") -> None:
        """Write the unfinished pictures in one file, and print its path or one line of JSON."""
        from unclip.files import claimed_paths

        if self.target.is_folder:
            with claimed_paths(self.target.names(_title_each(self.titles, draft.seeds)[:1], draft.seeds[:1])) as (
                path,
            ):
                draft.save(path)
        else:
            path = self.target.path
            draft.save(path)
        self._note_prompts(draft.prompts, draft.cut)
        line = {
            "draft": str(path),
            "prompt": draft.prompts[0],
            "seeds": list(draft.seeds),
            "model": draft.model,
            "version": __version__,
            "done": list(draft.done),
            "cut": draft.cut.get(draft.prompts[0], ""),
        }
        self._report(line, str(path))

    def _report(self, line: dict[str, Any], text: str) -> None:
        seconds = round(time.monotonic() - self.started, 3)
        print(json.dumps({**line, "seconds": seconds}) if self.drawing.as_json else text)

    def _note_prompts(self, prompts: Sequence[str], cut: Mapping[str, str]) -> None:
        """Note what a shipped model knows, which words its tokenizer never learned, and ends of long texts."""
        model, text = self.drawing.model, " ".join(dict.fromkeys(prompts))
        if model in KNOWN and text.strip():
            words = list(dict.fromkeys(re.findall(r"[^\W\d_]+", text.lower())))
            # Start and end are two tokens, and a word that captions had is one.
            lengths = self.pipe.clip.tokenizer.encode(words, 16).mask.sum(1).tolist() if words else []
            unknown = [word for word, length in zip(words, lengths, strict=True) if length > 3]
            which = f"; its captions lack: {', '.join(unknown[:SHOWN_WORDS])}" if unknown else ""
            say(f"note: the model {model} knows {KNOWN[model]}{which}")
        for text, end in cut.items():
            beginning = text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN].rstrip()}..."
            say(f"note: {beginning!r} is too long; not read: {end!r}")


def draws(task: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command, whose first parameter is a `Drawing`, the options of a task.

    Parameters annotated by `Typed` or by typer come first and are typed as they say; all other options of the task
    arrive by their names in the library. typer reads a command's signature, so that is what is replaced.
    """
    described = read_tasks()[task]
    shared = {name: option for name, option in described.shared.items() if name not in NOT_TYPED}
    hints = get_type_hints(Drawing, include_extras=True) | ({"out": SERIES_OUT} if described.is_series else {})
    common = [
        Parameter(one.name, Parameter.KEYWORD_ONLY, default=one.default, annotation=hints[one.name])
        for one in fields(Drawing)
        if one.name not in ("is_series", "options")
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [one for one in signature(command).parameters.values() if get_origin(one.annotation) is Annotated]
        markers = [get_args(one.annotation)[1] for one in own]
        taken = {marker.option for marker in markers if isinstance(marker, Typed)}
        rest = [option for name, option in described.own.items() if name not in taken]
        parameters = [
            *(place_parameter(one, task) for one in own),
            *(make_parameter(option, described.own) for option in (*rest, *shared.values())),
            *common,
        ]

        @wraps(command)
        def program(**values: Any) -> None:
            options = {name: read_typed(option, values.pop(name)) for name, option in shared.items()}
            others = {one.name: values.pop(one.name) for one in common}
            command(Drawing(is_series=described.is_series, options=options, **others), **values)

        program.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        program.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return program

    return decorate


def _title_each(titles: str | Sequence[str], seeds: Sequence[int]) -> list[str]:
    return [titles] * len(seeds) if isinstance(titles, str) else list(titles)


def _note_mask(settings: Mapping[str, Any]) -> None:
    """Note what a mask that is not black and white selects, and that one selects nothing or everything."""
    share = settings.get("painted")
    if share == 0.0:
        say("note: the mask selects nothing, so nothing was painted")
    elif share == 1.0:
        say("note: the mask selects the whole picture, so nothing of it was kept")
    elif share is not None and settings["mask_kind"] == "alpha":
        say(f"note: what is transparent was painted, {share:.1%} of the picture")
