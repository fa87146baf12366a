"""A decoder with a text transformer of its own: what it reads, what padding does, what it leaves alone."""

import pytest
import torch
from networks import fill
from torch import Tensor, nn

from unclip.errors import InputError
from unclip.models import Decoder, TextTransformerConfig, decoder_preset
from unclip.models.decoder import last_token

PLAIN = decoder_preset("tiny").replace(text_dim=24)


@pytest.fixture
def decoder() -> nn.Module:
    shape = TextTransformerConfig(num_text_tokens=6, depth=2, num_heads=4)
    network = Decoder(PLAIN.replace(text_transformer=shape))
    fill(network)
    return network


def inputs(length: int = 6) -> dict[str, Tensor]:
    return {
        "x_t": torch.randn(2, 3, 16, 16),
        "timestep": torch.tensor([5.0, 900.0]),
        "image_embedding": torch.randn(2, 32),
        "text_embedding": torch.randn(2, 32),
        "text_hidden": torch.randn(2, length, 24),
    }


def test_padding_never_changes_the_result(decoder: nn.Module) -> None:
    given, mask = inputs(), torch.arange(6) < torch.tensor([[4], [2]])
    expected = decoder(**given, text_mask=mask)
    given["text_hidden"] = torch.where(mask[:, :, None], given["text_hidden"], 50.0)
    torch.testing.assert_close(decoder(**given, text_mask=mask), expected, rtol=0, atol=1e-5)
    cut = given | {"text_hidden": given["text_hidden"][:, :4]}
    torch.testing.assert_close(decoder(**cut, text_mask=mask[:, :4]), expected, rtol=0, atol=1e-5)
    assert (decoder(**given) - expected).abs().max() > 1e-3


def test_no_mask_means_all_tokens_are_real(decoder: nn.Module) -> None:
    given = inputs()
    mask = torch.ones(2, 6, dtype=torch.bool)
    torch.testing.assert_close(decoder(**given), decoder(**given, text_mask=mask), rtol=0, atol=1e-5)


def test_tokens_see_those_before_and_those_after(decoder: nn.Module) -> None:
    x = torch.randn(1, 6, 32)
    expected = decoder.text_transformer(x)
    for place in (0, 5):
        changed = x.clone()
        changed[:, place] = torch.randn(32)
        assert ((decoder.text_transformer(changed) - expected).abs().amax(dim=2) > 1e-4).all()


def test_the_order_of_tokens_matters(decoder: nn.Module) -> None:
    given = inputs()
    flipped = given | {"text_hidden": given["text_hidden"].flip(1)}
    assert (decoder(**flipped) - decoder(**given)).abs().max() > 1e-3


def test_gradients_reach_every_parameter(decoder: nn.Module) -> None:
    decoder(**inputs()).square().mean().backward()
    flat = [
        name for name, parameter in decoder.named_parameters() if name.startswith("text_") and not parameter.grad.any()
    ]
    assert flat == []


def test_the_last_token_is_the_last_real_one() -> None:
    x = torch.arange(8.0).view(2, 4, 1)
    mask = torch.tensor([[True, True, False, False], [True, True, True, True]])
    assert last_token(x, mask).flatten().tolist() == [1.0, 7.0]
    assert last_token(x).flatten().tolist() == [3.0, 7.0]


def test_a_text_that_is_too_long_is_refused(decoder: nn.Module) -> None:
    with pytest.raises(InputError, match=r"^text_hidden has 7 tokens; this decoder takes 6\.$"):
        decoder(**inputs(length=7))


def test_without_one_a_decoder_has_no_trace_of_it(decoder: nn.Module) -> None:
    extra = decoder.state_dict().keys() - Decoder(PLAIN).state_dict().keys()
    assert extra
    assert all(name.startswith(("text_transformer.", "text_state.")) for name in extra)
