"""The Fréchet distance against SciPy's matrix root and closed forms."""

import numpy as np
import pytest
import scipy.linalg
import torch

from unclip.errors import InputError
from unclip.evaluation import frechet_distance
from unclip.runtime import seeded


def features(rows: int, seed: int) -> torch.Tensor:
    mixing = torch.randn(6, 6, generator=seeded(seed), dtype=torch.float64)
    return torch.randn(rows, 6, generator=seeded(seed, 1), dtype=torch.float64) @ mixing + seed


def test_it_is_that_of_the_textbook_formula() -> None:
    first, second = features(200, 1), features(300, 2)
    covariances = [np.cov(rows.numpy().T) for rows in (first, second)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    shift = (first.mean(0) - second.mean(0)).square().sum().item()
    expected = shift + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(second, first) == pytest.approx(expected, rel=1e-6)


def test_equal_sets_have_none_and_a_shift_has_its_square() -> None:
    rows = features(50, 3)
    assert frechet_distance(rows, rows.flip(0)) == pytest.approx(0.0, abs=1e-7)
    assert frechet_distance(rows, rows + 2.0) == pytest.approx(24.0, rel=1e-9)


def test_scaling_by_s_costs_the_variance_times_the_square_of_s_minus_1() -> None:
    rows = features(50, 4)
    rows = rows - rows.mean(0)
    assert frechet_distance(rows, 3 * rows) == pytest.approx(4 * rows.var(0).sum().item(), rel=1e-9)


def test_one_row_is_refused() -> None:
    with pytest.raises(InputError, match="1 and 50 rows"):
        frechet_distance(features(1, 5), features(50, 5))
