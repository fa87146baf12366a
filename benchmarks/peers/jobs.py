"""What is compared: for each job the shapes of both sides, chosen so that they have the same parameters. Knows numbers.

`common` is what both sides are told; `theirs` and `ours` are each side's own names for a network of that size.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

__all__ = ["JOBS", "PEERS", "SELF_CHECK", "Job"]

PEERS = {
    "dalle2_pytorch": "dalle2-pytorch",
    "diffusers": "diffusers",
    "denoising_diffusion_pytorch": "denoising-diffusion-pytorch",
    "imagen_pytorch": "imagen-pytorch",
    "ours": "unclip",
}
"""Package of each peer, by the name of its worker and its environment."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One comparison."""

    peer: str
    """Whose worker is the other side."""
    about: str
    """What one unit is, and what a reader has to know of it."""
    kind: str
    """What the workers build."""
    common: Mapping[str, Any] = field(default_factory=dict)
    theirs: Mapping[str, Any] = field(default_factory=dict)
    ours: Mapping[str, Any] = field(default_factory=dict)


# DALLE2-pytorch. Its MLPs are gated, so ours get ff_mult=5 for the same parameters at the same width and depth.
_THEIR_PRIOR = {
    "net": {"dim": 512, "depth": 6, "heads": 8, "dim_head": 64, "num_timesteps": 1000, "max_text_len": 256},
    "prior": {"image_embed_dim": 512, "timesteps": 1000, "cond_drop_prob": 0.1, "condition_on_text_encodings": False},
}
_OUR_PRIOR = {"embedding_dim": 512, "num_text_tokens": 0, "width": 512, "depth": 6, "num_heads": 8, "ff_mult": 5}
_THEIR_DECODER = {
    "unet": {"dim": 64, "cond_dim": 128, "image_embed_dim": 512, "dim_mults": [1, 2, 4, 8]},
    "decoder": {"image_size": 64, "timesteps": 1000, "image_cond_drop_prob": 0.1},
}
_OUR_DECODER = {
    "image_size": 64,
    "embedding_dim": 512,
    "base_channels": 64,
    "channel_mult": [1, 2, 4, 8],
    "num_res_blocks": 1,
    "attention_resolutions": [8],
    "head_dim": 32,
    "context_dim": 512,
}
_NO_PADDING = _THEIR_PRIOR | {"net": _THEIR_PRIOR["net"] | {"max_text_len": 1}}
_WITH_TEXT = {
    "net": _THEIR_PRIOR["net"] | {"max_text_len": 77},
    "prior": _THEIR_PRIOR["prior"] | {"condition_on_text_encodings": True},
}
_BOTH = {"prior_steps": 64, "decoder_steps": 50, "guidance_scale": 3.0}

_DALLE2 = {
    "prior_train": Job(
        peer="dalle2_pytorch",
        about="a training step of a prior without text tokens; theirs pads to its default of 256 tokens all the same",
        kind="prior_train",
        common={"batch_size": 64},
        theirs=_THEIR_PRIOR,
        ours={"prior": _OUR_PRIOR},
    ),
    "prior_train_unpadded": Job(
        peer="dalle2_pytorch",
        about="the same with their max_text_len=1, the shortest that it takes",
        kind="prior_train",
        common={"batch_size": 64},
        theirs=_NO_PADDING,
        ours={"prior": _OUR_PRIOR},
    ),
    "prior_train_text": Job(
        peer="dalle2_pytorch",
        about="a training step of a prior that reads 77 text tokens, all of them real, on both sides",
        kind="prior_train",
        common={"batch_size": 16, "num_text_tokens": 77},
        theirs=_WITH_TEXT,
        ours={"prior": _OUR_PRIOR | {"num_text_tokens": 77}},
    ),
    "prior_sample": Job(
        peer="dalle2_pytorch",
        about="64 DDIM steps without guidance and text tokens, 4 rows; theirs pads to 256 tokens",
        kind="prior_sample",
        common={"batch_size": 4, "prior_steps": 64},
        theirs=_THEIR_PRIOR,
        ours={"prior": _OUR_PRIOR},
    ),
    "prior_sample_unpadded": Job(
        peer="dalle2_pytorch",
        about="the same with their max_text_len=1, the shortest that it takes",
        kind="prior_sample",
        common={"batch_size": 4, "prior_steps": 64},
        theirs=_NO_PADDING,
        ours={"prior": _OUR_PRIOR},
    ),
    "decoder_train": Job(
        peer="dalle2_pytorch",
        about="a training step of a decoder at 64 px with learned variance",
        kind="decoder_train",
        common={"batch_size": 8},
        theirs=_THEIR_DECODER,
        ours={"decoder": _OUR_DECODER},
    ),
    "decoder_sample": Job(
        peer="dalle2_pytorch",
        about="one picture at 64 px in 50 DDIM steps with guidance",
        kind="decoder_sample",
        common={"batch_size": 1, "decoder_steps": 50, "guidance_scale": 3.0},
        theirs=_THEIR_DECODER,
        ours={"decoder": _OUR_DECODER},
    ),
    "image": Job(
        peer="dalle2_pytorch",
        about="one picture from text features: prior (64 DDIM steps) and decoder (50, guided), 64 px",
        kind="image",
        common={"batch_size": 1, **_BOTH},
        theirs=_THEIR_PRIOR | _THEIR_DECODER,
        ours={"prior": _OUR_PRIOR, "decoder": _OUR_DECODER},
    ),
}


