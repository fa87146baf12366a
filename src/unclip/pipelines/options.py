"""Describe tasks once: annotations of their signatures say what each option means and which values it takes.

Whatever offers tasks to people makes its options, request models and widgets from `describe`. The command line reads
the same annotations from the source, so that help needs no torch: their arguments and the defaults are literals.
"""

import inspect
import types
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import wraps
from inspect import Parameter
from typing import Annotated, Any, Literal, ParamSpec, TypedDict, TypeVar, Union, get_args, get_origin, get_type_hints

import torch
from PIL import Image

from unclip.errors import InputError, did_you_mean
from unclip.pipelines.guarding import run_guarded
from unclip.pipelines.result import OutputType
from unclip.pipelines.settings import PerStage, check_count, check_number
from unclip.progress import show_progress

P = ParamSpec("P")
R = TypeVar("R")

Progress = Callable[[str, int, int], None]
"""Called with the stage, the steps done (from 1) and the steps in all, counted over all pictures."""


@dataclass(frozen=True)
class PreviewStep:
    """The decoder's pictures as it predicts them in one of its steps."""

    first: int
    """The place of the first of them among all pictures of the task."""
    index: int
    """The number of the step, from 0."""
    num_steps: int
    pictures: Callable[[], list[Image.Image]]
    """Makes them, small, on the background of the task: with an autoencoder that takes as long as its last stage."""


Preview = Callable[[PreviewStep], None]
"""Called in each step of the decoder; an exception from it stops the drawing."""
ImageSize = int | tuple[int, int]
"""The side of a square, or (width, height), in pixels."""


Kind = Literal[
    "text", "picture", "mask", "text or picture", "weighted parts", "embedding", "draft", "basis", "size", "integer",
    "number", "boolean", "choice", "function",
]  # fmt: skip
KINDS: Mapping[Any, Kind] = {int: "integer", float: "number", bool: "boolean", str: "text"}


@dataclass(frozen=True)
class Option:
    """An option of a task: its annotation has help and allowed values, `describe` adds what the signature has."""

    help: str
    kind: Kind | None = None
    """What its values are, where the type does not say it."""
    least: float | None = None
    above: float | None = None
    most: float | None = None
    meaning: str = ""
    """What numbers within the bounds mean, for the message about others."""
    choices: tuple[str, ...] = ()
    in_series: str = ""
    """The help in tasks that draw one series of pictures, where it is another."""
    name: str = ""
    default: Any = field(default_factory=lambda: Parameter.empty)
    """`Parameter.empty` where a value is required."""
    takes_several: bool = False
    """Whether a sequence of values is allowed too."""
    is_per_stage: bool = False
    """Whether a mapping from stages to values is allowed too."""

    def check(self, value: Any) -> None:
        """Raise `InputError` for a number out of bounds and for an unknown choice."""
        if self.kind not in ("integer", "number", "choice") or (value is None and self.default is None):
            return
        if self.takes_several and isinstance(value, list | tuple):
            if not value:
                raise InputError(f"{self.name} is empty; give at least one {self.kind}.")
            for one in value:
                self.check(one)
        elif self.kind == "choice" and value not in self.choices:
            raise InputError(f"there is no {self.name} {value!r}; {did_you_mean(str(value), self.choices)}")
        elif self.kind == "integer" and self.least is not None:
            check_count(self.name, value, least=int(self.least))
        elif self.kind == "number":
            bounds = {"least": self.least, "above": self.above, "most": self.most}
            check_number(self.name, value, **bounds, meaning=self.meaning)


Prompts = Annotated[str | Sequence[str], Option("What to draw.")]
NumImages = Annotated[int, Option("Pictures to draw.", least=1)]
NumCandidates = Annotated[int | None, Option("Image embeddings to choose the best from.", least=1)]
NegativePrompt = Annotated[str, Option("What guidance leads away from.")]


