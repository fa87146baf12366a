"""Our networks against those of diffusers, with tiny random weights carried over by the tables of names, both ways.

The names of the original code are checked against diffusers' by undoing the published conversion.
"""

import pytest
import torch
from diffusers import PriorTransformer, UNet2DConditionModel, UNet2DModel
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
from torch import Tensor, nn

import original_names
from networks import close, fill, lazy, read, same, translate
from unclip.interop.karlo import decoder_original_names, prior_original_names
from unclip.interop.rules import Names, foreign_network
from unclip.interop.unclip import decoder_names, prior_names
from unclip.interop.unets import unet_names, unet_original_names
from unclip.models import Decoder, DecoderConfig, Prior, PriorConfig, Upsampler, UpsamplerConfig

TIMESTEP, EMBEDDING = torch.tensor([7.0, 950.0]), torch.linspace(-1, 1, 48).view(2, 24).cos()
TEXT = torch.sin(2.3 * torch.arange(48.0)).view(2, 24)
HIDDEN, MASK = torch.sin(torch.arange(240.0)).view(2, 5, 24), torch.arange(5) < torch.tensor([[2], [5]])
DEEP = {"channel_mult": (1, 2, 3), "num_res_blocks": 2, "attention_resolutions": (8, 4)}
EVERYWHERE = {"channel_mult": (1, 1), "num_res_blocks": 1, "attention_resolutions": (16, 8)}


def check_original(ours: nn.Module, names: Names, original: dict[str, Tensor], constants: dict[str, Tensor]) -> None:
    """The original tensors become those of `ours`, bit for bit."""
    found = foreign_network(type(ours), ours.config, lazy(original), names, "file", constants=constants)
    assert found.dropped == {}
    same(read(found.weights.tensors), ours.state_dict())


