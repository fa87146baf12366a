"""Self-conditioning: what is shown in each step, to which pass of guidance, and that no gradient flows through it."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from unclip.diffusion import (
    Denoiser,
    bind,
    clip_x0,
    cosine_schedule,
    ddim,
    estimate_x0,
    guide,
    self_condition,
    time_grid,
)

SCHEDULE = cosine_schedule()


class Network(nn.Module):
    """Reads a label and its own last prediction; keeps what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(10, 16), nn.Linear(16, 4)
        self.shown: list[Tensor | None] = []

    def forward(self, x_t: Tensor, timestep: Tensor, label: Tensor, self_condition: Tensor | None) -> Tensor:
        self.shown.append(self_condition)
        own = torch.zeros_like(x_t) if self_condition is None else self_condition
        told = torch.stack([timestep / 1000, label], dim=1)
        return self.outer(torch.tanh(self.inner(torch.cat([x_t, own, told], dim=1))))


def shown(network: Network, x0: Tensor | None) -> Denoiser:
    """The guided, bounded denoiser that is shown `x0`."""
    passes = (
        bind(network, SCHEDULE, "x0", {"label": torch.full((3,), label), "self_condition": x0}) for label in (1.0, 0.0)
    )
    return clip_x0(guide(*passes, 3.0), 0.5)


def test_sampling_is_the_loop_of_the_paper() -> None:
    network, times, start = Network(), time_grid(SCHEDULE, 5), torch.randn(3, 4)
    *_, done = ddim(self_condition(lambda x0: shown(network, x0), SCHEDULE), start, times)
    x_t, x0 = start, None
    for now, after in itertools.pairwise(times):
        with torch.no_grad():
            prediction = shown(network, x0)(x_t, now)
        x0 = prediction.x0
        x_t = (SCHEDULE.alpha(after) * x0 + SCHEDULE.sigma(after) * prediction.eps).float()
    torch.testing.assert_close(done.x_t, x_t)


def test_both_passes_of_guidance_see_the_x0_that_guidance_and_bound_made() -> None:
    network = Network()
    denoiser = self_condition(lambda x0: shown(network, x0), SCHEDULE)
    t = SCHEDULE.time(700)
    first = denoiser(5 * torch.randn(3, 4), t).x0
    denoiser(torch.randn(3, 4), t)
    assert network.shown[0] is None
    assert first.abs().max().item() == 0.5
    assert torch.equal(network.shown[1], torch.cat([first, first]))


def test_another_sampling_begins_with_nothing() -> None:
    network, times = Network(), time_grid(SCHEDULE, 4)
    start = torch.randn(3, 4)
    ends = [list(ddim(self_condition(lambda x0: shown(network, x0), SCHEDULE), start, times))[-1].x_t for _ in range(2)]
    assert torch.equal(*ends)
    assert [x0 is None for x0 in network.shown] == [True, False, False, False] * 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_training_shows_an_estimate_without_gradient_and_loses_no_other(dtype: torch.dtype) -> None:
    network, x_t, label = Network(), torch.randn(3, 4), torch.ones(3)
    t = SCHEDULE.time(torch.tensor([100, 500, 999]))
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        blind = bind(network, SCHEDULE, "x0", {"label": label, "self_condition": None})
        x0 = estimate_x0(blind, x_t, t)
        output = network(x_t, SCHEDULE.timestep(t).float(), label, x0)
    assert not x0.requires_grad
    output.float().square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())
