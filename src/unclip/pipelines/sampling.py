"""Run a sampler on a stage: from settings and a start to sampler steps."""

from collections import deque
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unclip.clip import TextFeatures
from unclip.diffusion import (
    Denoiser,
    DiscreteSchedule,
    Sampler,
    SamplerStep,
    add_noise,
    ddim,
    get_sampler,
    keep_known,
    make_schedule,
    repaint,
    start_known,
    time_grid,
    times_from,
)
from unclip.model.settings import StageSettings
from unclip.models import ScheduleName, count_parameters
from unclip.shapes import Sample


class Start(NamedTuple):
    """A sampler's start: fresh noise, an x_T, a picture to draw over, or one of which a part stays."""

    x_T: Sample | None = None
    """The noise to begin with; None draws it."""
    picture: Sample | None = None
    """What is there already, in the numbers of the stage: pixels in [-1, 1], or latents."""
    strength: float = 1.0
    """Share of the noise that is put on `picture` and taken away again, in (0, 1]; 1 leaves nothing of it (SDEdit)."""
    mask: Float[Tensor, "_batch 1 _height _width"] | None = None
    """1 where the stage paints, 0 where `picture` stays; None: it paints everywhere."""
    num_resamples: int = 1
    """How often each step is made when a part stays, noise being put back in between (RePaint); 1 is once."""


FROM_NOISE = Start()


UNITS = ((10**9, "B"), (10**6, "M"), (10**3, "k"))


@cache
def trained_schedule(name: ScheduleName, num_timesteps: int, dtype: str) -> DiscreteSchedule:
    """The noise schedule that a network was trained on, its table in `dtype`; each is made once."""
    return make_schedule(name, num_timesteps, getattr(torch, dtype))


def stage_times(schedule: DiscreteSchedule, settings: StageSettings, strength: float = 1.0) -> Tensor:
    """The falling times that a sampler visits; raises `InputError` for more steps than the schedule has."""
    times = time_grid(schedule, settings.num_steps, settings.spacing, settings.sigma_min)
    return times if strength == 1.0 else times_from(times, strength)


def sample_dtype(network: nn.Module) -> torch.dtype:
    """What a network is sampled in: float64 where its weights are, as a reference for others, else float32."""
    return torch.promote_types(next(network.parameters()).dtype, torch.float32)


def sample_steps(
    denoiser: Denoiser,
    schedule: DiscreteSchedule,
    settings: StageSettings,
    draw: Callable[[], Tensor],
    start: Start = FROM_NOISE,
) -> Iterator[SamplerStep]:
    """The steps of the sampler that `settings` name, down to t = 0; `x_t` of the last one is the result.

    `draw` gives noise in the shape of the sample: once for the start unless `start` brings its x_T, then once per step
    that needs it. Raises `InputError` for an unknown sampler, and for more steps than the schedule has.
    """
    times = stage_times(schedule, settings, start.strength)
    x_T = draw() if start.x_T is None else start.x_T
    if start.picture is not None and start.strength < 1.0:
        x_T = add_noise(schedule, start.picture, x_T, times[0])
    if start.mask is None:
        return _sampler(settings)(denoiser, x_T, times, draw)
    assert start.picture is not None, "a mask says which part of a picture stays"
    x_T = start_known(schedule, start.picture, start.mask, x_T, times[0]) if start.strength == 1.0 else x_T
    kept = keep_known(denoiser, start.picture, start.mask)
    return repaint(_sampler(settings), kept, x_T, times, draw, start.num_resamples)


def run_to_end(steps: Iterator[SamplerStep]) -> Tensor:
    """Run a sampler to its end and return its result."""
    (step,) = deque(steps, maxlen=1)
    return step.x_t


def expand_text(text: TextFeatures, rows: int) -> TextFeatures:
    """The features of one text as a view for `rows` rows."""
    return TextFeatures(*(value.expand(rows, *value.shape[1:]) for value in text))


def select_text(text: TextFeatures, rows: list[int]) -> TextFeatures:
    """The features of the texts numbered `rows`."""
    return TextFeatures(*(value[rows] for value in text))


def trim_texts(*texts: TextFeatures) -> list[TextFeatures]:
    """Cut the padding that all the texts share; networks mask the rest, so this saves time and changes nothing."""
    # Where costs are counted on meta nothing can be looked at: texts are taken to be as long as they may be.
    if any(text.mask.is_meta for text in texts):
        return list(texts)
    length = max(int(text.mask.sum(dim=1).max()) for text in texts)
    return [TextFeatures(text.embedding, text.hidden[:, :length], text.mask[:, :length]) for text in texts]


def describe_network(network: nn.Module) -> str:
    """The size of a network in a few words: `6.2M parameters in bfloat16`."""
    count, weight = count_parameters(network), next(network.parameters())
    unit, name = next(((unit, name) for unit, name in UNITS if count >= unit), (1, ""))
    held = "read when needed" if weight.is_meta else f"in {str(weight.dtype).removeprefix('torch.')}"
    return f"{count / unit:.3g}{name} parameters {held}"


def describe_stage(network: nn.Module, settings: StageSettings) -> str:
    """A stage in a few words: its network, and how it is sampled."""
    guidance = "" if settings.guidance_scale == 1.0 else f", guidance {settings.guidance_scale:g}"
    steps = "step" if settings.num_steps == 1 else "steps"
    return f"{describe_network(network)}, {settings.num_steps} {steps} of {settings.sampler}{guidance}"


def _sampler(settings: StageSettings) -> Sampler:
    """The sampler by name; `eta` is a matter of DDIM's alone, as the settings have checked."""
    return partial(ddim, eta=settings.eta) if settings.eta else get_sampler(settings.sampler).sample
