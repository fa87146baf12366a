"""The decoder: its conditioning, its null embedding, its sizes and its types."""

import pytest
import torch
from torch import Tensor, nn

from unclip.errors import InputError
from unclip.models import Decoder, decoder_preset


def filled(module: nn.Module) -> nn.Module:
    """No parameter is left at zero, so that every input reaches the output."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return module.eval()


@pytest.fixture
def decoder() -> nn.Module:
    return filled(Decoder(decoder_preset("tiny").replace(text_dim=24)))


def inputs(batch: int = 2) -> dict[str, Tensor]:
    return {
        "x_t": torch.randn(batch, 3, 16, 16),
        "timestep": torch.linspace(5, 900, batch),
        "image_embedding": torch.randn(batch, 32),
        "text_embedding": torch.randn(batch, 32),
        "text_hidden": torch.randn(batch, 6, 24),
    }


def test_every_input_reaches_the_prediction(decoder: nn.Module) -> None:
    given = inputs()
    expected = decoder(**given)
    assert expected.shape == (2, 6, 16, 16)
    for name in given:
        assert (decoder(**given | {name: given[name] + 0.5}) - expected).abs().max() > 1e-4, name


def test_the_first_prediction_is_zero() -> None:
    assert not Decoder(decoder_preset("tiny").replace(text_dim=24))(**inputs()).any()


def test_an_absent_image_is_the_null_embedding(decoder: nn.Module) -> None:
    given, present = inputs(), torch.tensor([True, False])
    out = decoder(**given, image_present=present)
    null = decoder.null_image_embedding.detach()
    given["image_embedding"][1] = null
    torch.testing.assert_close(out, decoder(**given), rtol=0, atol=1e-6)


def test_stored_statistics_standardise_the_image_but_not_the_null_embedding(decoder: nn.Module) -> None:
    given, present = inputs(), torch.tensor([True, False])
    expected = decoder(**given, image_present=present)
    decoder.embedding_mean.fill_(3.0)
    decoder.embedding_std.fill_(2.0)
    given["image_embedding"] = 3 + 2 * given["image_embedding"]
    torch.testing.assert_close(decoder(**given, image_present=present), expected, rtol=0, atol=1e-5)


def test_padded_text_changes_nothing(decoder: nn.Module) -> None:
    given, mask = inputs(), torch.arange(6) < torch.tensor([[6], [2]])
    expected = decoder(**given, text_mask=mask)
    given["text_hidden"][1, 2:] = 50.0
    torch.testing.assert_close(decoder(**given, text_mask=mask), expected, rtol=0, atol=1e-6)
    assert (decoder(**given) - expected).abs().max() > 1e-4


def test_shapes_that_the_levels_divide_work_and_others_are_refused(decoder: nn.Module) -> None:
    given = inputs()
    assert decoder(**given | {"x_t": torch.randn(2, 3, 8, 18)}).shape == (2, 6, 8, 18)
    with pytest.raises(InputError, match=r"^width=17 is not divisible by 2 \(.*\); use 16 or 18\.$"):
        decoder(**given | {"x_t": torch.randn(2, 3, 16, 17)})


def test_missing_and_useless_text_are_refused(decoder: nn.Module) -> None:
    given = inputs()
    picture = {name: given[name] for name in ("x_t", "timestep", "image_embedding")}
    with pytest.raises(InputError, match="needs text_embedding and text_hidden"):
        decoder(**picture)
    with pytest.raises(InputError, match=r"takes no text \(text_dim=0\)"):
        Decoder(decoder_preset("tiny"))(**given)


@pytest.mark.parametrize("patch_size", [2, 4])
def test_a_patch_shrinks_the_grid_but_not_the_picture(patch_size: int) -> None:
    config = decoder_preset("tiny").replace(
        patch_size=patch_size, image_size=32, attention_resolutions=(16 // patch_size,), learned_variance=False
    )
    decoder, x_t = filled(Decoder(config)), torch.randn(1, 3, 32, 32)
    seen: list[torch.Size] = []
    decoder.unet.conv_in.register_forward_hook(lambda _module, _args, out: seen.append(out.shape[2:]))
    assert decoder(x_t, torch.tensor([3.0]), torch.randn(1, 32)).shape == x_t.shape
    assert seen == [torch.Size([32 // patch_size] * 2)]


@pytest.mark.parametrize("autocast", [False, True])
def test_bfloat16_stays_near_float32(decoder: nn.Module, autocast: bool) -> None:
    given = inputs()
    expected = decoder(**given)
    network = decoder if autocast else decoder.bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        actual = network(**given)
    assert actual.dtype == torch.bfloat16
    assert (actual.float() - expected).square().mean() < 1e-3 * expected.square().mean()


def test_memory_format_does_not_change_the_result(decoder: nn.Module) -> None:
    given = inputs()
    expected = decoder(**given)
    decoder.to(memory_format=torch.channels_last)
    torch.testing.assert_close(decoder(**given), expected, rtol=0, atol=1e-5)
