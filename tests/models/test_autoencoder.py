"""The autoencoder against diffusers' `VQModel`; its codebook against brute force; its sizes, types and refusals."""

import pytest
import torch
from diffusers import VQModel
from torch import nn

from networks import close, fill, lazy, translate
from unclip.errors import ConfigError, InputError
from unclip.interop.movq import movq_names
from unclip.interop.rules import to_theirs
from unclip.models import Autoencoder, AutoencoderConfig, autoencoder_preset, count_parameters

SHALLOW = {"channel_mult": (1, 2), "num_res_blocks": 1, "attention_levels": (1,)}
DEEP = {"channel_mult": (1, 1, 3), "num_res_blocks": 2, "attention_levels": (0, 2), "middle_attention": False}
SPATIAL = {"norm": "spatial", "bottleneck_channels": 4}
GROUP = {"norm": "group", "bottleneck_channels": 6}  # diffusers' spatial norms want as many channels as the latent.
SIZES = {"shallow": (2, 3, 12, 18), "deep": (1, 3, 40, 16)}


def published(config: AutoencoderConfig) -> VQModel:
    """diffusers' autoencoder of the same shape."""
    attended = [level in config.attention_levels for level in range(len(config.channel_mult))]
    return VQModel(
        block_out_channels=tuple(config.widths),
        down_block_types=tuple("AttnDownEncoderBlock2D" if attends else "DownEncoderBlock2D" for attends in attended),
        up_block_types=tuple("AttnUpDecoderBlock2D" if attends else "UpDecoderBlock2D" for attends in attended[::-1]),
        layers_per_block=config.num_res_blocks,
        latent_channels=config.bottleneck_channels,
        num_vq_embeddings=config.codebook_size,
        vq_embed_dim=config.latent_channels,
        norm_type=config.norm,
        mid_block_add_attention=config.middle_attention,
    ).eval()


def epsilons(module: nn.Module) -> list[float]:
    return [part.eps for part in module.modules() if isinstance(part, nn.GroupNorm)]


@torch.no_grad()
@pytest.mark.parametrize("norm", [GROUP, SPATIAL], ids=["group", "spatial"])
@pytest.mark.parametrize("depth", ["shallow", "deep"])
def test_it_equals_diffusers(norm: dict[str, object], depth: str) -> None:
    config = autoencoder_preset("tiny").replace(**(SHALLOW if depth == "shallow" else DEEP) | norm)
    theirs, ours = published(config), Autoencoder(config).eval()
    fill(theirs)
    translate(ours, theirs.state_dict(), movq_names(config))
    assert epsilons(ours) == epsilons(theirs)  # Too small to show in numbers of this size.
    images = torch.rand(SIZES[depth]) * 2 - 1
    latents = theirs.encode(images).latents
    close(ours.encode(images), latents)
    close(ours.decode(latents), theirs.decode(latents, force_not_quantize=True).sample)
    spread = 0.2 * torch.randn_like(latents)
    assert len(ours.codes(spread).unique()) > 10
    close(ours.decode(spread, quantize=True), theirs.decode(spread).sample)
    close(ours(images).images, theirs(images).sample)


def test_the_published_autoencoder_has_its_published_tensors() -> None:
    config = autoencoder_preset("kandinsky-2.2")
    with torch.device("meta"):
        theirs, ours = published(config), Autoencoder(config)
    assert count_parameters(ours) == count_parameters(theirs) == 67_832_495
    assert len(theirs.state_dict()) == 431
    exported = to_theirs(lazy(ours.state_dict()), movq_names(config), "")
    assert {name: tensor.shape for name, tensor in exported.items()} == {
        name: tuple(tensor.shape) for name, tensor in theirs.state_dict().items()
    }


@pytest.fixture
def autoencoder() -> nn.Module:
    autoencoder = Autoencoder(autoencoder_preset("tiny"))
    fill(autoencoder)
    return autoencoder


