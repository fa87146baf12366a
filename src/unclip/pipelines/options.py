"""What every task that draws may be told. Knows names and their meaning; tasks and stages check the values."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypedDict

from unclip.errors import InputError, did_you_mean
from unclip.pipelines.result import OutputType, check_output_type
from unclip.pipelines.settings import PerStage
from unclip.progress import show_progress

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with the stage, the steps done (from 1) and the steps in all, counted over all pictures."""
ImageSize: TypeAlias = int | tuple[int, int]
"""The side of a square, or (width, height), in pixels."""


class DrawOptions(TypedDict, total=False):
    """Keywords of every task that draws; what is not given is the model's own default.

    A keyword that is none of these is refused with the nearest name.
    """

    seed: int | Sequence[int] | None
    """Seed of an input's first picture; picture k has `seed` + k and a generator of its own. None takes a random one.
    A sequence has the seed of every picture, inputs first; what draws from a single seed takes no sequence."""
    image_size: ImageSize | None
    """A size that the model draws, or (width, height) near one."""
    num_steps: PerStage[int]
    """Sampler steps: one number for all stages, or `{"prior": 25, "decoder": 25, "upsampler_256": 7}`."""
    guidance_scale: PerStage[float]
    """Classifier-free guidance of prior and decoder, 1 = off; upsamplers take none. One number, or by stage."""
    sampler: PerStage[str]
    """ddpm, ddim, heun, dpm++ or dpm++sde; one name, or by stage."""
    output_type: OutputType
    """"pil", "np" (float32, (height, width, 3), [0, 1]) or "pt" (float32, (3, height, width), [-1, 1])."""
    batch_size: int | None
    """Pictures that go through a network together: by default 8, on a CPU where that changes no bit of a picture, else
    1: in float32, and for several prompts of a decoder that reads text. More is faster there, and differs by rounding.
    """
    progress: Progress | bool | None
    """True shows a bar on stderr where that is a terminal, else a line for each stage; False and None show nothing.
    A function is called as progress(stage, steps_done, num_steps); an exception from it stops the drawing."""


def check_options(options: Mapping[str, Any]) -> None:
    """Raise `InputError`, with the nearest name, for a keyword that no task has, and for an unknown `output_type`."""
    for name in options:
        if name not in DrawOptions.__annotations__:
            raise InputError(f"there is no option {name!r}; {did_you_mean(name, DrawOptions.__annotations__)}")
    check_output_type(options.get("output_type", "pil"))


def progress_function(progress: Progress | bool | None) -> Progress:
    """The function that progress goes to; raises `InputError` for what is none."""
    if progress is None or isinstance(progress, bool):
        return show_progress if progress else silent
    if not callable(progress):
        raise InputError(f"progress={progress!r} is not possible; give True, False or a function (stage, done, total).")
    return progress


def silent(stage: str, done: int, total: int) -> None:
    """No progress is shown."""
