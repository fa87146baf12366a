"""Draw at the command line: check what was typed, load the model, and afterwards write the files and report."""

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin, get_type_hints

from typer import Option

from unclip import __version__
from unclip.cli.options import AsJson, Device, ModelName, Typed, make_parameter, place_parameter, read_typed
from unclip.cli.signatures import read_tasks
from unclip.errors import InputError
from unclip.progress import say, show_progress

if TYPE_CHECKING:
    from unclip.pipelines import UnClip

# What a shipped model has learned: it draws any other prompt too, but not what the prompt says.
KNOWN = {"emoji": "emoji alone, and draws whatever is asked as one"}
SHOWN_WORDS = 5
# Characters of a long text by which a note names it.
MAX_SHOWN = 40
# Options of the library that a command line has no use for.
NOT_TYPED = ("output_type", "progress", "preview")
SERIES_OUT = Annotated[
    str | None, Option("-o", "--out", help="All in one .png, .jpg, .webp or .gif, a folder, or - (stdout).")
]
COMMANDS: list[Callable[..., None]] = []
"""The commands that draw, in the order of their definition, filled by `draws`."""


@dataclass(frozen=True, kw_only=True)
class DrawCommand:
    """What was typed for any command that draws, besides its task's own options. `draws` gives it to a command."""

    task: str
    """The method of `UnClip` that draws."""
    options: Mapping[str, Any]
    """Seed, size, steps and so on, by the names of `DrawOptions`."""
    model: ModelName = "emoji"
    out: Annotated[
        str | None, Option("-o", "--out", help="A .png, .jpg or .webp file, a folder, or - (stdout); else this folder.")
    ] = None
    form: Annotated[str | None, Option("--format", help="png, jpg or webp, in a folder or on stdout.")] = None
    safety: Annotated[
        str, Option(help="What is refused, and how files are marked: default, strict or a TOML file; else off.")
    ] = "off"
    device: Device = "auto"
    as_json: AsJson = False

    def draw(
        self, titles: str | Sequence[str], *inputs: Any, seeds: Sequence[int] | None = None, **options: Any
    ) -> None:
        """Run the task on `inputs`, write all its pictures or none, or its draft, and print paths or a line of JSON.

        Files are called after `titles`, one for all or one for each picture; `seeds` are those of a draft that goes on,
        `options` the task's own. Raises `InputError` before the model is loaded if the files cannot be written.
        """
        started, is_draft = time.monotonic(), self.task in ("draft", "advance")
        if is_draft and self.form is not None:
            raise InputError(f"--format {self.form} is of pictures, and these are unfinished; leave it out.")
        # Imported here: torch takes two seconds, and `unclip --help` needs none of it.
        from unclip.cli.output import choose_paths, parse_out, save_images
        from unclip.pipelines import UnClip, image_seeds
        from unclip.pipelines.result import check_alpha

        shared = {**self.options, "progress": show_progress}
        if seeds is None:
            seeds = image_seeds(self.options["seed"], options.get("num_images", 1))
            shared["seed"] = seeds[0]
        target = parse_out(self.out, self.form, is_series=read_tasks()[self.task].is_series, is_draft=is_draft)
        if target.is_stdout and self.as_json:
            raise InputError("-o - and --json both write to stdout; leave one out.")
        if not is_draft:
            check_alpha(target.suffix, self.options.get("background"))
        target.check(titles, seeds)
        pipe = UnClip.load(self.model, self.device, safety=self.safety)
        result = getattr(pipe, self.task)(*inputs, **options, **shared)
        # A task may keep other seeds than the first ones, and a series has more pictures.
        if is_draft:
            with choose_paths(target.names(titles, result.seeds), is_named=not target.is_folder) as paths:
                result.save(paths[0])
            self._note_prompts(pipe, result.prompts, result.cut)
            written: dict[str, Any] = {"draft": str(paths[0])}
            details: dict[str, Any] = {"done": list(result.done), "cut": result.cut.get(result.prompts[0], "")}
        else:
            paths = save_images(target, titles, result)
            self._note_prompts(pipe, result.prompts, result.settings.get("cut", {}))
            _note_mask(result.settings)
            result.marker.note_signer()
            written = {"images": [str(path) for path in paths]}
            details = {"settings": result.settings, "cut": result.cut[0]}
            details["safety"] = [report.record() for report in result.safety]
        written |= {"prompt": result.prompts[0], "seeds": list(result.seeds), "model": result.model}
        record = written | {"version": __version__} | details
        record["seconds"] = round(time.monotonic() - started, 3)
        if not target.is_stdout:
            print(json.dumps(record) if self.as_json else "\n".join(map(str, paths)))

    def _note_prompts(self, pipe: "UnClip", prompts: Sequence[str], cut: Mapping[str, str]) -> None:
        """Note what a shipped model knows, which words its tokenizer never learned, and ends of long texts."""
        text = " ".join(dict.fromkeys(prompts))
        if self.model in KNOWN and text.strip():
            words = list(dict.fromkeys(re.findall(r"[^\W\d_]+", text.lower())))
            # Start and end are two tokens, and a word that captions had is one.
            lengths = pipe.clip.tokenizer.encode(words, 16).mask.sum(1).tolist() if words else []
            unknown = [word for word, length in zip(words, lengths, strict=True) if length > 3]
            which = f"; its captions lack: {', '.join(unknown[:SHOWN_WORDS])}" if unknown else ""
            say(f"note: the model {self.model} knows {KNOWN[self.model]}{which}")
        for text, end in cut.items():
            beginning = text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN].rstrip()}..."
            say(f"note: {beginning!r} is too long; not read: {end!r}")