@torch.no_grad()
@pytest.mark.parametrize(("num_heads", "depth", "tokens"), [(2, 2, 5), (4, 1, 5), (1, 3, 7)])
def test_prior(num_heads: int, depth: int, tokens: int) -> None:
    theirs = PriorTransformer(
        num_attention_heads=num_heads,
        attention_head_dim=32 // num_heads,
        num_layers=depth,
        embedding_dim=24,
        num_embeddings=tokens,
    )
    config = PriorConfig(embedding_dim=24, num_text_tokens=tokens, width=32, depth=depth, num_heads=num_heads)
    ours = Prior(config).eval()
    fill(theirs)
    translate(ours, theirs.state_dict(), prior_names(config))
    padding = (0, tokens - 5)
    hidden, mask = nn.functional.pad(HIDDEN, (0, 0, *padding)), nn.functional.pad(MASK, padding)
    expected = theirs(EMBEDDING, TIMESTEP, TEXT, hidden, mask).predicted_image_embedding
    close(ours(EMBEDDING, TIMESTEP, TEXT, HIDDEN, MASK), expected)
    close(ours.unstandardize(EMBEDDING), theirs.post_process_latents(EMBEDDING))
    statistics = {"embedding_mean": ours.embedding_mean, "embedding_std": ours.embedding_std}
    original = original_names.prior(theirs.state_dict(), 32 // num_heads)
    check_original(ours, prior_original_names(config), original, statistics)


def published_decoder(config: DecoderConfig) -> tuple[UNet2DConditionModel, UnCLIPTextProjModel]:
    """diffusers' decoder of the same shape."""
    attends = [
        config.image_size // 2**level in config.attention_resolutions for level in range(len(config.channel_mult))
    ]
    unet = UNet2DConditionModel(
        sample_size=config.image_size,
        in_channels=3,
        out_channels=6,
        layers_per_block=config.num_res_blocks,
        block_out_channels=tuple(config.base_channels * mult for mult in config.channel_mult),
        down_block_types=tuple("SimpleCrossAttnDownBlock2D" if a else "ResnetDownsampleBlock2D" for a in attends),
        up_block_types=tuple("SimpleCrossAttnUpBlock2D" if a else "ResnetUpsampleBlock2D" for a in attends[::-1]),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        cross_attention_dim=config.context_dim,
        attention_head_dim=config.head_dim,
        class_embed_type="identity",
        resnet_time_scale_shift="scale_shift",
    )
    projections = UnCLIPTextProjModel(
        clip_extra_context_tokens=config.num_image_tokens,
        clip_embeddings_dim=config.embedding_dim,
        time_embed_dim=4 * config.base_channels,
        cross_attention_dim=config.context_dim,
    )
    return unet, projections


@torch.no_grad()
@pytest.mark.parametrize(("shape", "head_dim", "num_image_tokens"), [(DEEP, 16, 4), (DEEP, 8, 3), (EVERYWHERE, 32, 4)])
def test_decoder(shape: dict[str, object], head_dim: int, num_image_tokens: int) -> None:
    config = DecoderConfig(
        image_size=16,
        embedding_dim=24,
        text_dim=24,
        base_channels=32,
        head_dim=head_dim,
        num_image_tokens=num_image_tokens,
        context_dim=40,
        **shape,
    )
    unet, projections = published_decoder(config)
    ours = Decoder(config).eval()
    fill(unet, projections, std=0.05)
    state = {f"decoder.{name}": tensor for name, tensor in unet.state_dict().items()}
    state |= {f"text_proj.{name}": tensor for name, tensor in projections.state_dict().items()}
    constants = {"embedding_mean": torch.zeros(24), "embedding_std": torch.ones(24)}
    translate(ours, state, decoder_names(config), constants)

    x_t, twice = torch.randn(4, 3, 16, 16), {"timestep": TIMESTEP.repeat(2), "text_mask": MASK.repeat(2, 1)}
    texts = {"text_embedding": TEXT.repeat(2, 1), "text_hidden": HIDDEN.repeat(2, 1, 1)}
    context, emb = projections(
        image_embeddings=EMBEDDING,
        prompt_embeds=texts["text_embedding"],
        text_encoder_hidden_states=texts["text_hidden"],
        do_classifier_free_guidance=True,
    )
    mask = nn.functional.pad(twice["text_mask"], (num_image_tokens, 0), value=True)
    expected = unet(x_t, twice["timestep"], context, class_labels=emb, attention_mask=mask).sample
    present = torch.tensor([False, False, True, True])
    close(ours(x_t, image_embedding=EMBEDDING.repeat(2, 1), image_present=present, **texts, **twice), expected)

    original = original_names.unet(unet.state_dict(), head_dim)
    original |= original_names.rename(projections.state_dict(), original_names.PROJECTIONS)
    check_original(ours, decoder_original_names(config), original, constants)


@torch.no_grad()
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_upsampler(memory_format: torch.memory_format) -> None:
    theirs = UNet2DModel(
        sample_size=32,
        in_channels=6,
        layers_per_block=2,
        block_out_channels=(32, 64),
        down_block_types=("ResnetDownsampleBlock2D",) * 2,
        up_block_types=("ResnetUpsampleBlock2D",) * 2,
        add_attention=False,
    )
    config = UpsamplerConfig(image_size=32, low_res_size=8, base_channels=32, channel_mult=(1, 2), num_res_blocks=2)
    ours = Upsampler(config).eval()
    fill(theirs, std=0.05)
    translate(ours, theirs.state_dict(), unet_names(config.unet()))
    original = original_names.unet(theirs.state_dict())
    check_original(ours, unet_original_names(config.unet()), original, {})
    ours.to(memory_format=memory_format)
    x_t, low_res = torch.randn(2, 3, 32, 32), torch.rand(2, 3, 8, 8)
    large = nn.functional.interpolate(low_res, size=(32, 32), mode="bicubic", antialias=True)
    expected = theirs(torch.cat([x_t, large], dim=1), TIMESTEP).sample
    close(ours(x_t, TIMESTEP, low_res), expected)
