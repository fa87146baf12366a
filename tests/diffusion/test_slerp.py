"""Great circles and weighted means: ends, norms, angles, and the places where they have no answer."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial import geometric_slerp

from unclip.diffusion import slerp, weighted_mean
from unclip.errors import InputError


def ends(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(*shape, dtype=dtype), 3 * torch.randn(*shape, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 192), (2, 3, 32, 32)])
def test_the_ends_are_returned_bit_for_bit(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    a, b = ends(*shape, dtype=dtype)
    assert torch.equal(slerp(a, b, 0.0), a)
    assert torch.equal(slerp(a, b, 1.0), b)
    assert torch.equal(slerp(a, a, 0.0), a)
    assert slerp(a, b, 0.3).dtype == dtype


@pytest.mark.parametrize("size", [2, 7, 192])
def test_unit_vectors_follow_scipy(size: int) -> None:
    a, b = (vector / vector.norm() for vector in ends(size, dtype=torch.float64))
    fractions = torch.linspace(0, 1, 9, dtype=torch.float64)
    ours = slerp(a.expand(9, -1), b.expand(9, -1), fractions)
    torch.testing.assert_close(ours, torch.from_numpy(geometric_slerp(a.numpy(), b.numpy(), fractions.numpy())))


def test_angle_and_norm_grow_evenly() -> None:
    a = torch.tensor([[2.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    b = torch.tensor([[0.0, 6.0], [-1.0, math.sqrt(3)]], dtype=torch.float64)
    x = slerp(a, b, torch.tensor([0.25, 0.75]))
    torch.testing.assert_close(x.norm(dim=1), torch.tensor([3.0, 1.75], dtype=torch.float64))
    angles = torch.atan2(x[:, 1], x[:, 0]) * 180 / math.pi
    torch.testing.assert_close(angles, torch.tensor([22.5, 90.0], dtype=torch.float64))


@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-9, 1e-12, 0.0])
def test_small_angles_keep_their_digits(gap: float) -> None:
    a = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    b = torch.tensor([[math.cos(gap), math.sin(gap)]], dtype=torch.float64)
    expected = torch.tensor([[math.cos(0.3 * gap), math.sin(0.3 * gap)]], dtype=torch.float64)
    torch.testing.assert_close(slerp(a, b, 0.3), expected, rtol=1e-12, atol=0)


def test_parallel_vectors_of_other_lengths_are_joined_by_a_line() -> None:
    a = torch.randn(2, 5)
    torch.testing.assert_close(slerp(a, 4 * a, 0.5), 2.5 * a)


def test_nearly_opposite_vectors_stay_on_the_circle() -> None:
    almost = math.pi - 1e-4
    a = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    b = torch.tensor([[math.cos(almost), math.sin(almost)]], dtype=torch.float64)
    middle = torch.tensor([[math.cos(almost / 2), math.sin(almost / 2)]], dtype=torch.float64)
    torch.testing.assert_close(slerp(a, b, 0.5), middle, rtol=0, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_opposite_vectors_are_refused_by_number(dtype: torch.dtype) -> None:
    a, b = ends(3, 8, dtype=dtype)
    b[1] = -2.5 * a[1]
    with pytest.raises(InputError, match="ends of sample 1 are opposite"):
        slerp(a, b, 0.5)


def test_zero_vectors_are_reached_straight() -> None:
    a, zero = torch.randn(2, 6), torch.zeros(2, 6)
    torch.testing.assert_close(slerp(a, zero, 0.25), 0.75 * a)
    torch.testing.assert_close(slerp(zero, a, 0.25), 0.25 * a)
    assert torch.equal(slerp(zero, zero, 0.5), zero)
    assert torch.equal(slerp(a, zero, 0.0), a)
    assert torch.equal(slerp(a, zero, 1.0), zero)


def test_noise_keeps_its_norm_where_a_line_would_lose_it() -> None:
    a, b = torch.randn(1, 3, 64, 64), torch.randn(1, 3, 64, 64)
    assert float(slerp(a, b, 0.5).std()) == pytest.approx(1, abs=0.02)
    assert float(torch.lerp(a, b, 0.5).std()) == pytest.approx(math.sqrt(0.5), abs=0.02)


def test_a_sample_does_not_depend_on_its_batch() -> None:
    a, b = ends(4, 3, 5, 5)
    together = slerp(a, b, torch.tensor([0.1, 0.4, 0.5, 0.9]))
    assert torch.equal(slerp(a[2:3], b[2:3], 0.5), together[2:3])


@pytest.mark.parametrize("fraction", [-0.1, 1.5, float("nan"), float("inf")])
def test_fractions_outside_are_refused(fraction: float) -> None:
    with pytest.raises(InputError, match="the slerp fraction"):
        slerp(*ends(1, 4), fraction)


def test_weighted_mean_of_two_is_the_middle_of_their_circle() -> None:
    a, b = ends(3, 16, dtype=torch.float64)
    torch.testing.assert_close(weighted_mean(torch.stack([a, b]), [1.0, 1.0]), slerp(a, b, 0.5))


def test_weighted_mean_is_the_direction_of_the_sum_with_the_mean_norm() -> None:
    vectors, weights = torch.randn(4, 2, 9, dtype=torch.float64), np.array([0.5, 2.0, -0.75, 1.0])
    norms = vectors.norm(dim=-1).numpy()
    total = np.einsum("n,nbd->bd", weights, vectors.numpy() / norms[..., None])
    expected = total / np.linalg.norm(total, axis=1, keepdims=True) * np.average(norms, 0, np.abs(weights))[:, None]
    torch.testing.assert_close(weighted_mean(vectors, torch.from_numpy(weights)), torch.from_numpy(expected))
    torch.testing.assert_close(weighted_mean(vectors, list(7 * weights)), torch.from_numpy(expected))


def test_a_single_weight_returns_its_vector() -> None:
    vectors = torch.randn(3, 2, 9)
    assert torch.equal(weighted_mean(vectors, [0.0, 2.0, 0.0]), vectors[1])


def test_a_negative_weight_points_away() -> None:
    vectors = torch.eye(2)[:, None]
    torch.testing.assert_close(weighted_mean(vectors, [1.0, -1.0]), torch.tensor([[1.0, -1.0]]) / math.sqrt(2))


@pytest.mark.parametrize("weights", [[1.0], [0.0, 0.0], [1.0, float("nan")], [float("inf"), 1.0]])
def test_weights_that_say_nothing_are_refused(weights: list[float]) -> None:
    with pytest.raises(InputError, match="must be 2 finite numbers"):
        weighted_mean(torch.randn(2, 1, 4), weights)


@pytest.mark.parametrize("weights", [[1.0, -1.0], [0.5, -0.5]])
def test_directions_that_cancel_are_refused(weights: list[float]) -> None:
    vector = torch.randn(1, 4)
    with pytest.raises(InputError, match="cancel the vectors out"):
        weighted_mean(torch.stack([vector, 3 * vector]), weights)
