"""What prior, decoder and upsampler share: a network with its schedule and settings that can be sampled."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unclip.diffusion import (
    Denoiser,
    DiscreteSchedule,
    SamplerStep,
    add_noise,
    bind,
    clip_x0,
    ddim,
    get_sampler,
    guide,
    keep_known,
    make_schedule,
    repaint,
    self_condition,
    start_known,
    time_grid,
    times_from,
)
from unclip.model.families import family_of
from unclip.model.family import Conditioning, Family
from unclip.model.settings import StageSettings
from unclip.models import ScheduleName, count_parameters
from unclip.runtime import NoiseSource
from unclip.shapes import Sample

UNITS = ((10**9, "B"), (10**6, "M"), (10**3, "k"))


class Start(NamedTuple):
    """What sampling begins from: noise, or a picture with a strength and a mask."""

    x_T: Sample | None = None
    """The noise to begin with; None draws it."""
    picture: Sample | None = None
    """The picture to draw over, in the numbers of the stage: pixels in [-1, 1], or latents."""
    strength: float = 1.0
    """Share of the noise that is put on `picture` and taken away again, in (0, 1]; 1 leaves nothing of it (SDEdit)."""
    mask: Float[Tensor, "_batch 1 _height _width"] | None = None
    """1 where the stage paints, 0 where `picture` stays; None: it paints everywhere."""
    num_resamples: int = 1
    """How often each step is made when a part stays, noise being put back in between (RePaint); 1 is once."""


FROM_NOISE = Start()


@dataclass(frozen=True, eq=False, repr=False)
class Stage(ABC):
    """A network and how it is sampled unless a caller says otherwise."""

    network: Any
    defaults: StageSettings

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the stage in settings and files."""

    @property
    def networks(self) -> dict[str, nn.Module]:
        """All its networks by the names of their files."""
        return {self.name: self.network}

    @property
    def family(self) -> Family:
        """What is known of the class of its network."""
        return family_of(self.network.config)

    @property
    def schedule(self) -> DiscreteSchedule:
        """The noise schedule that the network was trained on."""
        return self.schedule_of(self.defaults)

    def schedule_of(self, settings: StageSettings) -> DiscreteSchedule:
        """Return the schedule in the precision that `settings` ask for."""
        config = self.network.config
        return trained_schedule(config.schedule, config.num_timesteps, settings.schedule_dtype)

    @property
    def leads_from_text(self) -> bool:
        """Whether guidance leads away from a text, so that a negative prompt has an effect."""
        return self.family.leads_from_text(self.network.config)

    def guided(self, conditioning: Sequence[Conditioning], settings: StageSettings, x0_bound: float) -> Denoiser:
        """Make the denoiser of the first `conditioning`, guided away from the second, x0 held within the bound.

        It is for one sampling: a self-conditioned network reads its last x0.
        """
        config, schedule = self.network.config, self.schedule_of(settings)
        learned_variance = self.family.stage != "prior" and config.learned_variance

        def denoiser_of(x0_conditioning: Conditioning) -> Denoiser:
            conditional, unconditional = (
                bind(self.network, schedule, config.prediction_type, {**inputs, **x0_conditioning}, learned_variance)
                for inputs in conditioning
            )
            guided = guide(conditional, unconditional, settings.guidance_scale, settings.guidance_interval)
            return clip_x0(guided, settings.x0_bound or x0_bound)

        if not (self.family.can_self_condition and config.self_conditioning):
            return denoiser_of({})
        return self_condition(lambda x0: denoiser_of({"self_condition": x0}), schedule)

    def draw(self, noise: NoiseSource, shape: tuple[int, ...], device: torch.device) -> Tensor:
        """Draw noise for a sample of `shape` from each generator.

        In float64 where the weights are, as a reference for others, else in float32.
        """
        return noise(shape, device, torch.promote_types(next(self.network.parameters()).dtype, torch.float32))

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.describe()}>"

    def describe(self) -> str:
        """Describe the stage in a few words: its network, and how it is sampled."""
        settings = self.defaults
        guidance = "" if settings.guidance_scale == 1.0 else f", guidance {settings.guidance_scale:g}"
        steps = "step" if settings.num_steps == 1 else "steps"
        return f"{describe_network(self.network)}, {settings.num_steps} {steps} of {settings.sampler}{guidance}"


def sample_steps(
    denoiser: Denoiser,
    schedule: DiscreteSchedule,
    settings: StageSettings,
    draw: Callable[[], Tensor],
    start: Start = FROM_NOISE,
) -> Iterator[SamplerStep]:
    """Sample down to t = 0 by the sampler that `settings` name; `x_t` of the last step is the result.

    `draw` gives noise in the shape of the sample: once for the start unless `start` brings its x_T, then once per step
    that needs it. Raises `InputError` for an unknown sampler, and for more steps than the schedule has.
    """
    # Only DDIM has an eta, as the settings have checked.
    sampler = partial(ddim, eta=settings.eta) if settings.eta else get_sampler(settings.sampler).sample
    times = stage_times(schedule, settings, start.strength)
    x_T = draw() if start.x_T is None else start.x_T
    if start.picture is not None and start.strength < 1.0:
        x_T = add_noise(schedule, start.picture, x_T, times[0])
    if start.mask is None:
        return sampler(denoiser, x_T, times, draw)
    assert start.picture is not None, "a mask says which part of a picture stays"
    x_T = start_known(schedule, start.picture, start.mask, x_T, times[0]) if start.strength == 1.0 else x_T
    kept = keep_known(denoiser, start.picture, start.mask)
    return repaint(sampler, kept, x_T, times, draw, start.num_resamples)


def stage_times(schedule: DiscreteSchedule, settings: StageSettings, strength: float = 1.0) -> Tensor:
    """Return the falling times that a sampler visits; raises `InputError` for more steps than the schedule has."""
    times = time_grid(schedule, settings.num_steps, settings.spacing, settings.sigma_min)
    return times if strength == 1.0 else times_from(times, strength)


def run_to_end(steps: Iterator[SamplerStep]) -> Tensor:
    """Run a sampler to its end and return its result."""
    (step,) = deque(steps, maxlen=1)
    return step.x_t


@cache
def trained_schedule(name: ScheduleName, num_timesteps: int, dtype: str) -> DiscreteSchedule:
    """Make the noise schedule that a network was trained on, its table in `dtype`; each is made once."""
    return make_schedule(name, num_timesteps, getattr(torch, dtype))


def describe_network(network: nn.Module) -> str:
    """Describe the size of a network in a few words: `6.2M parameters in bfloat16`."""
    count, weight = count_parameters(network), next(network.parameters())
    unit, name = next(((unit, name) for unit, name in UNITS if count >= unit), (1, ""))
    place = "read when needed" if weight.is_meta else f"in {str(weight.dtype).removeprefix('torch.')}"
    return f"{count / unit:.3g}{name} parameters {place}"