class DrawOptions(TypedDict, total=False):
    """Keywords of every task that draws; what is not given is the model's own default.

    A keyword that is none of these is refused with the nearest name.
    """

    seed: Annotated[
        int | Sequence[int] | None,
        Option(
            "Picture k has this seed + k; without it, a random one.",
            least=0,
            in_series="Of all pictures; without it, a random one.",
        ),
    ]
    """Seed of an input's first picture; picture k has `seed` + k and a generator of its own. None takes a random one.
    A sequence has the seed of every picture, inputs first; what draws from a single seed takes no sequence."""
    image_size: Annotated[ImageSize | None, Option("A side that the model draws, or WIDTHxHEIGHT near one.", "size")]
    """A size that the model draws, or (width, height) near one."""
    num_steps: Annotated[PerStage[int], Option("For all stages, or prior=25,decoder=25,upsampler_256=7.", least=1)]
    """Sampler steps: one number for all stages, or `{"prior": 25, "decoder": 25, "upsampler_256": 7}`."""
    guidance_scale: Annotated[PerStage[float], Option("1 is off; for all stages, or prior=1,decoder=3.", least=0)]
    """Classifier-free guidance of prior and decoder, 1 = off; upsamplers take none. One number, or by stage."""
    preset: Annotated[str | None, Option("Settings that the model has under a name, such as fast.")]
    """Name of other settings that come with the model (`Model.presets`); what is set beside it has its own value."""
    sampler: Annotated[
        PerStage[str],
        Option(
            "ddpm, ddim, heun, dpm++ or dpm++sde; also per stage.",
            choices=("ddpm", "ddim", "heun", "dpm++", "dpm++sde"),
        ),
    ]
    """One name for all stages, or by stage."""
    output_type: Annotated[OutputType, Option("The form of the pictures: PIL, NumPy or PyTorch.", "choice")]
    """"pil", "np" (float32, (height, width, 3), [0, 1]) or "pt" (float32, (3, height, width), [-1, 1]).

    On a transparent background there are 4 channels: an array is RGBA of straight colours as PIL has it, a tensor RGB
    on white and its coverage, as the stages draw and read it."""
    background: Annotated[
        str | None, Option("white, transparent, or a colour as gold or #ffcc00; else white. Needs a model with alpha.")
    ]
    """What lies behind pictures of a model whose stages have 4 channels: white unless given; "transparent" makes RGBA
    pictures of straight colours; or a colour: a name, "#ffcc00" or "255,204,0". Other models draw opaque pictures."""
    batch_size: Annotated[int | None, Option("Pictures drawn together; else 1 on a CPU, 8 elsewhere.", least=1)]
    """Pictures that go through a network together: by default 8, on a CPU where that changes no bit of a picture, else
    1: in float32, and for prompts of several lengths of a decoder that reads text. More is faster there, and differs by
    rounding.
    """
    progress: Annotated[Progress | bool | None, Option("Whether progress is shown, or who is told of it.", "function")]
    """True shows a bar on stderr where that is a terminal, else a line for each stage; False and None show nothing.
    A function is called as progress(stage, steps_done, num_steps); an exception from it stops the drawing."""
    preview: Annotated[Preview | None, Option("Who is shown what the decoder predicts in each step.", "function")]
    """A function that is called with a `PreviewStep` in every step of the decoder; pictures stay the same, bit for bit.
    """


class UpsamplerOptions(TypedDict, total=False):
    """Keywords for sampling an upsampler by itself; they mean what they mean in `DrawOptions`."""

    seed: int | Sequence[int] | None
    num_steps: int | None
    sampler: str | None
    batch_size: int | None
    progress: Progress | bool | None


class StageOptions(UpsamplerOptions, total=False):
    """Keywords for sampling a prior or a decoder by itself; they mean what they mean in `DrawOptions`."""

    guidance_scale: float | None


def check_options(options: Mapping[str, Any], allowed: type = DrawOptions) -> None:
    """Raise `InputError` for a keyword that is not `allowed`, naming the nearest, and for an unknown output type."""
    _check_names(options, allowed.__annotations__, allowed.__annotations__)
    if (form := options.get("output_type", "pil")) not in get_args(OutputType):
        raise InputError(f"unknown output_type {form!r}; {did_you_mean(form, get_args(OutputType))}")
    if (preview := options.get("preview")) is not None and not callable(preview):
        raise InputError(f"preview={preview!r} is not possible; give a function of one PreviewStep, or None.")


