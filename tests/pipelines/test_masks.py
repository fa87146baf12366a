"""Masks: what is known at another size comes from known pixels alone; soft edges against brute force."""

import numpy as np
import pytest
import torch

from unclip.images import resize
from unclip.pipelines.tasks.painting import join, resize_known, resize_mask, soft_edge

SIZES = [(8, 8), (16, 16), (5, 7), (32, 20), (1, 1)]


def random_mask(height: int, width: int, share: float, seed: int) -> torch.Tensor:
    drawn = torch.rand(1, 1, height, width, generator=torch.Generator().manual_seed(seed))
    return (drawn < share).float()


def overlaps(index: int, inner: int, outer: int) -> list[int]:
    """The pixels of a row of `outer` that pixel `index` of the same row in `inner` pixels touches."""
    return [
        other for other in range(outer) if other * inner < (index + 1) * outer and (other + 1) * inner > index * outer
    ]


@pytest.mark.parametrize("size", SIZES)
def test_a_pixel_is_known_when_all_that_it_touches_is(size: tuple[int, int]) -> None:
    mask = random_mask(16, 12, 0.2, seed=1)
    found = resize_mask(mask, size)[0, 0]
    for row in range(size[0]):
        for column in range(size[1]):
            touched = mask[0, 0][overlaps(row, size[0], 16)][:, overlaps(column, size[1], 12)]
            assert found[row, column] == touched.max()
    assert resize_mask(mask, (16, 12)) is mask


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("share", [0.05, 0.3, 0.7])
def test_what_is_hidden_does_not_matter(size: tuple[int, int], share: float, generator: torch.Generator) -> None:
    mask = random_mask(16, 12, share, seed=2)
    pictures = torch.rand(2, 3, 16, 12, generator=generator) * 2 - 1
    others = torch.where(mask == 1, -pictures, pictures)
    assert torch.equal(resize_known(pictures, mask, size), resize_known(others, mask, size))


@pytest.mark.parametrize("size", SIZES)
def test_even_colours_stay_even(size: tuple[int, int]) -> None:
    """Where a pixel is known the weights of what is known are far from 0, so that dividing by them is safe."""
    for seed, share in enumerate([0.05, 0.3, 0.7, 0.95]):
        mask = random_mask(16, 12, share, seed)
        known = resize_mask(mask, size) == 0
        found = resize_known(torch.full((1, 1, 16, 12), 0.7), mask, size)
        torch.testing.assert_close(found[known], torch.full_like(found[known], 0.7))
        assert (resize(1 - mask, size)[known] > 0.2).all()


def test_nothing_is_computed_at_the_own_size(generator: torch.Generator) -> None:
    pictures, mask = torch.rand(2, 3, 16, 12, generator=generator), random_mask(16, 12, 0.5, seed=3)
    assert torch.equal(resize_known(pictures, mask, (16, 12)), pictures * (1 - mask))


@pytest.mark.parametrize("feather", [0, 1, 3, 40])
def test_soft_edges_rise_with_the_steps_to_the_border(feather: int) -> None:
    mask = random_mask(16, 12, 0.9, seed=4)
    black = np.argwhere(mask[0, 0].numpy() == 0)
    steps = np.array(
        [[np.abs(black - [row, column]).max(axis=1).min() for column in range(12)] for row in range(16)], np.float32
    )
    expected = torch.from_numpy(np.minimum(steps, feather + 1) / (feather + 1)).float()
    torch.testing.assert_close(soft_edge(mask, feather)[0, 0], expected)


def test_all_white_has_no_edge() -> None:
    for feather in (0, 3, 10**9):
        assert torch.equal(soft_edge(torch.ones(1, 1, 5, 4), feather), torch.ones(1, 1, 5, 4))


def test_a_straight_edge_in_numbers(generator: torch.Generator) -> None:
    """Columns at 1, 2 and 3 steps from a known half of -1: thirds of what was painted, which is 1."""
    mask = torch.zeros(1, 1, 4, 8)
    mask[..., 4:] = 1.0
    joined = join(torch.full((1, 3, 4, 8), -1.0), torch.ones(1, 3, 4, 8), mask, feather=2)
    expected = torch.tensor([-1, -1, -1, -1, -1 / 3, 1 / 3, 1, 1])
    torch.testing.assert_close(joined, expected.expand(1, 3, 4, 8))


@pytest.mark.parametrize("feather", [0, 2, 100])
def test_joining_keeps_both_ends_to_the_bit(feather: int, generator: torch.Generator) -> None:
    pictures, painted = torch.rand(2, 2, 3, 16, 12, generator=generator) * 2 - 1
    mask = random_mask(16, 12, 0.9, seed=5)
    joined = join(pictures, painted, mask, feather)
    weights = soft_edge(mask, feather).expand_as(joined)
    assert torch.equal(joined[weights == 0], pictures[weights == 0])
    assert torch.equal(joined[weights == 1], painted[weights == 1])
    others = torch.where(mask == 1, -pictures, pictures)
    assert torch.equal(joined, join(others, painted, mask, feather))
    assert torch.equal(join(pictures, painted, torch.ones_like(mask), feather), painted)
