"""Options that tasks share, each with its description; tasks and stages check the values."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias, TypedDict

from unclip.errors import InputError, did_you_mean
from unclip.pipelines.result import OutputType, check_output_type
from unclip.pipelines.settings import PerStage
from unclip.progress import show_progress

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with the stage, the steps done (from 1) and the steps in all, counted over all pictures."""
ImageSize: TypeAlias = int | tuple[int, int]
"""The side of a square, or (width, height), in pixels."""


Kind = Literal[
    "text", "picture", "mask", "text or picture", "weighted parts", "embedding", "draft", "basis", "size", "integer",
    "number", "boolean", "choice", "function",
]  # fmt: skip


@dataclass(frozen=True)
class Option:
    """What the annotation of an option says: its help, and the values that are allowed.

    The command line reads annotations from the source, so that help needs no torch: all arguments are literals.
    """

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
    sampler: Annotated[
        PerStage[str],
        Option(
            "ddpm, ddim, heun, dpm++ or dpm++sde; also per stage.",
            choices=("ddpm", "ddim", "heun", "dpm++", "dpm++sde"),
        ),
    ]
    """One name for all stages, or by stage."""
    output_type: Annotated[OutputType, Option("The form of the pictures: PIL, NumPy or PyTorch.", "choice")]
    """"pil", "np" (float32, (height, width, 3), [0, 1]) or "pt" (float32, (3, height, width), [-1, 1])."""
    batch_size: Annotated[int | None, Option("Pictures drawn together; else 1 on a CPU, 8 elsewhere.", least=1)]
    """Pictures that go through a network together: by default 8, on a CPU where that changes no bit of a picture, else
    1: in float32, and for several prompts of a decoder that reads text. More is faster there, and differs by rounding.
    """
    progress: Annotated[Progress | bool | None, Option("Whether progress is shown, or who is told of it.", "function")]
    """True shows a bar on stderr where that is a terminal, else a line for each stage; False and None show nothing.
    A function is called as progress(stage, steps_done, num_steps); an exception from it stops the drawing."""


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
    for name in options:
        if name not in allowed.__annotations__:
            raise InputError(f"there is no option {name!r}; {did_you_mean(name, allowed.__annotations__)}")
    check_output_type(options.get("output_type", "pil"))


def progress_function(progress: Progress | bool | None) -> Progress:
    """The function that progress goes to; raises `InputError` for what is none."""
    if progress is None or isinstance(progress, bool):
        return show_progress if progress else silent
    if not callable(progress):
        raise InputError(f"progress={progress!r} is not possible; give True, False or a function (stage, done, total).")
    return progress


def silent(stage: str, done: int, total: int) -> None:
    """Show no progress."""