def draws(task: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command, whose first parameter is a `DrawCommand`, the options of a task.

    Parameters annotated by `Typed` or by typer come first and are typed as they say; all other options of the task
    arrive by their names in the library. typer reads a command's signature, so that is what is replaced.
    """
    described = read_tasks()[task]
    shared = {name: option for name, option in described.shared.items() if name not in NOT_TYPED}
    hints = get_type_hints(DrawCommand, include_extras=True) | ({"out": SERIES_OUT} if described.is_series else {})
    common = [
        Parameter(one.name, Parameter.KEYWORD_ONLY, default=one.default, annotation=hints[one.name])
        for one in fields(DrawCommand)
        if one.name not in ("task", "options")
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        annotated = [one for one in signature(command).parameters.values() if get_origin(one.annotation) is Annotated]
        markers = [get_args(one.annotation)[1] for one in annotated]
        replaced = {marker.option for marker in markers if isinstance(marker, Typed)}
        rest = [option for name, option in described.own.items() if name not in replaced]
        parameters = [
            *(place_parameter(one, task) for one in annotated),
            *(make_parameter(option, described.own) for option in (*rest, *shared.values())),
            *common,
        ]

        @wraps(command)
        def program(**values: Any) -> None:
            options = {name: read_typed(option, values.pop(name)) for name, option in shared.items()}
            others = {one.name: values.pop(one.name) for one in common}
            command(DrawCommand(task=task, options=options, **others), **values)

        program.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        program.task = task  # type: ignore[attr-defined]
        program.typed = [marker for marker in markers if isinstance(marker, Typed)]  # type: ignore[attr-defined]
        program.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        COMMANDS.append(program)
        return program

    return decorate


def _note_mask(settings: Mapping[str, Any]) -> None:
    """Note what a mask that is not black and white selects, and that one selects nothing or everything."""
    share = settings.get("painted")
    if share == 0.0:
        say("note: the mask selects nothing, so nothing was painted")
    elif share == 1.0:
        say("note: the mask selects the whole picture, so nothing of it was kept")
    elif share is not None and settings["mask_kind"] == "alpha":
        say(f"note: what is transparent was painted, {share:.1%} of the picture")