@torch.no_grad()
def test_codes_are_the_nearest_by_brute_force() -> None:
    config = autoencoder_preset("tiny").replace(codebook_size=40, latent_channels=3)
    autoencoder = Autoencoder(config)
    autoencoder.codebook.normal_()
    latents = torch.randn(3, 3, 17, 29)  # More pixels than are compared at once, and no multiple of them.
    distances = (latents[:, None].double() - autoencoder.codebook.double()[None, :, :, None, None]).square().sum(dim=2)
    codes = autoencoder.codes(latents)
    assert torch.equal(codes, distances.argmin(dim=1))
    quantized = autoencoder.quantize(latents)
    for place in [(0, 0, 0), (1, 16, 3), (2, 5, 28)]:
        assert torch.equal(quantized[place[0], :, place[1], place[2]], autoencoder.codebook[codes[place]])
    assert torch.equal(autoencoder.quantize(quantized), quantized)


@torch.no_grad()
def test_near_codes_far_from_zero_are_told_apart() -> None:
    autoencoder = Autoencoder(autoencoder_preset("tiny"))
    autoencoder.codebook.copy_(100 + torch.arange(64.0)[:, None] / 256)
    assert torch.equal(autoencoder.codes(autoencoder.codebook.T[None, :, None]), torch.arange(64)[None, None])


@torch.no_grad()
def test_calling_it_encodes_quantises_and_decodes(autoencoder: nn.Module) -> None:
    images = torch.rand(2, 3, 8, 10) * 2 - 1
    latents = autoencoder.encode(images)
    assert latents.shape == (2, 4, 4, 5)
    expected = autoencoder.decode(autoencoder.quantize(latents))
    assert expected.shape == images.shape
    torch.testing.assert_close(autoencoder(images).images, expected)
    torch.testing.assert_close(autoencoder.decode(latents, quantize=True), expected)
    assert (autoencoder.decode(latents) - expected).abs().max() > 1e-3


@torch.no_grad()
def test_bfloat16_stays_near_float32(autoencoder: nn.Module) -> None:
    images, latents = torch.rand(1, 3, 16, 16) * 2 - 1, torch.randn(1, 4, 8, 8)
    expected = autoencoder.encode(images), autoencoder.decode(latents)
    autoencoder.bfloat16()
    for actual, exact in zip((autoencoder.encode(images), autoencoder.decode(latents)), expected, strict=True):
        assert actual.dtype == torch.bfloat16
        assert (actual.float() - exact).square().mean() < 1e-3 * exact.square().mean()


@torch.no_grad()
def test_memory_format_does_not_change_the_result(autoencoder: nn.Module) -> None:
    images = torch.rand(1, 3, 8, 12) * 2 - 1
    expected = autoencoder(images).images
    autoencoder.to(memory_format=torch.channels_last)
    torch.testing.assert_close(autoencoder(images).images, expected, rtol=0, atol=1e-5)


def test_sizes_that_the_levels_do_not_divide_are_refused(autoencoder: nn.Module) -> None:
    with pytest.raises(InputError, match=r"^height=9 is not divisible by 2 \(.* halves 1 times\); use 8 or 10\.$"):
        autoencoder.encode(torch.zeros(1, 3, 9, 8))
    with pytest.raises(InputError, match=r"^width=1 is not divisible by 2 \(.*\); use 2 or 4\.$"):
        autoencoder(torch.zeros(1, 3, 8, 1))


def test_other_channels_are_refused(autoencoder: nn.Module) -> None:
    message = r"^images have 1 channels, but this autoencoder takes 3; pass \(batch, 3, height, width\)\.$"
    with pytest.raises(InputError, match=message):
        autoencoder.encode(torch.zeros(1, 1, 8, 8))
    with pytest.raises(InputError, match=r"^latents have 3 channels, but this autoencoder takes 4; pass "):
        autoencoder.decode(torch.zeros(1, 3, 8, 8))


def test_a_config_names_what_does_not_fit() -> None:
    config = autoencoder_preset("tiny")
    assert (config.widths, config.downsampling, config.scaling_factor) == ([32, 64], 2, 1.0)
    with pytest.raises(ConfigError, match=r"^attention_levels has 2, but the levels are 0, 1\.$"):
        config.replace(attention_levels=(0, 2))
    with pytest.raises(ConfigError, match=r"norm: .*'layer'"):
        config.replace(norm="layer")
    with pytest.raises(InputError, match=r"no AutoencoderConfig preset is called 'kandinsky'; did you mean 'kandinsky"):
        autoencoder_preset("kandinsky")


def test_configs_survive_json() -> None:
    config = autoencoder_preset("kandinsky-2.2")
    assert AutoencoderConfig.model_validate_json(config.model_dump_json()) == config
