"""The contrastive loss against closed forms and brute force."""

import math

import pytest
import torch

from unclip.clip import contrastive_loss


def brute_force(images: torch.Tensor, texts: torch.Tensor, logit_scale: float) -> float:
    """Figure 3 of the CLIP paper with Python numbers."""
    scale = min(math.exp(logit_scale), 100.0)

    def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
        a, b = a.double(), b.double()
        return ((a * b).sum() / (a.norm() * b.norm())).item()

    logits = [[scale * cosine(image, text) for text in texts] for image in images]
    rows = [math.log(sum(map(math.exp, row))) - row[i] for i, row in enumerate(logits)]
    columns = [math.log(sum(map(math.exp, column))) - column[i] for i, column in enumerate(zip(*logits, strict=True))]
    return (sum(rows) + sum(columns)) / (2 * len(rows))


@pytest.mark.parametrize("logit_scale", [0.0, 2.66, 4.0, 9.0])
def test_equals_brute_force(logit_scale: float) -> None:
    images, texts = torch.randn(5, 7), torch.randn(5, 7) * 3
    loss = contrastive_loss(images, texts, torch.tensor(logit_scale))
    torch.testing.assert_close(loss.item(), brute_force(images, texts, logit_scale), rtol=1e-4, atol=1e-5)


def test_is_the_logarithm_of_the_batch_when_nothing_is_known() -> None:
    same = torch.ones(8, 4)
    torch.testing.assert_close(contrastive_loss(same, same, torch.tensor(1.0)).item(), math.log(8))


def test_does_not_depend_on_the_length_of_embeddings() -> None:
    images, texts, scale = torch.randn(6, 4), torch.randn(6, 4), torch.tensor(2.0)
    lengths = torch.rand(6, 1) * 10 + 0.1
    torch.testing.assert_close(contrastive_loss(images * lengths, texts, scale), contrastive_loss(images, texts, scale))


def test_is_symmetric() -> None:
    images, texts, scale = torch.randn(6, 4), torch.randn(6, 4), torch.tensor(2.0)
    torch.testing.assert_close(contrastive_loss(images, texts, scale), contrastive_loss(texts, images, scale))


def test_scale_is_held_at_100() -> None:
    images, texts = torch.randn(4, 3), torch.randn(4, 3)
    at_limit = contrastive_loss(images, texts, torch.tensor(math.log(100.0)))
    assert torch.equal(contrastive_loss(images, texts, torch.tensor(20.0)), at_limit)


def test_is_float32_under_autocast() -> None:
    images, texts, scale = torch.randn(16, 8), torch.randn(16, 8), torch.tensor(4.6)
    with torch.autocast("cpu", torch.bfloat16):
        loss = contrastive_loss(images, texts, scale)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, contrastive_loss(images, texts, scale))


def test_gradients_are_those_of_finite_differences() -> None:
    images, texts = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    scale = torch.tensor(1.5, requires_grad=True)
    inputs = (images, texts, scale)
    # The loss computes in float32, hence the wide step and tolerance.
    with pytest.warns(UserWarning, match="not a double precision"):
        assert torch.autograd.gradcheck(contrastive_loss, inputs, eps=1e-2, atol=2e-3, nondet_tol=0.0)


def brute_force_groups(images: torch.Tensor, texts: torch.Tensor, scale: float, groups: list[int]) -> float:
    """SupCon, eq. 2, from pictures to texts and back, with two loops in float64."""
    images, texts = (side.double() / side.double().norm(dim=1, keepdim=True) for side in (images, texts))
    total = 0.0
    for queries, answers in ((images, texts), (texts, images)):
        for i, query in enumerate(queries):
            scores = [math.exp(scale) * float(query @ answer) for answer in answers]
            normaliser = math.log(sum(map(math.exp, scores)))
            positives = [j for j in range(len(groups)) if groups[j] == groups[i]]
            total -= sum(scores[j] - normaliser for j in positives) / len(positives) / (2 * len(groups))
    return total


@pytest.mark.parametrize("groups", [[0, 0, 1, 2, 1, 0], [4, 4, 4, 4, 4, 4], [2**62, -5, -5, 2**62, 7, 8]], ids=str)
@pytest.mark.parametrize("logit_scale", [0.0, 2.66, 4.0])
def test_rows_of_a_group_are_positives_of_each_other(groups: list[int], logit_scale: float) -> None:
    images, texts = torch.randn(6, 7), torch.randn(6, 7) * 3
    loss = contrastive_loss(images, texts, torch.tensor(logit_scale), torch.tensor(groups))
    torch.testing.assert_close(
        loss.item(), brute_force_groups(images, texts, logit_scale, groups), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("size", [1, 6, 64])
def test_groups_of_one_are_the_plain_loss(size: int) -> None:
    images, texts = torch.randn(size, 7, requires_grad=True), torch.randn(size, 7, requires_grad=True)
    scale = torch.tensor(2.66, requires_grad=True)
    plain, grouped = (contrastive_loss(images, texts, scale, groups) for groups in (None, torch.randperm(size) - 3))
    torch.testing.assert_close(grouped, plain, atol=1e-6, rtol=1e-6)
    pairs = (torch.autograd.grad(loss, (images, texts, scale)) for loss in (grouped, plain))
    for ours, expected in zip(*pairs, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("groups", "sign"), [(None, 1.0), (torch.tensor([0, 1, 2]), 1.0), (torch.tensor([0, 0, 2]), -1.0)]
)
def test_a_step_joins_rows_of_a_group_and_parts_others(groups: torch.Tensor | None, sign: float) -> None:
    images = torch.tensor([[1.0, 0.1, 0.0], [1.0, -0.1, 0.0], [0.0, 0.0, 1.0]], requires_grad=True)
    loss = contrastive_loss(images, images.detach(), torch.tensor(1.0), groups)
    [gradient] = torch.autograd.grad(loss, images)
    away = torch.tensor([1.0, -1.0]) * -gradient[:2, 1]
    assert (sign * away > 1e-3).all()
