"""Bootstrap intervals against the normal interval of a mean and the scatter of fresh draws."""

import pytest
import torch
from torch import Tensor

from unclip.errors import InputError
from unclip.metrics import ConfidenceInterval, bootstrap, frechet_distance
from unclip.runtime import seeded


def mean(rows: Tensor) -> float:
    return rows.mean().item()


@pytest.mark.parametrize(("level", "deviations"), [(0.95, 1.95996), (0.5, 0.67449)])
def test_that_of_a_mean_is_the_normal_one(level: float, deviations: float) -> None:
    rows = torch.randn(400, 1, generator=seeded(1), dtype=torch.float64)
    found = bootstrap(mean, rows, num_resamples=4000, level=level)
    half = deviations * rows.std(correction=0).item() / 400**0.5
    assert found.low == pytest.approx(mean(rows) - half, abs=0.1 * half)
    assert found.high == pytest.approx(mean(rows) + half, abs=0.1 * half)


def test_that_of_a_distance_is_around_it_and_as_wide_as_fresh_draws_scatter() -> None:
    sets = torch.randn(200, 300, 3, generator=seeded(2), dtype=torch.float64)
    reference = 1.3 * sets[0] + 0.2
    values = torch.tensor([frechet_distance(rows, reference) for rows in sets[1:]], dtype=torch.float64)
    widths = []
    for rows in sets[1:9]:
        found = bootstrap(lambda drawn: frechet_distance(drawn, reference), rows, num_resamples=200)
        assert found.low < frechet_distance(rows, reference) < found.high
        widths.append(found.high - found.low)
    assert sum(widths) / len(widths) == pytest.approx(2 * 1.96 * values.std().item(), rel=0.25)


def test_pairs_stay_together() -> None:
    rows = torch.randn(50, 2, generator=seeded(3))
    interval = bootstrap(lambda a, b: (a - b).abs().max().item(), rows, rows.clone(), num_resamples=20)
    assert interval == ConfidenceInterval(0.0, 0.0)


def test_a_seed_names_the_draws() -> None:
    rows = torch.randn(50, 2, generator=seeded(4))
    first, again, other = (bootstrap(mean, rows, num_resamples=20, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("sizes", "options", "said"),
    [
        ((5, 6), {}, r"sets of \[5, 6\] rows are no pairs"),
        ((), {}, r"sets of \[\] rows"),
        ((0,), {}, r"sets of \[0\] rows"),
        ((5,), {"num_resamples": 1}, r"num_resamples=1 gives no interval; use at least 2"),
        ((5,), {"level": 95.0}, r"level=95.0 is no level of confidence"),
    ],
)
def test_bad_arguments_are_refused(sizes: tuple[int, ...], options: dict[str, float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        bootstrap(mean, *(torch.zeros(size, 1) for size in sizes), **options)  # type: ignore[arg-type]
