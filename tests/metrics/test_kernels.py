"""Distances by kernels against brute force in numpy, and torchmetrics."""

import numpy as np
import pytest
import torch

from feature_sets import AsTheyAre, features
from unclip.errors import InputError
from unclip.metrics import kernel_distance, kernel_distance_of_subsets, mmd
from unclip.runtime import seeded


def brute_kernel_distance(first: torch.Tensor, second: torch.Tensor) -> float:
    x, y = first.numpy(), second.numpy()
    n, m, dim = len(x), len(y), x.shape[1]

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return (a @ b / dim + 1) ** 3

    within = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_second = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within + within_second - 2 * sum(kernel(a, b) for a in x for b in y) / (n * m)


def brute_mmd(first: torch.Tensor, second: torch.Tensor, sigma: float) -> float:
    x, y = first.numpy(), second.numpy()

    def mean(a: np.ndarray, b: np.ndarray) -> float:
        return np.exp(-((a[:, None] - b) ** 2).sum(-1) / (2 * sigma**2)).mean()

    return 1000 * (mean(x, x) + mean(y, y) - 2 * mean(x, y))


def test_kernel_distance_is_the_sum_over_pairs() -> None:
    first, second = features(12, 1), features(17, 2)
    expected = brute_kernel_distance(first, second)
    assert kernel_distance(first, second) == pytest.approx(expected, rel=1e-12)
    assert kernel_distance(second.flip(0), first) == pytest.approx(expected, rel=1e-12)


def test_kernel_distance_over_several_blocks() -> None:
    first, second = features(4200, 1, 3), features(2100, 2, 3)
    pairs = [((a @ b.T / 3 + 1) ** 3, len(a), len(b)) for a, b in ((first, first), (second, second), (first, second))]
    within, within_second = ((k.sum() - k.diagonal().sum()) / (n * (n - 1)) for k, n, _ in pairs[:2])
    expected = within + within_second - 2 * pairs[2][0].mean()
    assert kernel_distance(first, second) == pytest.approx(expected.item(), rel=1e-10)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save")
def test_kernel_distance_is_that_of_torchmetrics() -> None:
    from torchmetrics.image.kid import KernelInceptionDistance

    real, drawn = features(80, 1, 32), features(80, 2, 32)
    theirs = KernelInceptionDistance(feature=AsTheyAre(32), subsets=2, subset_size=80)
    theirs.update(real, real=True)
    theirs.update(drawn, real=False)
    mean, std = theirs.compute()
    assert kernel_distance(drawn, real) == pytest.approx(mean.item(), rel=1e-6)
    ours = kernel_distance_of_subsets(drawn, real, num_subsets=2, subset_size=80)
    assert ours.value == pytest.approx(mean.item(), rel=1e-6)
    assert ours.std == pytest.approx(std.item(), abs=1e-6 * mean.item())


def test_subsets_scatter_around_the_distance_of_all_pairs() -> None:
    first, second = features(300, 1), features(400, 2)
    found = kernel_distance_of_subsets(first, second, num_subsets=200, subset_size=50, seed=3)
    assert found.value == pytest.approx(kernel_distance(first, second), abs=4 * found.std / 200**0.5)
    assert found == kernel_distance_of_subsets(first, second, num_subsets=200, subset_size=50, seed=3)
    assert found != kernel_distance_of_subsets(first, second, num_subsets=200, subset_size=50, seed=4)


def test_two_draws_of_one_distribution_have_no_distance_on_average() -> None:
    sets = torch.randn(400, 2, 20, 3, generator=seeded(5), dtype=torch.float64)
    values = torch.tensor([kernel_distance(first, second) for first, second in sets], dtype=torch.float64)
    assert values.mean().item() == pytest.approx(0.0, abs=4 * values.std().item() / 20)
    assert values.min() < 0 < values.max()


def test_a_set_and_itself_have_the_bias_that_is_stated() -> None:
    rows = features(30, 6)
    kernel = (rows @ rows.T / 6 + 1) ** 3
    own = kernel.diagonal().mean()
    others = (kernel.sum() - kernel.diagonal().sum()) / (30 * 29)
    assert kernel_distance(rows, rows) == pytest.approx((-2 / 30 * (own - others)).item(), rel=1e-10)


def test_mmd_is_the_mean_over_pairs() -> None:
    first, second = features(12, 1), features(17, 2)
    assert mmd(first, second) == pytest.approx(brute_mmd(first, second, 10.0), rel=1e-9)
    assert mmd(second, first, sigma=1.5, scale=1.0) == pytest.approx(brute_mmd(first, second, 1.5) / 1000, rel=1e-11)


def test_mmd_of_two_points() -> None:
    """One row each at a distance d: 2 - 2 exp(-d^2 / 200)."""
    found = mmd(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 4.0]]))
    assert found == pytest.approx(2000 * (1 - np.exp(-0.125)), rel=1e-12)


def test_mmd_of_equal_sets_is_none() -> None:
    rows = features(2500, 7, 3)
    assert mmd(rows, rows.flip(0)) == pytest.approx(0.0, abs=1e-9)


def test_mmd_over_several_blocks_has_the_bias_that_is_stated() -> None:
    """Rows of length 1 in a few directions: the kernel is known, and so is the mean of a distance of two draws."""
    points = torch.eye(3, dtype=torch.float64)
    gap = (1 - np.exp(-2 / 200)) * 2 / 3
    choices = torch.randint(3, (300, 2, 40), generator=seeded(8))
    values = torch.tensor([mmd(points[a], points[b]) for a, b in choices], dtype=torch.float64)
    assert values.mean().item() == pytest.approx(1000 * gap * (2 / 40), rel=0.15)
    counts = torch.tensor([[2100, 300, 0], [0, 1000, 1500]]).double()
    first, second = (points.repeat_interleave(count.long(), dim=0) for count in counts)
    shares = counts / counts.sum(dim=1, keepdim=True)
    kernel = np.exp(-2 / 200) + (1 - np.exp(-2 / 200)) * points
    shift = shares[0] - shares[1]
    assert mmd(first, second) == pytest.approx(1000 * (shift @ kernel @ shift).item(), rel=1e-9)


@pytest.mark.parametrize(
    ("options", "said"), [({"subset_size": 21}, r"between 2 and the 20 rows"), ({"num_subsets": 0}, r"at least 1")]
)
def test_bad_subsets_are_refused(options: dict[str, int], said: str) -> None:
    with pytest.raises(InputError, match=said):
        kernel_distance_of_subsets(features(20, 1), features(30, 1), **({"subset_size": 5} | options))


def test_a_width_must_be_positive() -> None:
    with pytest.raises(InputError, match=r"sigma=0.0 is no width"):
        mmd(features(3, 1), features(3, 2), sigma=0.0)
