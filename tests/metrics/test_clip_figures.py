"""Figures of embeddings: brute force over pairs and all draws of candidates, and closed forms."""

import math
from itertools import combinations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from feature_sets import features
from unclip.errors import InputError
from unclip.metrics import clip_score, diversity, r_precision
from unclip.runtime import seeded


def cosines_of_pairs(first: Tensor, second: Tensor) -> Tensor:
    return F.normalize(first, dim=1) @ F.normalize(second, dim=1).T


def test_clip_score_is_100_cosines_of_pairs_and_never_negative() -> None:
    images, texts = features(2500, 1) - 0.1, features(2500, 2) - 0.2
    expected = torch.cat(
        [100 * cosines_of_pairs(a, b).diagonal() for a, b in zip(images.split(500), texts.split(500), strict=True)]
    )
    assert (expected < 0).any()
    torch.testing.assert_close(clip_score(images, texts), expected.clamp(min=0), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(clip_score(3 * images, texts / 7), expected.clamp(min=0), rtol=1e-9, atol=1e-9)


def test_clip_score_of_known_angles() -> None:
    angles = torch.tensor([0.0, 30.0, 60.0, 90.0, 180.0], dtype=torch.float64).deg2rad()
    images = torch.stack([angles.cos(), angles.sin()], dim=1)
    expected = torch.tensor([100.0, 50 * math.sqrt(3), 50.0, 0.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(clip_score(images, torch.eye(2)[[0] * 5]), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("num_candidates", [2, 3, 7])
def test_r_precision_is_the_share_of_all_draws_that_hit(num_candidates: int) -> None:
    images, texts = features(7, 1, 3), features(7, 2, 3)
    scores = F.normalize(images) @ F.normalize(texts).T
    expected = [
        [
            all(scores[row, own] >= scores[row, text] for text in others)
            for others in combinations([text for text in range(7) if text != own], num_candidates - 1)
        ]
        for row, own in enumerate(range(7))
    ]
    shares = torch.tensor([sum(hits) / len(hits) for hits in expected], dtype=torch.float64)
    torch.testing.assert_close(
        r_precision(images, texts, num_candidates=num_candidates), shares, rtol=1e-10, atol=1e-12
    )


def test_r_precision_knows_no_order() -> None:
    images, texts = features(700, 3), features(700, 4)
    found = r_precision(images, texts)
    order = torch.randperm(700, generator=seeded(1))
    torch.testing.assert_close(r_precision(images[order], texts[order]), found[order], rtol=1e-9, atol=1e-12)


def test_pictures_at_random_hit_one_in_the_candidates() -> None:
    images, texts = (torch.randn(2000, 30, generator=seeded(seed)) for seed in (5, 6))
    found = r_precision(images, texts, num_candidates=10)
    assert found.mean().item() == pytest.approx(0.1, abs=4 * found.std().item() / 2000**0.5)


def test_pictures_on_their_texts_always_hit_and_equal_texts_are_one() -> None:
    texts = features(150, 7)
    doubled = torch.cat([texts, texts])
    assert torch.equal(r_precision(doubled, doubled, num_candidates=150), torch.ones(300, dtype=torch.float64))
    with pytest.raises(InputError, match=r"num_candidates=151 is not between 2 and the 150 different texts"):
        r_precision(doubled, doubled, num_candidates=151)


def test_diversity_is_the_mean_over_pairs() -> None:
    embeddings = torch.randn(3, 5, 4, generator=seeded(8), dtype=torch.float64)
    cosines = torch.stack([cosines_of_pairs(rows, rows) for rows in embeddings])
    expected = torch.stack([1 - cosines[:, i, j] for i, j in combinations(range(5), 2)]).mean(dim=0)
    torch.testing.assert_close(diversity(embeddings), expected, rtol=1e-10, atol=1e-12)


def test_diversity_of_equal_and_of_opposite_pictures() -> None:
    embeddings = torch.tensor([[[1.0, 2.0], [2.0, 4.0]], [[1.0, 2.0], [-1.0, -2.0]], [[1.0, 2.0], [-2.0, 1.0]]])
    expected = torch.tensor([0.0, 2.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(diversity(embeddings), expected, rtol=1e-12, atol=1e-12)


def test_misfits_are_refused() -> None:
    with pytest.raises(InputError, match=r"5 pictures and 4 texts are no pairs"):
        clip_score(features(5, 1), features(4, 1))
    with pytest.raises(InputError, match=r"rows of 6 and of 5 features"):
        r_precision(features(5, 1), features(5, 1, 5))
    with pytest.raises(InputError, match=r"1 picture of each prompt"):
        diversity(torch.zeros(3, 1, 4))
    with pytest.raises(InputError, match=r"NaN or infinity in 1 of 6 rows"):
        diversity(torch.tensor([1.0, 2, 3, torch.nan, 5, 6]).view(3, 2, 1))
