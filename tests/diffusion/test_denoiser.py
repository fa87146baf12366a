"""bind: a network sees integer timesteps and its conditioning, and its output is read in float32."""

import pytest
import torch
from torch import Tensor, nn

from unclip.diffusion import Prediction, bind, cosine_schedule
from unclip.errors import ConfigError

SCHEDULE = cosine_schedule()


class Recorder(nn.Module):
    """A linear network that keeps what it was told."""

    def __init__(self, out_channels: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, out_channels, 1)

    def forward(self, x_t: Tensor, timestep: Tensor, label: Tensor, mask: Tensor | None) -> Tensor:
        self.timestep, self.label, self.mask = timestep, label, mask
        return self.conv(x_t.to(self.conv.weight.dtype)) + label[:, None, None, None].to(self.conv.weight.dtype)


def test_network_receives_timesteps_and_conditioning() -> None:
    network, label = Recorder(), torch.tensor([0.5, -0.5])
    denoiser = bind(network, SCHEDULE, "eps", {"label": label, "mask": None})
    denoiser(torch.randn(2, 3, 4, 4), SCHEDULE.time(640))
    assert torch.equal(network.timestep, torch.tensor([640.0, 640.0]))
    assert network.label is label
    assert network.mask is None
    denoiser(torch.randn(2, 3, 4, 4), SCHEDULE.time(torch.tensor([0, 999])).float())
    assert torch.equal(network.timestep, torch.tensor([0.0, 999.0]))


def test_prediction_is_the_conversion_of_the_output() -> None:
    network, x_t, t = Recorder(), torch.randn(2, 3, 4, 4), SCHEDULE.time(300)
    label = torch.zeros(2)
    output = network(x_t, t, label, None)
    prediction = bind(network, SCHEDULE, "x0", {"label": label, "mask": None})(x_t, t)
    assert isinstance(prediction, Prediction)
    assert torch.equal(prediction.x0, output)
    torch.testing.assert_close(SCHEDULE.alpha(t) * prediction.x0 + SCHEDULE.sigma(t) * prediction.eps, x_t)
    assert prediction.variance_fraction is None


def test_learned_variance_is_split_off_and_mapped_to_a_fraction() -> None:
    network, x_t, t, label = Recorder(6), torch.randn(2, 3, 4, 4), SCHEDULE.time(300), torch.zeros(2)
    output = network(x_t, t, label, None)
    prediction = bind(network, SCHEDULE, "eps", {"label": label, "mask": None}, learned_variance=True)(x_t, t)
    assert torch.equal(prediction.eps, output[:, :3])
    torch.testing.assert_close(prediction.variance_fraction, (output[:, 3:] + 1) / 2)


@pytest.mark.parametrize(
    ("network_dtype", "sample_dtype", "expected"),
    [
        (torch.bfloat16, torch.float32, torch.float32),
        (torch.float32, torch.float64, torch.float64),
        (torch.bfloat16, torch.bfloat16, torch.float32),
    ],
)
def test_answer_is_at_least_float32(
    network_dtype: torch.dtype, sample_dtype: torch.dtype, expected: torch.dtype
) -> None:
    network, x_t = Recorder().to(network_dtype), torch.randn(2, 3, 4, 4).to(sample_dtype)
    prediction = bind(network, SCHEDULE, "v", {"label": torch.zeros(2), "mask": None})(x_t, SCHEDULE.time(500))
    assert prediction.x0.dtype == prediction.eps.dtype == expected


@pytest.mark.parametrize(("channels", "learned_variance"), [(3, True), (6, False), (4, False)])
def test_channels_that_do_not_fit_are_named(channels: int, learned_variance: bool) -> None:
    denoiser = bind(Recorder(channels), SCHEDULE, "eps", {"label": torch.zeros(2), "mask": None}, learned_variance)
    with pytest.raises(ConfigError, match=f"returns {channels} channels for a sample of 3; .*learned_variance"):
        denoiser(torch.randn(2, 3, 4, 4), SCHEDULE.time(0))


def test_unknown_conditioning_fails_in_the_network() -> None:
    with pytest.raises(TypeError, match="labell"):
        bind(Recorder(), SCHEDULE, "eps", {"labell": torch.zeros(2)})(torch.randn(2, 3, 4, 4), SCHEDULE.time(0))
