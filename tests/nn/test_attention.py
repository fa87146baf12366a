"""Attention against the definition in float64, on both paths, and the U-Net's attention block."""

import pytest
import torch
from torch import Tensor, nn

from unclip.nn import SpatialAttention, attention

SHORT, LONG = 33, 600  # On a CPU the first is computed by two matmuls, the second by the fused kernel.


def definition(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    q, k, v = q.double(), k.double(), v.double()
    scores = torch.einsum("bhqd,bhkd->bhqk", q, k) / q.shape[-1] ** 0.5
    return torch.einsum("bhqk,bhkd->bhqd", scores.masked_fill(~mask, -torch.inf).softmax(-1), v)


def inputs(num_queries: int, num_keys: int) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(2, 3, num_queries, 16), torch.randn(2, 3, num_keys, 16), torch.randn(2, 3, num_keys, 16)


@pytest.mark.parametrize("num_keys", [SHORT, LONG])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("num_queries", [5, None])
def test_attention_is_its_definition(num_keys: int, causal: bool, masked: bool, num_queries: int | None) -> None:
    num_queries = num_queries or num_keys
    q, k, v = inputs(num_queries, num_keys)
    real = torch.arange(num_keys) < torch.tensor([num_keys, num_keys // 2])[:, None]
    mask = real[:, None, None] if masked else None
    visible = torch.ones(num_queries, num_keys, dtype=torch.bool)
    visible = visible.tril(num_keys - num_queries) if causal else visible
    expected = definition(q, k, v, visible if mask is None else visible & mask)
    torch.testing.assert_close(attention(q, k, v, mask, causal).double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("num_keys", [SHORT, LONG])
def test_bfloat16_stays_near_float32_and_gradients_flow(num_keys: int) -> None:
    q, k, v = (tensor.requires_grad_() for tensor in inputs(7, num_keys))
    actual = attention(q.bfloat16(), k.bfloat16(), v.bfloat16())
    assert actual.dtype == torch.bfloat16
    torch.testing.assert_close(actual.float(), attention(q, k, v), rtol=0, atol=0.02)
    actual.float().square().sum().backward()
    assert all(tensor.grad is not None and tensor.grad.abs().sum() > 0 for tensor in (q, k, v))


def filled(channels: int, context_dim: int) -> SpatialAttention:
    block = SpatialAttention(channels, head_dim=16, context_dim=context_dim)
    nn.init.normal_(block.out.weight, std=0.2)
    return block


def test_the_block_starts_as_the_identity() -> None:
    x = torch.randn(2, 32, 4, 6)
    assert torch.equal(SpatialAttention(32, head_dim=16)(x), x)


def test_context_reaches_every_pixel_but_masked_tokens_do_not() -> None:
    block, x = filled(32, context_dim=24), torch.randn(2, 32, 4, 6)
    context, mask = torch.randn(2, 5, 24), torch.tensor([[True] * 5, [True, True, False, False, False]])
    out = block(x, context, mask)
    changed = context.clone()
    changed[1, 2:] += 10.0
    assert torch.equal(block(x, changed, mask), out)
    torch.testing.assert_close(out[1:], block(x[1:], context[1:, :2]), rtol=0, atol=1e-5)
    changed[1, 0] += 10.0
    assert ((block(x, changed, mask) - out)[1].abs().amax(0) > 1e-3).all()


def test_memory_format_does_not_change_the_result() -> None:
    block, x = filled(32, context_dim=0), torch.randn(2, 32, 4, 6)
    torch.testing.assert_close(block(x.contiguous(memory_format=torch.channels_last)), block(x), rtol=0, atol=1e-5)
