"""The shapes of LAION's released weights, which version 1.1 of DALLE2-pytorch or an earlier one trained."""

from typing import Any

from unclip.errors import InputError, did_you_mean
from unclip.models.dalle2_pytorch.config import Dalle2UNetConfig
from unclip.models.dalle2_pytorch.prior import Dalle2PriorConfig

# What the networks did up to 1.3, where no option says so.
V1_1_PRIOR: dict[str, Any] = {
    "cosine_attention": False,
    "position_bias_scale": 128.0,
    "learned_nulls": False,
    "null_hides_x_t": False,
    "truncated_time": True,
}
V1_1_UNET: dict[str, Any] = {"squared_attention_scale": False, "normalized_linear_attention": False}


def dalle2_prior_preset(name: str) -> Dalle2PriorConfig:
    """The prior called "laion-prior" (ViT-L/14, 249M parameters); else `InputError`."""
    _check(name, "laion-prior")
    return Dalle2PriorConfig(
        embedding_dim=768,
        num_text_tokens=77,
        depth=24,
        num_heads=32,
        num_embedded_timesteps=1000,
        norm_ff=True,
        attention_dropout=0.05,
        ff_dropout=0.05,
        **V1_1_PRIOR,
    )


def dalle2_decoder_preset(name: str) -> Dalle2UNetConfig:
    """The decoder called "laion-decoder" (ViT-L/14 with text, 64 px, 983M parameters); else `InputError`."""
    _check(name, "laion-decoder")
    return Dalle2UNetConfig(
        image_size=64,
        base_channels=320,
        channel_mult=(1, 2, 3, 4),
        num_res_blocks=(4, 4, 4, 4),
        num_groups=(8, 8, 8, 8),
        self_attention=(False, True, True, True),
        linear_attention=True,
        num_heads=8,
        head_dim=64,
        context_dim=512,
        embedding_dim=768,
        text_dim=768,
        memory_efficient=True,
        downsample="conv",
        **V1_1_UNET,
    )


def _check(name: str, allowed: str) -> None:
    if name != allowed:
        raise InputError(f"no preset of DALLE2-pytorch is called {name!r} here; {did_you_mean(name, [allowed])}")