def _check_names(options: Iterable[str], allowed: Container[str], shown: Iterable[str]) -> None:
    for name in options:
        if name not in allowed:
            raise InputError(f"there is no option {name!r}; {did_you_mean(name, shown)}")


def progress_function(progress: Progress | bool | None) -> Progress:
    """Return the function that progress is reported to; raises `InputError` for an invalid value."""
    if progress is None or isinstance(progress, bool):
        return show_progress if progress else silent
    if not callable(progress):
        raise InputError(f"progress={progress!r} is not possible; give True, False or a function (stage, done, total).")
    return progress


def silent(stage: str, done: int, total: int) -> None:
    """Show no progress."""


@dataclass(frozen=True, kw_only=True)
class TaskDescription:
    """A function that draws or embeds, and its options."""

    function: Callable[..., Any]
    is_series: bool
    """Whether its pictures belong together and have one seed."""
    options: tuple[Option, ...]
    """Its own options, then those of `DrawOptions` that it reads."""
    kinds: Mapping[str, Kind | None]
    """What its own options are, by name."""


TASKS: dict[str, TaskDescription] = {}
"""All tasks by the name of their function, filled by `task`."""


def describe(task: str) -> tuple[Option, ...]:
    """Return the options of the task of this name; raises `InputError` for an unknown one."""
    if task not in TASKS:
        raise InputError(f"there is no task {task!r}; {did_you_mean(task, TASKS)}")
    return TASKS[task].options


def task(*, is_series: bool = False, unused: Sequence[str] = ()) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function, whose first parameter is the model, a task.

    Values are checked against their descriptions, and the function runs without gradients, one that draws under the
    guard of its model. `unused` are options of `DrawOptions` that mean nothing to it.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature, run = inspect.signature(function), torch.no_grad()(function)
        hints = get_type_hints(function, include_extras=True)
        _, *parameters = signature.parameters.values()
        described = {
            one.name: _describe(one.name, hints[one.name], one.default, is_series)
            for one in parameters
            if one.kind is not Parameter.VAR_KEYWORD
        }
        shared = get_type_hints(DrawOptions, include_extras=True) if "options" in signature.parameters else {}
        options = [_describe(name, hint, None, is_series) for name, hint in shared.items() if name not in unused]
        options = [*described.values(), *options]
        names = [*described, *(name for name in shared if name not in unused)]
        kinds, first = {name: option.kind for name, option in described.items()}, next(iter(signature.parameters))

        @wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            _check_names(kwargs, {*signature.parameters, *shared}, names)
            call = signature.bind_partial(*args, **kwargs)
            for name, value in call.arguments.items():
                if name in described:
                    described[name].check(value)
            if not shared or first not in call.arguments:  # it draws nothing
                return run(*args, **kwargs)

            def run_for(model: Any) -> R:
                call.arguments[first] = model
                return run(*call.args, **call.kwargs)

            return run_guarded(run_for, call.arguments[first], kinds, call.arguments | kwargs)

        TASKS[checked.__name__] = TaskDescription(
            function=checked, is_series=is_series, options=tuple(options), kinds=kinds
        )
        return checked

    return decorate


def _describe(name: str, hint: Any, default: Any, is_series: bool) -> Option:
    """Complete the `Option` in a parameter's annotation by what name, type and default say."""
    assert get_origin(hint) is Annotated, f"{name} has no description"
    hint, option = get_args(hint)[:2]
    parts = list(_parts(hint))
    choices = [*option.choices, *(one for part in parts if get_origin(part) is Literal for one in get_args(part))]
    kinds = [KINDS[part] for part in parts if part in KINDS]
    return replace(
        option,
        help=(is_series and option.in_series) or option.help,
        kind=option.kind or ("choice" if choices else kinds[0]),
        choices=tuple(choices),
        name=name,
        default=default,
        takes_several=any(get_origin(part) in (Sequence, Iterable) for part in parts),
        is_per_stage=any(get_origin(part) is Mapping for part in parts),
    )


def _parts(hint: Any) -> Iterator[Any]:
    """List the members of a union; of a sequence also what it holds."""
    if get_origin(hint) in (Union, types.UnionType):
        for member in get_args(hint):
            yield from _parts(member)
    else:
        yield hint
        if get_origin(hint) is Sequence:
            yield from _parts(get_args(hint)[0])
