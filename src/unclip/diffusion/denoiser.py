"""The contract between networks and samplers; a network is any function from tensors to a tensor."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from unclip.diffusion.prediction import Prediction, PredictionType, to_prediction
from unclip.diffusion.schedules import NoiseSchedule, TimestepSchedule
from unclip.errors import ConfigError
from unclip.shapes import Sample


@runtime_checkable
class Denoiser(Protocol):
    """All that a sampler ever sees: a schedule, and a prediction for x_t at t."""

    @property
    def schedule(self) -> NoiseSchedule:
        """The schedule that x_t follows."""
        ...

    def __call__(self, x_t: Tensor, t: Tensor) -> Prediction:
        """x_t: (batch, ...); t: one number or (batch,), in (0, 1]."""
        ...


@dataclass(frozen=True, eq=False)
class BoundDenoiser:
    """A network together with its conditioning; made by `bind`."""

    network: Callable[..., Tensor]
    schedule: TimestepSchedule
    prediction_type: PredictionType
    conditioning: Mapping[str, Tensor | None]
    learned_variance: bool = False

    def __call__(self, x_t: Sample, t: Float[Tensor, "*times"]) -> Prediction:
        timestep = self.schedule.timestep(t).to(x_t.device).expand(len(x_t))
        output = self.network(x_t, timestep, **self.conditioning)
        output = output.to(torch.promote_types(x_t.dtype, torch.float32))
        mean, variance_fraction = split_variance(output, x_t, self.learned_variance)
        return to_prediction(self.prediction_type, self.schedule, x_t, mean, t, variance_fraction)


def bind(
    network: Callable[..., Tensor],
    schedule: TimestepSchedule,
    prediction_type: PredictionType,
    conditioning: Mapping[str, Tensor | None],
    learned_variance: bool = False,
) -> BoundDenoiser:
    """Make a network a Denoiser: it is called as network(x_t, timestep, **conditioning), timestep float32 (batch,).

    conditioning: tensors with the batch first, or None, passed to the network by name.
    learned_variance: the network returns twice the channels of x_t, the second half in about [-1, 1].
    The answer is float32, or float64 for a float64 x_t, whatever the network computes in.
    """
    return BoundDenoiser(network, schedule, prediction_type, conditioning, learned_variance)


# Variance fraction (v + 1) / 2, Improved DDPM eq. 15, with v in [-1, 1] as released weights have it.
def split_variance(output: Tensor, x_t: Tensor, learned_variance: bool) -> tuple[Tensor, Tensor | None]:
    """Split a network's output into the prediction, in the shape of x_t, and the variance fraction, or None.

    Raises ConfigError where the channels do not match.
    """
    expected = (1 + learned_variance) * x_t.shape[1]
    if output.shape[1] != expected:
        raise ConfigError(
            f"the network returns {output.shape[1]} channels for a sample of {x_t.shape[1]}; "
            f"learned_variance={learned_variance} needs {expected}; set it as the network was built."
        )
    if not learned_variance:
        return output, None
    mean, variance = output.chunk(2, dim=1)
    return mean, (variance + 1) / 2
