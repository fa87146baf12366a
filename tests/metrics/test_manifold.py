"""Precision, recall, density and coverage against their definitions, prdc, and sets of known neighbours."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from feature_sets import features
from unclip.errors import InputError
from unclip.metrics import ManifoldMetrics, manifold_metrics
from unclip.runtime import seeded


def cloud(rows: int, seed: int, shift: float, dim: int = 4) -> torch.Tensor:
    return torch.randn(rows, dim, generator=seeded(seed), dtype=torch.float64) + shift


def assert_equal_prdc(real: torch.Tensor, drawn: torch.Tensor, k: int) -> None:
    from prdc import compute_prdc

    expected = compute_prdc(real.numpy(), drawn.numpy(), nearest_k=k)
    assert manifold_metrics(real, drawn, k)._asdict() == pytest.approx(expected, rel=1e-12)


@pytest.mark.peers
@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("shift", [0.0, 0.5, 2.0])
def test_they_are_those_of_prdc(shift: float, k: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert_equal_prdc(cloud(90, 1, 0.0), cloud(70, 2, shift), k)


@pytest.mark.peers
def test_over_several_blocks_they_are_those_of_prdc() -> None:
    assert_equal_prdc(cloud(2300, 1, 0.0, 2), cloud(4200, 2, 0.3, 2), 5)


@pytest.mark.parametrize("k", [1, 5])
def test_over_several_blocks_they_are_those_of_the_definitions(k: int) -> None:
    """All distances at once, with the radii of Kynkäänniemi et al. 2019 and Naeem et al. 2020."""
    real, drawn = cloud(700, 1, 0.0, 2), cloud(1100, 2, 0.3, 2)
    radii, drawn_radii = (torch.cdist(rows, rows).sort(dim=1).values[:, k] for rows in (real, drawn))
    distances = torch.cdist(drawn, real)
    is_within = distances < radii
    expected = {
        "precision": is_within.any(dim=1).double().mean(),
        "recall": (distances < drawn_radii[:, None]).any(dim=0).double().mean(),
        "density": is_within.double().sum(dim=1).mean() / k,
        "coverage": is_within.any(dim=0).double().mean(),
    }
    found = manifold_metrics(real, drawn, k)._asdict()
    assert found == pytest.approx({name: value.item() for name, value in expected.items()}, rel=1e-12)


@given(st.integers(7, 60), st.integers(1, 5), st.integers(0, 100))
def test_equal_sets_have_1_in_any_order(rows: int, k: int, seed: int) -> None:
    real = features(rows, seed)
    found = manifold_metrics(real, real[torch.randperm(rows, generator=seeded(seed))], k)
    assert found == pytest.approx((1.0, 1.0, 1.0, 1.0), rel=1e-12)


def test_order_and_place_change_nothing() -> None:
    real, drawn = cloud(90, 1, 0.0), cloud(70, 2, 0.5)
    expected = manifold_metrics(real, drawn)
    assert manifold_metrics(real.flip(0), drawn.flip(0)) == expected
    assert manifold_metrics(real + 1000, drawn + 1000) == expected


def test_points_on_a_line() -> None:
    """Real 0, 1, 2, 10 reach 1, 1, 1 and 8 (k = 1); drawn 0.5, 9, 30, 31 reach 8.5, 8.5, 1 and 1."""
    real, drawn = (torch.tensor(points)[:, None] for points in ([0.0, 1.0, 2.0, 10.0], [0.5, 9.0, 30.0, 31.0]))
    found = manifold_metrics(real, drawn, k=1)
    # 0.5 lies within 0 and 1; 9 within 10; so 0, 1 and 10 hold a drawn one. Every real one is within 0.5 or 9.
    assert found == ManifoldMetrics(precision=0.5, recall=1.0, density=0.75, coverage=0.75)


def test_sets_far_apart_have_nothing() -> None:
    assert manifold_metrics(cloud(20, 1, 0.0), cloud(20, 2, 1000.0)) == (0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(("k", "said"), [(0, r"k=0 names no neighbour"), (9, r"the drawn features have 9 rows.*10")])
def test_a_bad_k_is_refused(k: int, said: str) -> None:
    with pytest.raises(InputError, match=said):
        manifold_metrics(cloud(20, 1, 0.0), cloud(9, 2, 0.0), k)
