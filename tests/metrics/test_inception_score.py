"""The Inception score against torchmetrics and closed forms."""

import math

import pytest
import torch

from feature_sets import AsTheyAre, features
from unclip.errors import InputError
from unclip.metrics import inception_score
from unclip.runtime import forked_random_state


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:Metric `InceptionScore` will save")
def test_it_is_that_of_torchmetrics() -> None:
    from torchmetrics.image.inception import InceptionScore

    logits = features(200, 1, 40)
    theirs = InceptionScore(feature=AsTheyAre(40), splits=10)
    theirs.update(logits)
    with forked_random_state(3):
        mean, std = theirs.compute()
    with forked_random_state(3):
        order = torch.randperm(200)
    found = inception_score(logits[order], num_splits=10)
    assert found.value == pytest.approx(mean.item(), rel=1e-6)
    # They divide by one less than the splits; published figures by the splits.
    assert found.std == pytest.approx(std.item() * math.sqrt(9 / 10), rel=1e-6)


def test_sure_and_even_pictures_have_the_number_of_classes() -> None:
    assert inception_score(1000 * torch.eye(7).repeat(5, 1)).value == pytest.approx(7.0, rel=1e-12)


def test_pictures_that_are_all_alike_have_1() -> None:
    found = inception_score(torch.tensor([[1.0, 2.0, 5.0]]).repeat(3000, 1), num_splits=3)
    assert found.value == pytest.approx(1.0, rel=1e-12)
    assert found.std == pytest.approx(0.0, abs=1e-12)


def test_classes_of_unequal_number() -> None:
    """Sure pictures, three quarters of one class: exp of the entropy of (3/4, 1/4), over two blocks."""
    logits = 1000 * torch.eye(2)[[0, 0, 0, 1]].repeat(700, 1)
    expected = math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    assert inception_score(logits).value == pytest.approx(expected, rel=1e-10)


def test_one_split_knows_no_order() -> None:
    logits = features(300, 2)
    assert inception_score(logits.flip(0)).value == pytest.approx(inception_score(logits).value, rel=1e-12)


@pytest.mark.parametrize(("rows", "num_splits", "said"), [(5, 6, r"5 rows.*at least 6"), (5, 0, r"num_splits=0")])
def test_bad_splits_are_refused(rows: int, num_splits: int, said: str) -> None:
    with pytest.raises(InputError, match=said):
        inception_score(features(rows, 1), num_splits)
