"""A denoiser that is shown its own last x0, and the estimate that training shows; they know a denoiser, no network."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from unclip.diffusion.denoiser import Denoiser
from unclip.diffusion.prediction import Prediction
from unclip.diffusion.schedules import NoiseSchedule
from unclip.shapes import Sample, Timesteps

DenoiserOf: TypeAlias = Callable[[Tensor | None], Denoiser]


def self_condition(denoiser_of: DenoiserOf, schedule: NoiseSchedule) -> Denoiser:
    """A denoiser for one trajectory, shown in each call the x0 that it predicted in the one before.

    `denoiser_of(x0)` is the denoiser shown `x0`, None at first; it follows `schedule`. What is remembered is what comes
    out of it: guidance and bounds belong inside, so that both passes of a guided pair are shown the same x0.
    """
    return SelfConditionedDenoiser(denoiser_of, schedule)


# Analog Bits (arXiv 2208.04202), algorithm 2: x_pred of one step is an input of the next.
@dataclass(eq=False)
class SelfConditionedDenoiser:
    """A denoiser with a memory; made by `self_condition`, anew for each sampling."""

    denoiser_of: DenoiserOf
    schedule: NoiseSchedule
    last: Tensor | None = None

    def __call__(self, x_t: Sample, t: Float[Tensor, "*times"]) -> Prediction:
        prediction = self.denoiser_of(self.last)(x_t, t)
        self.last = prediction.x0
        return prediction


# Analog Bits, algorithm 1: the estimate of a first pass is an input of the second, and no gradient flows through it.
def estimate_x0(denoiser: Denoiser, x_t: Sample, t: Timesteps) -> Sample:
    """What a training step shows a self-conditioned network: x0 as `denoiser`, shown none itself, predicts it.

    Bound it as in sampling (`clip_x0`): at the noisy end an x0 that is computed from eps has no bounds.
    """
    with torch.no_grad():
        x0 = denoiser(x_t, t).x0
    # Autocast keeps weights that it has cast; older versions of torch would take these, which have no gradient, for
    # the pass that trains.
    torch.clear_autocast_cache()
    return x0
