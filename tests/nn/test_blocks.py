"""The residual and the transformer block: how they start, what they depend on, and their formulas."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from unclip.nn import Norm, Resample, ResBlock, TimeConditioning, TransformerBlock, resample, zeroed


@pytest.mark.parametrize(("how", "size"), [("none", (4, 6)), ("down", (2, 3)), ("up", (8, 12))])
def test_a_residual_block_starts_as_its_skip_connection(how: Resample, size: tuple[int, int]) -> None:
    x = torch.randn(2, 32, 4, 6)
    out = ResBlock(32, 32, 8, conditioning="adaptive", resample=how)(x, torch.randn(2, 8))
    assert out.shape[2:] == size
    assert torch.equal(out, resample(x, how))


def layer_norm_of_pixels(x: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2]).permute(0, 3, 1, 2)


@pytest.mark.parametrize("norm", ["group", "pixel"])
@pytest.mark.parametrize("conditioning", ["adaptive", "additive"])
def test_a_residual_block_is_its_formula(conditioning: TimeConditioning, norm: Norm) -> None:
    block = ResBlock(32, 64, 8, conditioning=conditioning, norm=norm)
    normalise = layer_norm_of_pixels if norm == "pixel" else lambda x: F.group_norm(x, 32)
    nn.init.normal_(block.conv_2.weight, std=0.1)
    x, e = torch.randn(2, 32, 4, 4), torch.randn(2, 8)
    h = block.conv_1(F.silu(normalise(x)))
    condition = block.embedding(e)[..., None, None]
    if conditioning == "adaptive":
        scale, shift = condition[:, :64], condition[:, 64:]
        h = normalise(h) * (1 + scale) + shift
    else:
        h = normalise(h + condition)
    torch.testing.assert_close(block(x, e), block.skip(x) + block.conv_2(F.silu(h)), rtol=0, atol=1e-5)


def test_down_averages_and_up_repeats() -> None:
    x = torch.arange(8.0).view(1, 1, 2, 4)
    torch.testing.assert_close(resample(x, "down"), torch.tensor([[[[2.5, 4.5]]]]))
    assert torch.equal(resample(x, "up")[0, 0, :2, :4], torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 1]]))


def causal(num_queries: int, num_keys: int) -> torch.Tensor:
    return torch.ones(num_queries, num_keys, dtype=torch.bool).tril(num_keys - num_queries)[None, None]


def test_a_transformer_block_continues_a_sequence_from_its_keys_and_values() -> None:
    block, x = TransformerBlock(32, 2, depth=3), torch.randn(2, 9, 32)
    whole, _ = block(x, causal(9, 9))
    first, past = block(x[:, :6], causal(6, 6))
    second, _ = block(x[:, 6:], causal(3, 9), past)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole, rtol=0, atol=1e-5)


def test_a_transformer_block_is_its_formula() -> None:
    block, x = TransformerBlock(32, 2, depth=1), torch.randn(2, 5, 32)
    q, k, v = block.qkv(F.layer_norm(x, (32,))).chunk(3, dim=-1)
    heads = [tensor.unflatten(-1, (2, 16)).transpose(1, 2) for tensor in (q, k, v)]
    h = x + block.out(F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))
    expected = h + block.ff_out(F.gelu(block.ff_in(F.layer_norm(h, (32,)))))
    torch.testing.assert_close(block(x)[0], expected, rtol=0, atol=1e-5)


def test_zeroed_layers_give_zero() -> None:
    assert torch.equal(zeroed(nn.Linear(3, 2))(torch.randn(4, 3)), torch.zeros(4, 2))
