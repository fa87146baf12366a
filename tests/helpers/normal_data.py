"""Normal data, of which the exact denoiser and the exact flow are known."""

from dataclasses import dataclass

import torch
from torch import Tensor

from unclip.diffusion import NoiseSchedule, Prediction


@dataclass(frozen=True, eq=False)
class NormalDenoiser:
    """E[x0 | x_t] of N(mean, variance) data, a normal distribution for each of its numbers."""

    schedule: NoiseSchedule
    mean: Tensor
    variance: Tensor

    def __call__(self, x_t: Tensor, t: Tensor) -> Prediction:
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        x0 = self.mean + alpha * self.variance / self.variance_at(t) * (x_t - alpha * self.mean)
        return Prediction(x0, (x_t - alpha * x0) / sigma)

    def variance_at(self, t: Tensor | float) -> Tensor:
        """Variance of x_t."""
        return self.schedule.alpha(t) ** 2 * self.variance + self.schedule.sigma(t) ** 2

    def flow(self, x: Tensor, t: Tensor | float, t_next: Tensor | float) -> Tensor:
        """Where the probability-flow ODE carries x from t to t_next: quantiles stay quantiles."""
        centred = x - self.schedule.alpha(t) * self.mean
        stretch = torch.sqrt(self.variance_at(t_next) / self.variance_at(t))
        return self.schedule.alpha(t_next) * self.mean + stretch * centred
