"""A prior's cosines and retrieval, against rows made by hand."""

import math

import pytest
import torch

from unclip.metrics import COSINE_FIGURES, cosine_figures, recall_at_1


def angles(*degrees: float) -> torch.Tensor:
    """Unit vectors in the plane."""
    return torch.tensor([[math.cos(math.radians(angle)), math.sin(math.radians(angle))] for angle in degrees])


def test_figures_are_the_cosines_of_the_angles_between_rows() -> None:
    found = cosine_figures(angles(0, 90), 3 * angles(60, 150), 0.1 * angles(20, 110))
    cosine = {angle: math.cos(math.radians(angle)) for angle in (20, 40, 60)}
    wanted = {
        "cosine_text_image": cosine[60],
        "cosine_text_predicted": cosine[20],
        "cosine_image_predicted": cosine[40],
        # The texts of the others are at 90 and 0 degrees, the predictions at 20 and 110.
        "cosine_unrelated": (math.cos(math.radians(70)) + math.cos(math.radians(110))) / 2,
        "cosine_excess": cosine[20] - cosine[60],
        "recall_at_1": 1.0,
    }
    assert found == pytest.approx(wanted, abs=1e-6)
    assert found.keys() == COSINE_FIGURES.keys()


def test_recall_counts_rows_whose_own_target_is_nearest() -> None:
    targets = angles(0, 40, 80, 120)
    assert recall_at_1(angles(10, 30, 110, 170), targets) == 0.75
    assert recall_at_1(targets.flip(0), targets) == 0.0


def test_recall_over_several_blocks_is_that_of_one_product() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randn(2500, 6, generator=generator)
    rows = targets + 0.5 * torch.randn(2500, 6, generator=generator)
    similarities = torch.nn.functional.cosine_similarity(rows[:, None].double(), targets.double(), dim=-1)
    wanted = (similarities.argmax(dim=1) == torch.arange(2500)).double().mean().item()
    assert 0.01 < wanted < 0.99
    assert recall_at_1(rows, targets) == wanted
