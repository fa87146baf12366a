"""Means and covariances gathered in parts, against numpy over all rows."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from feature_sets import features
from unclip.errors import InputError
from unclip.metrics import Gaussian


def assert_is_of(found: Gaussian, rows: torch.Tensor) -> None:
    assert found.count == len(rows)
    torch.testing.assert_close(found.mean, rows.mean(dim=0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.covariance, torch.from_numpy(np.cov(rows.numpy().T)), rtol=1e-11, atol=1e-11)


@given(st.lists(st.integers(1, 30), min_size=2, max_size=6), st.permutations(range(6)))
def test_parts_in_any_order_give_the_whole(sizes: list[int], order: list[int]) -> None:
    rows = features(sum(sizes), 1, 4)
    parts = rows.split(sizes)
    gathered = [Gaussian.of(parts[place]) for place in order if place < len(parts)]
    found = gathered[0]
    for part in gathered[1:]:
        found = found.merge(part)
    assert_is_of(found, rows)


def test_more_rows_than_a_block() -> None:
    rows = features(5000, 2, 3)
    assert_is_of(Gaussian.of(rows), rows)


def test_a_far_mean_costs_no_digits() -> None:
    rows = features(3000, 3, 3)
    far = Gaussian.of(rows + 1e6)
    torch.testing.assert_close(far.covariance, Gaussian.of(rows).covariance, rtol=1e-8, atol=1e-8)


def test_published_moments_come_back() -> None:
    of_rows = Gaussian.of(features(30, 4, 3))
    found = Gaussian.from_moments(of_rows.mean, of_rows.covariance, 30)
    torch.testing.assert_close(found.deviations, of_rows.deviations, rtol=1e-14, atol=0.0)


def test_bad_rows_are_refused() -> None:
    with pytest.raises(InputError, match=r"have 0 rows"):
        Gaussian.of(torch.zeros(0, 3))
    with pytest.raises(InputError, match=r"rows of 3 and of 4 features"):
        Gaussian.of(torch.zeros(2, 3)).merge(Gaussian.of(torch.zeros(2, 4)))
    with pytest.raises(InputError, match=r"NaN or infinity in 2 of 5 rows \(the first is row 1\)"):
        rows = torch.zeros(5, 3)
        rows[1, 2], rows[4, 0] = torch.nan, -torch.inf
        Gaussian.of(rows)
