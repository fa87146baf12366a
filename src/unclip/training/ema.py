"""Averages of weights over a run, classic and power-function, several at once. Knows no task and no file."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from unclip.errors import ConfigError
from unclip.training.config import TrainConfig

__all__ = ["AverageRule", "Averages", "ema_decay", "power_exponent"]

RAMP_UP = 0.1
# The widest profile, that of exponent 0, is uniform and has the deviation 1 / sqrt(12) of the time trained.
WIDEST = 12**-0.5


def ema_decay(batch_size: int, images_seen: int, half_life: float) -> float:
    """Weight of the old average after one batch; the half-life is at most a tenth of the images seen (EDM2, G.1)."""
    return float(0.5 ** (batch_size / max(1.0, min(half_life, RAMP_UP * images_seen))))


# EDM2 (arXiv 2312.02696), section 3.1: sigma_rel = (gamma + 1)^(1/2) (gamma + 2)^-1 (gamma + 3)^(-1/2), solved.
def power_exponent(sigma_rel: float) -> float:
    """Exponent gamma of the profile t^gamma whose standard deviation is `sigma_rel` times the time trained.

    Raises `ConfigError` outside (0, 0.2887), the deviation of a uniform profile.
    """
    if not 0 < sigma_rel < WIDEST:
        raise ConfigError(f"sigma_rel={sigma_rel} is no width of an average; give one above 0 and below {WIDEST:.4f}.")
    inverse = sigma_rel**-2
    return float(np.roots([1.0, 7.0, 16.0 - inverse, 12.0 - inverse]).real.max())


@dataclass(frozen=True)
class AverageRule:
    """How far averages move towards the weights after each step."""

    kind: Literal["classic", "power"]
    """One average with a half-life, or a power-function average for each width."""
    half_life: float | None = None
    """Of the classic average, in images; at most a tenth of those seen."""
    sigma_rel: tuple[float, ...] = ()
    """Widths of the power-function averages, as shares of the images seen."""

    def __post_init__(self) -> None:
        assert self.kind == "power" or self.half_life is not None, "a classic average has a half-life"
        for width in self.sigma_rel:
            power_exponent(width)
        if self.kind == "power" and not self.sigma_rel:
            raise ConfigError("a power-function average needs a width; give ema_sigma_rel one, such as 0.05.")

    @classmethod
    def of(cls, config: TrainConfig) -> "AverageRule":
        """The rule of a run; raises `ConfigError` for widths that no profile has."""
        if config.ema == "classic":
            return cls("classic", half_life=config.ema_images)
        return cls("power", sigma_rel=config.ema_sigma_rel)

    def __len__(self) -> int:
        """The number of averages."""
        return 1 if self.kind == "classic" else len(self.sigma_rel)

    # EDM2, section 3.1, in images: beta = (1 - batch / images)^(gamma + 1). The first batch replaces the average.
    def weights(self, batch_size: int, images_seen: int) -> tuple[float, ...]:
        """Share of the way to the weights that each average goes, when `images_seen` include the last batch."""
        if self.half_life is not None:
            return (1.0 - ema_decay(batch_size, images_seen, self.half_life),)
        kept = 1.0 - batch_size / images_seen
        return tuple(1.0 - kept ** (power_exponent(width) + 1.0) for width in self.sigma_rel)


class Averages:
    """Copies of a network that follow its weights, each at its own pace; buffers are copied.

    `networks` hold the values of the network at the start, one copy for each average of `rule`; where the network is
    sharded they are sharded in the same way. They are frozen and set to evaluation.
    """

    def __init__(self, networks: Sequence[nn.Module], rule: AverageRule) -> None:
        assert len(networks) == len(rule), f"{len(networks)} networks for {len(rule)} averages"
        self.networks = tuple(network.eval().requires_grad_(False) for network in networks)
        self.rule = rule

    @torch.no_grad()
    def update(self, network: nn.Module, batch_size: int, images_seen: int) -> None:
        """Move the averages towards `network`, which has now seen `images_seen` images."""
        for average, weight in zip(self.networks, self.rule.weights(batch_size, images_seen), strict=True):
            follow(average, network, weight)


def follow(average: nn.Module, network: nn.Module, weight: float) -> None:
    """Move the parameters of one network towards those of another, and copy the buffers."""
    ours: list[Tensor] = [*average.parameters()]
    theirs: list[Tensor] = [*network.parameters()]
    assert len(ours) == len(theirs), f"{len(ours)} parameters are averaged, {len(theirs)} trained"
    torch._foreach_lerp_(ours, theirs, weight)
    for kept, buffer in zip(average.buffers(), network.buffers(), strict=True):
        kept.copy_(buffer)
