"""Kandinsky's decoders: the published sizes, their conditioning, their types and what they refuse."""

import pytest
import torch
from torch import Tensor, nn

from networks import fill
from unclip.errors import ConfigError, InputError
from unclip.models import KandinskyDecoder, count_parameters, kandinsky_decoder_preset

TEXT = kandinsky_decoder_preset("tiny").replace(text_dim=24, text_embedding_dim=20, normalize_image=False)


@pytest.fixture
def decoder() -> nn.Module:
    decoder = KandinskyDecoder(TEXT)
    fill(decoder)
    return decoder


def inputs() -> dict[str, Tensor]:
    return {
        "x_t": torch.randn(2, 4, 8, 8),
        "timestep": torch.tensor([5.0, 900.0]),
        "image_embedding": torch.randn(2, 32),
        "text_embedding": torch.randn(2, 20),
        "text_hidden": torch.randn(2, 6, 24),
    }


@pytest.mark.parametrize(("name", "count"), [("kandinsky-2.1", 1_228_661_768), ("kandinsky-2.2", 1_253_057_288)])
def test_published_decoders_have_their_published_number_of_parameters(name: str, count: int) -> None:
    config = kandinsky_decoder_preset(name)
    with torch.device("meta"):
        assert count_parameters(KandinskyDecoder(config)) == count
    assert type(config).model_validate_json(config.model_dump_json()) == config


@torch.no_grad()
def test_every_input_reaches_the_prediction(decoder: nn.Module) -> None:
    given = inputs()
    expected = decoder(**given)
    assert expected.shape == (2, 8, 8, 8)
    for name in given:
        assert (decoder(**given | {name: given[name] + 0.5}) - expected).abs().max() > 1e-4, name


@torch.no_grad()
def test_masked_text_changes_nothing(decoder: nn.Module) -> None:
    given, mask = inputs(), torch.arange(6) < torch.tensor([[6], [2]])
    expected = decoder(**given, text_mask=mask)
    assert (decoder(**given) - expected).abs().max() > 1e-4
    given["text_hidden"][1, 2:] = 50.0
    torch.testing.assert_close(decoder(**given, text_mask=mask), expected, rtol=0, atol=1e-6)


@torch.no_grad()
def test_bfloat16_stays_near_float32(decoder: nn.Module) -> None:
    given = inputs()
    expected = decoder(**given)
    actual = decoder.bfloat16()(**given)
    assert actual.dtype == torch.bfloat16
    assert (actual.float() - expected).square().mean() < 1e-3 * expected.square().mean()


def test_what_does_not_fit_is_refused(decoder: nn.Module) -> None:
    given = inputs()
    picture = {name: given[name] for name in ("x_t", "timestep", "image_embedding")}
    with pytest.raises(InputError, match="needs text_embedding and text_hidden"):
        decoder(**picture)
    with pytest.raises(InputError, match=r"takes no text \(text_dim=0\)"):
        KandinskyDecoder(kandinsky_decoder_preset("tiny"))(**picture, text_hidden=given["text_hidden"])
    with pytest.raises(InputError, match=r"^width=9 is not divisible by 2 \(.*\); use 8 or 10\.$"):
        decoder(**given | {"x_t": torch.randn(2, 4, 8, 9)})
    with pytest.raises(ConfigError, match=r"^attention_levels has 2, but the levels are 0, 1\.$"):
        TEXT.replace(attention_levels=(2,))
    with pytest.raises(ConfigError, match=r"^head_dim=48 does not divide the 64 channels of level 1; "):
        TEXT.replace(head_dim=48)
