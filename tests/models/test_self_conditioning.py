"""Prior and decoder that read their own last x0: zeros stand for none, and it costs what it must."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from networks import fill
from unclip.errors import InputError
from unclip.models import Decoder, Prior, count_parameters, decoder_preset, prior_preset

Inputs = dict[str, Tensor]
Make = Callable[[], tuple[nn.Module, Inputs]]
PRIOR = prior_preset("tiny").replace(self_conditioning=True)
DECODER = decoder_preset("tiny").replace(self_conditioning=True)
TIME = torch.tensor([3.0, 700.0])


def prior() -> tuple[nn.Module, Inputs]:
    hidden = torch.randn(2, PRIOR.num_text_tokens, PRIOR.text_dim or PRIOR.embedding_dim)
    embedding = torch.randn(2, PRIOR.text_embedding_dim or PRIOR.embedding_dim)
    x_t = torch.randn(2, PRIOR.embedding_dim)
    return Prior(PRIOR), {"x_t": x_t, "timestep": TIME, "text_embedding": embedding, "text_hidden": hidden}


def decoder() -> tuple[nn.Module, Inputs]:
    inputs = {
        "x_t": torch.randn(2, 3, DECODER.image_size, DECODER.image_size),
        "timestep": TIME,
        "image_embedding": torch.randn(2, DECODER.embedding_dim),
    }
    if DECODER.text_dim:
        inputs["text_embedding"] = torch.randn(2, DECODER.embedding_dim)
        inputs["text_hidden"] = torch.randn(2, 4, DECODER.text_dim)
    return Decoder(DECODER), inputs


@pytest.mark.parametrize("make", [prior, decoder])
def test_zeros_stand_for_no_prediction_and_any_other_one_is_read(make: Make) -> None:
    network, inputs = make()
    fill(network)
    expected = network(**inputs)
    assert torch.equal(network(**inputs, self_condition=torch.zeros_like(inputs["x_t"])), expected)
    changed = network(**inputs, self_condition=torch.randn_like(inputs["x_t"]))
    assert ((changed - expected).flatten(1).abs().amax(dim=1) > 1e-3).all()


def test_cached_text_gives_the_same_prediction() -> None:
    network, inputs = prior()
    fill(network)
    own = torch.randn_like(inputs["x_t"])
    expected = network(**inputs, self_condition=own)
    cache = network.text_cache(inputs["text_embedding"], inputs["text_hidden"])
    actual = network(inputs["x_t"], TIME, cache=cache, self_condition=own)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


def test_it_costs_one_token_of_the_prior_and_input_channels_of_the_decoder() -> None:
    more = count_parameters(Prior(PRIOR)) - count_parameters(Prior(PRIOR.replace(self_conditioning=False)))
    assert more == (PRIOR.embedding_dim + 1) * PRIOR.width + PRIOR.width
    more = count_parameters(Decoder(DECODER)) - count_parameters(Decoder(DECODER.replace(self_conditioning=False)))
    assert more == 3 * DECODER.patch_size**2 * 9 * DECODER.base_channels * DECODER.channel_mult[0]


@pytest.mark.parametrize("make", [prior, decoder])
def test_a_network_without_it_refuses_a_prediction(make: Make) -> None:
    network, inputs = make()
    plain = type(network)(network.config.replace(self_conditioning=False))
    with pytest.raises(InputError, match=r"does not read its own predictions \(self_conditioning=False\)"):
        plain(**inputs, self_condition=inputs["x_t"])
