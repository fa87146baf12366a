"""The Fréchet distance against SciPy's matrix root, torchmetrics and closed forms."""

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st

from feature_sets import AsTheyAre, features
from unclip.errors import InputError
from unclip.metrics import Gaussian, frechet_distance
from unclip.runtime import seeded


def gaussian(mean: torch.Tensor, covariance: torch.Tensor) -> Gaussian:
    return Gaussian.from_moments(mean.double(), covariance.double(), 1000)


def test_it_is_that_of_the_textbook_formula() -> None:
    first, second = features(200, 1), features(300, 2)
    covariances = [np.cov(rows.numpy().T) for rows in (first, second)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    shift = (first.mean(0) - second.mean(0)).square().sum().item()
    expected = shift + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(second, first) == pytest.approx(expected, rel=1e-9)


@pytest.mark.peers
@pytest.mark.parametrize(("rows", "dim"), [(200, 6), (300, 64), (64, 64), (20, 64)])
def test_it_is_that_of_torchmetrics(rows: int, dim: int) -> None:
    from torchmetrics.image.fid import FrechetInceptionDistance

    real, drawn = features(rows + 10, 1, dim), features(rows, 2, dim)
    theirs = FrechetInceptionDistance(feature=AsTheyAre(dim))
    theirs.update(real, real=True)
    theirs.update(drawn, real=False)
    # Their eigenvalues are those of the product: where it lacks rank, rounding of 1e-16 counts as 1e-8.
    assert frechet_distance(drawn, real) == pytest.approx(theirs.compute().item(), rel=1e-6)


@given(st.lists(st.tuples(*[st.floats(0, 10)] * 4), min_size=1, max_size=6))
def test_independent_directions_add_up(directions: list[tuple[float, ...]]) -> None:
    means, other_means, deviations, other_deviations = torch.tensor(directions, dtype=torch.float64).T
    found = frechet_distance(
        gaussian(means, torch.diag(deviations**2)), gaussian(other_means, torch.diag(other_deviations**2))
    )
    expected = (means - other_means).square().sum() + (deviations - other_deviations).square().sum()
    assert found == pytest.approx(expected.item(), rel=1e-9, abs=1e-9)


def test_covariances_that_share_directions() -> None:
    turn = torch.linalg.qr(torch.randn(5, 5, generator=seeded(1), dtype=torch.float64)).Q
    deviations, others = torch.tensor([[3, 2, 1, 0, 0], [1, 0, 4, 2, 0]]).double()
    first, second = (gaussian(torch.zeros(5), turn @ torch.diag(d**2) @ turn.T) for d in (deviations, others))
    assert frechet_distance(first, second) == pytest.approx((deviations - others).square().sum().item(), rel=1e-12)


def test_few_rows_are_measured_as_exactly_as_by_their_covariances() -> None:
    """Two rows each: covariances of rank 1, u u^T and v v^T, whose product has the root trace |u v|."""
    first, second = features(2, 1, 40), features(2, 2, 40)
    u, v = ((rows[0] - rows[1]) / 2**0.5 for rows in (first, second))
    expected = (first.mean(0) - second.mean(0)).square().sum() + u @ u + v @ v - 2 * (u @ v).abs()
    for a in (first, Gaussian.of(first)):
        for b in (second, Gaussian.of(second)):
            assert frechet_distance(a, b) == pytest.approx(expected.item(), rel=1e-10)


@pytest.mark.parametrize("rows", [10, 40, 41, 200])
def test_rows_and_what_is_known_of_them_give_the_same(rows: int) -> None:
    first, second = features(rows, 1, 40), features(100, 2, 40)
    expected = frechet_distance(first, second)
    assert frechet_distance(Gaussian.of(first), second) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(first.flip(0).float(), Gaussian.of(second)) == pytest.approx(expected, rel=1e-5)
    assert frechet_distance(first.flip(0), Gaussian.of(second)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("rows", [5, 50])
def test_equal_sets_have_none_and_a_shift_has_its_square(rows: int) -> None:
    given_rows = features(rows, 3)
    assert frechet_distance(given_rows, given_rows.flip(0)) == pytest.approx(0.0, abs=1e-11)
    assert frechet_distance(given_rows, given_rows + 2.0) == pytest.approx(24.0, rel=1e-9)


def test_scaling_by_s_costs_the_variance_times_the_square_of_s_minus_1() -> None:
    rows = features(50, 4)
    rows = rows - rows.mean(0)
    assert frechet_distance(rows, 3 * rows) == pytest.approx(4 * rows.var(0).sum().item(), rel=1e-9)


def test_rows_that_are_all_alike_are_points() -> None:
    assert frechet_distance(torch.ones(9, 3), torch.zeros(9, 3)) == pytest.approx(3.0, rel=1e-12)


def test_one_row_is_refused() -> None:
    with pytest.raises(InputError, match=r"the first features have 1 rows, .* at least 2"):
        frechet_distance(features(1, 5), features(50, 5))
    with pytest.raises(InputError, match=r"1 row has no covariance"):
        frechet_distance(Gaussian.of(features(1, 5)), features(50, 5))


def test_other_features_are_refused() -> None:
    with pytest.raises(InputError, match=r"rows of 6 and of 7 features"):
        frechet_distance(features(50, 5), Gaussian.of(features(50, 5, 7)))
