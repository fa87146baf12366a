"""Running a sampler on a stage: settings to steps, steps to a result. Knows a `Denoiser` and settings; not networks."""

from collections import deque
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from unclip.clip import TextFeatures
from unclip.diffusion import Denoiser, DiscreteSchedule, SamplerStep, get_sampler, make_schedule, time_grid
from unclip.models import ScheduleName
from unclip.pipelines.settings import StageSettings
from unclip.shapes import Sample

__all__ = ["expand_text", "last", "sample_steps", "select_text", "trained_schedule", "trim_texts"]

# Embeddings are in standard deviations: one further out is noise (Karlo clamps at 10 too). Pixels lie in [-1, 1].
EMBEDDING_BOUND, PIXEL_BOUND = 10.0, 1.0


def trained_schedule(name: ScheduleName, num_timesteps: int, settings: StageSettings) -> DiscreteSchedule:
    """The noise schedule that a network was trained on, in the precision that its sampling asks for."""
    return make_schedule(name, num_timesteps, getattr(torch, settings.schedule_dtype))


def sample_steps(
    denoiser: Denoiser,
    schedule: DiscreteSchedule,
    x_T: Sample,
    settings: StageSettings,
    draw: Callable[[], Tensor],
) -> Iterator[SamplerStep]:
    """The steps of the sampler that `settings` name, from `x_T` to t = 0; `x_t` of the last one is the result.

    `draw` gives noise in the shape of `x_T`, asked for once per step that needs it. Raises `InputError` for an unknown
    sampler, and for more steps than the schedule has.
    """
    times = time_grid(schedule, settings.num_steps, settings.spacing)
    return get_sampler(settings.sampler).sample(denoiser, x_T, times, draw)


def last(steps: Iterator[SamplerStep]) -> Tensor:
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
    length = max(int(text.mask.sum(dim=1).max()) for text in texts)
    return [TextFeatures(text.embedding, text.hidden[:, :length], text.mask[:, :length]) for text in texts]
