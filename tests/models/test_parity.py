"""Our networks against those of diffusers, with tiny random weights carried over by a map of names."""

import pytest
import torch
from diffusers import PriorTransformer, UNet2DConditionModel, UNet2DModel
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
from torch import nn

from networks import carry_over, close, fill
from unclip.models import Decoder, DecoderConfig, Prior, PriorConfig, Upsampler, UpsamplerConfig

RES = {
    "norm_1": "norm1",
    "conv_1": "conv1",
    "embedding": "time_emb_proj",
    "norm_2": "norm2",
    "conv_2": "conv2",
    "skip": "conv_shortcut",
}
ATTENTION = {
    "norm": "group_norm",
    "qkv": ("to_q", "to_k", "to_v"),
    "context_kv": ("add_k_proj", "add_v_proj"),
    "out": "to_out.0",
}
BLOCK = {
    "norm_1": "norm1",
    "qkv": ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
    "out": "attn1.to_out.0",
    "norm_2": "norm3",
    "ff_in": "ff.net.0.proj",
    "ff_out": "ff.net.2",
}
TIME = {f"time_embedding.linear_{i}": f"time_embedding.linear_{i}" for i in (1, 2)}

Names = dict[str, str | tuple[str, ...]]


def under(ours: str, theirs: str, names: Names) -> Names:
    """The map `names` of a part that is called `ours` here and `theirs` there; a tuple is joined along the rows."""
    parts = {key: (value,) if isinstance(value, str) else value for key, value in names.items()}
    return {f"{ours}.{key}": tuple(f"{theirs}.{name}" for name in value) for key, value in parts.items()}


def unet_names(num_levels: int, num_res_blocks: int) -> Names:
    names: Names = {
        "unet.conv_in": "conv_in",
        "unet.norm_out": "conv_norm_out",
        "unet.conv_out": "conv_out",
    }
    places = [("middle", "mid_block", 2)]
    places += [(f"down.{i}", f"down_blocks.{i}", num_res_blocks) for i in range(num_levels)]
    places += [(f"up.{i}", f"up_blocks.{i}", num_res_blocks + 1) for i in range(num_levels)]
    for ours, theirs, num_blocks in places:
        for j in range(num_blocks):
            names |= under(f"unet.{ours}.blocks.{j}.res", f"{theirs}.resnets.{j}", RES)
            names |= under(f"unet.{ours}.blocks.{j}.attention", f"{theirs}.attentions.{j}", ATTENTION)
        names |= under(f"unet.{ours}.resample", f"{theirs}.{ours.split('.')[0]}samplers.0", RES)
    return names


TIMESTEP, EMBEDDING, TEXT = torch.tensor([7.0, 950.0]), torch.linspace(-1, 1, 48).view(2, 24).cos(), torch.randn(2, 24)
HIDDEN, MASK = torch.sin(torch.arange(240.0)).view(2, 5, 24), torch.arange(5) < torch.tensor([[2], [5]])


@torch.no_grad()
def test_prior() -> None:
    theirs = PriorTransformer(
        num_attention_heads=2, attention_head_dim=16, num_layers=2, embedding_dim=24, num_embeddings=5
    )
    ours = Prior(PriorConfig(embedding_dim=24, num_text_tokens=5, width=32, depth=2, num_heads=2)).eval()
    names: Names = TIME | {
        "embedding_mean": "clip_mean",
        "embedding_std": "clip_std",
        "query": "prd_embedding",
        "positions": "positional_embedding",
        "text_tokens": "encoder_hidden_states_proj",
        "text_embedding": "embedding_proj",
        "noised_embedding": "proj_in",
        "norm_out": "norm_out",
        "out": "proj_to_clip_embeddings",
    }
    for i in range(2):
        names |= under(f"blocks.{i}", f"transformer_blocks.{i}", BLOCK)
    fill(theirs)
    carry_over(ours, theirs.state_dict(), names)
    expected = theirs(EMBEDDING, TIMESTEP, TEXT, HIDDEN, MASK).predicted_image_embedding
    close(ours(EMBEDDING, TIMESTEP, TEXT, HIDDEN, MASK), expected)
    close(ours.unstandardize(EMBEDDING), theirs.post_process_latents(EMBEDDING))


@torch.no_grad()
def test_decoder() -> None:
    theirs = UNet2DConditionModel(
        sample_size=16,
        in_channels=3,
        out_channels=6,
        layers_per_block=2,
        block_out_channels=(32, 64, 96),
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        cross_attention_dim=40,
        attention_head_dim=16,
        class_embed_type="identity",
        resnet_time_scale_shift="scale_shift",
    )
    projections = UnCLIPTextProjModel(clip_embeddings_dim=24, time_embed_dim=128, cross_attention_dim=40)
    ours = Decoder(
        DecoderConfig(
            image_size=16,
            embedding_dim=24,
            text_dim=24,
            base_channels=32,
            channel_mult=(1, 2, 3),
            num_res_blocks=2,
            attention_resolutions=(8, 4),
            head_dim=16,
            context_dim=40,
        )
    ).eval()
    names: Names = TIME | unet_names(3, 2)
    names |= {
        "embedding_mean": "mean",
        "embedding_std": "std",
        "null_image_embedding": "learned_classifier_free_guidance_embeddings",
        "image_embedding": "clip_image_embeddings_project_to_time_embeddings",
        "image_tokens": "clip_extra_context_tokens_proj",
        "text_embedding": "embedding_proj",
        "text_tokens": "encoder_hidden_states_proj",
        "text_norm": "text_encoder_hidden_states_norm",
    }
    fill(theirs, projections)
    state = theirs.state_dict() | projections.state_dict() | {"mean": torch.zeros(24), "std": torch.ones(24)}
    for leaf in ("weight", "bias"):  # Their four tokens are channel-major, ours token-major.
        key = f"clip_extra_context_tokens_proj.{leaf}"
        state[key] = state[key].unflatten(0, (40, 4)).transpose(0, 1).flatten(0, 1)
    carry_over(ours, state, names)

    x_t = torch.randn(4, 3, 16, 16)
    twice = {"timestep": TIMESTEP.repeat(2), "text_mask": MASK.repeat(2, 1)}
    context, emb = projections(
        image_embeddings=EMBEDDING,
        prompt_embeds=TEXT.repeat(2, 1),
        text_encoder_hidden_states=HIDDEN.repeat(2, 1, 1),
        do_classifier_free_guidance=True,
    )
    mask = nn.functional.pad(twice["text_mask"], (4, 0), value=True)
    expected = theirs(x_t, twice["timestep"], context, class_labels=emb, attention_mask=mask).sample
    present = torch.tensor([False, False, True, True])
    actual = ours(
        x_t,
        image_embedding=EMBEDDING.repeat(2, 1),
        image_present=present,
        text_embedding=TEXT.repeat(2, 1),
        text_hidden=HIDDEN.repeat(2, 1, 1),
        **twice,
    )
    close(actual, expected)


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
    fill(theirs)
    carry_over(ours, theirs.state_dict(), TIME | unet_names(2, 2))
    ours.to(memory_format=memory_format)
    x_t, low_res = torch.randn(2, 3, 32, 32), torch.rand(2, 3, 8, 8)
    large = nn.functional.interpolate(low_res, size=(32, 32), mode="bicubic", antialias=True)
    expected = theirs(torch.cat([x_t, large], dim=1), TIMESTEP).sample
    close(ours(x_t, TIMESTEP, low_res), expected)
