"""Retrieval against a ranking computed by sorting."""

import pytest
import torch
import torch.nn.functional as F

from unclip.errors import InputError
from unclip.metrics import concept_ranks, retrieval
from unclip.runtime import seeded
from unclip.testing import tiny_pipeline

CONCEPTS = ["a cat", "a dog", "a red apple", "the moon", "a key", "rain", "a house"]


@pytest.fixture(scope="module")
def encoder():  # type: ignore[no-untyped-def]
    return tiny_pipeline().clip


def test_ranks_equal_those_of_a_full_sort_whatever_the_batches(encoder) -> None:  # type: ignore[no-untyped-def]
    images = torch.rand(6, 3, 16, 16, generator=seeded(0)) * 2 - 1
    targets = [3, 0, 6, 2, 2, 5]
    scores = F.normalize(encoder.encode_image(images)) @ F.normalize(encoder.encode_text(CONCEPTS).embedding).T
    order = scores.argsort(dim=1, descending=True)
    expected = torch.tensor([order[row].tolist().index(target) for row, target in enumerate(targets)])
    assert torch.equal(concept_ranks(encoder, [images], targets, CONCEPTS), expected)
    assert torch.equal(concept_ranks(encoder, [images[:1], images[1:]], targets, CONCEPTS), expected)
    result = retrieval(encoder, [images], targets, CONCEPTS)
    assert result.top1 == pytest.approx((expected == 0).float().mean().item())
    assert result.top5 == pytest.approx((expected < 5).float().mean().item())
    assert result.num_images == 6


def test_a_missing_target_is_refused(encoder) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match="2 pictures but 1 targets"):
        retrieval(encoder, [torch.zeros(2, 3, 16, 16)], [0], CONCEPTS)
