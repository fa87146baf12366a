"""Two denoisers in turn: which one is asked at which time."""

import torch

from unclip.diffusion import Denoiser, Prediction, cosine_schedule, hand_over


class Constant:
    """A denoiser that says one number."""

    schedule = cosine_schedule()

    def __init__(self, value: float) -> None:
        self.value = value

    def __call__(self, x_t: torch.Tensor, t: torch.Tensor) -> Prediction:
        return Prediction(torch.full_like(x_t, self.value), x_t)


def test_the_last_one_takes_over_at_its_time() -> None:
    both = hand_over(Constant(1.0), Constant(2.0), 0.5)
    assert isinstance(both, Denoiser)
    assert both.schedule is Constant.schedule
    x_t = torch.zeros(1, 3)
    said = [float(both(x_t, torch.tensor(t, dtype=torch.float64)).x0[0, 0]) for t in (0.9, 0.5000001, 0.5, 0.1)]
    assert said == [1.0, 1.0, 2.0, 2.0]