# diffusers has the architecture of Karlo and Kandinsky, which ours reads: both sides are the same network.
def _diffusers_prior(width: int, depth: int, heads: int, dim: int = 768) -> dict[str, Mapping[str, Any]]:
    theirs = {"num_attention_heads": heads, "attention_head_dim": width // heads, "num_layers": depth}
    ours = {"embedding_dim": dim, "num_text_tokens": 77, "width": width, "depth": depth, "num_heads": heads}
    return {"theirs": {"prior": theirs | {"embedding_dim": dim}}, "ours": {"prior": ours}}


def _diffusers_decoder(channels: int, blocks: int, context: int) -> dict[str, Mapping[str, Any]]:
    ours = {
        "image_size": 64,
        "embedding_dim": 768,
        "text_dim": 768,
        "base_channels": channels,
        "channel_mult": [1, 2, 3, 4],
        "num_res_blocks": blocks,
        "attention_resolutions": [32, 16, 8],
        "context_dim": context,
    }
    theirs = {"base_channels": channels, "layers_per_block": blocks, "cross_attention_dim": context, "dim": 768}
    return {"theirs": {"decoder": theirs}, "ours": {"decoder": ours}}


_KARLO_PRIOR, _KARLO_DECODER = _diffusers_prior(2048, 20, 32), _diffusers_decoder(320, 3, 1536)

_DIFFUSERS = {
    "karlo_prior_step": Job(
        peer="diffusers",
        about="one guided DDPM step of a prior of Karlo's shape, one prompt of 77 tokens; ours reads the text's keys "
        "and values from the cache that each sampling makes once (karlo_prior_sample counts that too)",
        kind="prior_step",
        common={"batch_size": 1, "guidance_scale": 4.0},
        **_KARLO_PRIOR,
    ),
    "karlo_prior_sample": Job(
        peer="diffusers",
        about="25 guided DDPM steps of a prior of Karlo's shape, one prompt of 77 tokens, all included",
        kind="prior_sample_ddpm",
        common={"batch_size": 1, "prior_steps": 25, "guidance_scale": 4.0},
        **_KARLO_PRIOR,
    ),
    "karlo_decoder_step": Job(
        peer="diffusers",
        about="one guided DDPM step of a decoder of Karlo's shape at 64 px, 77 text tokens",
        kind="decoder_step",
        common={"batch_size": 1, "guidance_scale": 8.0},
        **_KARLO_DECODER,
    ),
    "karlo_upsampler_step": Job(
        peer="diffusers",
        about="one DDPM step of an upsampler of Karlo's shape, 64 to 256 px",
        kind="upsampler_step",
        common={"batch_size": 1},
        theirs={"upsampler": {"base_channels": 320, "layers_per_block": 3, "image_size": 256}},
        ours={"upsampler": {"preset": "karlo"}},
    ),
    "kandinsky_decoder_step": Job(
        peer="diffusers",
        about="one guided DDPM step of a decoder of Kandinsky 2.2's shape, latents of 64 x 64 (512 px)",
        kind="kandinsky_step",
        common={"batch_size": 1, "guidance_scale": 4.0},
        theirs={"kandinsky": {"base_channels": 384, "layers_per_block": 3, "dim": 1280, "image_size": 64}},
        ours={"kandinsky": {"preset": "kandinsky-2.2"}},
    ),
    "diffusers_prior_train_tiny": Job(
        peer="diffusers",
        about="a training step of a tiny prior (width 256, depth 4) that reads 77 text tokens",
        kind="prior_train",
        common={"batch_size": 32, "num_text_tokens": 77},
        **_diffusers_prior(256, 4, 4),
    ),
    "diffusers_prior_train_medium": Job(
        peer="diffusers",
        about="a training step of a prior of width 768 and depth 12 that reads 77 text tokens",
        kind="prior_train",
        common={"batch_size": 8, "num_text_tokens": 77},
        **_diffusers_prior(768, 12, 12),
    ),
    "diffusers_decoder_train_tiny": Job(
        peer="diffusers",
        about="a training step of a decoder of 64 base channels at 64 px that reads 77 text tokens",
        kind="decoder_train",
        common={"batch_size": 8, "num_text_tokens": 77},
        **_diffusers_decoder(64, 2, 512),
    ),
    "diffusers_decoder_train_medium": Job(
        peer="diffusers",
        about="a training step of a decoder of 128 base channels at 64 px that reads 77 text tokens",
        kind="decoder_train",
        common={"batch_size": 4, "num_text_tokens": 77},
        **_diffusers_decoder(128, 3, 768),
    ),
}

# Unconditional: what ours reserves for an embedding is made small, and never read.
_THEIR_UNET = {"unet": {"dim": 64, "dim_mults": [1, 2, 4, 8]}}
_OUR_UNET = {
    "image_size": 64,
    "embedding_dim": 64,
    "base_channels": 64,
    "channel_mult": [1, 2, 4, 5],
    "num_res_blocks": 2,
    "attention_resolutions": [8],
    "head_dim": 32,
    "num_image_tokens": 1,
    "context_dim": 32,
    "learned_variance": False,
}
_IMAGEN = {
    "unet": {"dim": 64, "text_embed_dim": 768, "max_text_len": 77},
    "imagen": {"image_sizes": 64, "text_embed_dim": 768, "timesteps": 1000, "cond_drop_prob": 0.1},
}

_OTHERS = {
    "ddpm_train": Job(
        peer="denoising_diffusion_pytorch",
        about="a training step of an unconditional U-Net at 64 px",
        kind="decoder_train",
        common={"batch_size": 8},
        theirs=_THEIR_UNET,
        ours={"decoder": _OUR_UNET, "unconditional": True},
    ),
    "ddpm_sample": Job(
        peer="denoising_diffusion_pytorch",
        about="4 unconditional pictures at 64 px in 50 DDIM steps",
        kind="decoder_sample",
        common={"batch_size": 4, "decoder_steps": 50, "guidance_scale": 1.0},
        theirs=_THEIR_UNET,
        ours={"decoder": _OUR_UNET, "unconditional": True},
    ),
    "imagen_train": Job(
        peer="imagen_pytorch",
        about="a training step of a text-conditioned U-Net at 64 px (their BaseUnet64 with dim=64), 77 tokens of T5",
        kind="decoder_train",
        common={"batch_size": 8, "num_text_tokens": 77},
        theirs=_IMAGEN,
        ours={
            "decoder": _OUR_DECODER
            | {"embedding_dim": 768, "text_dim": 768, "channel_mult": [1, 2, 3, 4], "num_res_blocks": 2}
            | {"attention_resolutions": [32, 16, 8], "context_dim": 256, "learned_variance": False}
        },
    ),
}

JOBS: Mapping[str, Job] = _DALLE2 | _DIFFUSERS | _OTHERS
"""All comparisons by name."""

_TINY = {"prior": _OUR_PRIOR | {"embedding_dim": 16, "width": 32, "depth": 1, "num_heads": 2}}
SELF_CHECK = replace(
    JOBS["prior_train"],
    peer="ours",
    about="a tiny prior of ours against itself, to try the protocol: the ratio should be 1",
    common={"batch_size": 4},
    theirs=_TINY,
    ours=_TINY,
)
"""What needs no peer."""
