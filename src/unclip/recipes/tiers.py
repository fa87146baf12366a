"""Shapes of the networks that are used together, from those of minutes on a CPU to those of a GPU."""

from typing import NamedTuple

from unclip.clip import ClipConfig
from unclip.recipes import emoji


class Tier(NamedTuple):
    """Shapes of the networks that are used together, by how much they cost."""

    clip: ClipConfig
    prior: tuple[int, int, int]
    """Width, blocks, heads."""
    decoder_size: int
    decoder_channels: int
    decoder_mult: tuple[int, ...]
    decoder_patch: int
    decoder_attention: tuple[int, ...]
    """Levels with attention, by their number; 0 is the finest."""
    upsampler_channels: int
    autoencoder_widths: tuple[int, ...]
    """Of the levels, finest first; the last is repeated, or left out, as the grid of the latents wants it."""
    latent_size: int
    """Side of that grid."""
    latent_decoder_channels: int
    latent_decoder_mult: tuple[int, ...] = (1, 2)
    speed: float = 1.0
    """Factor of all learning rates but CLIP's: small networks bear more, and few steps need it."""


def _clip(image_size: int, embedding_dim: int, vision: tuple[int, int], text: tuple[int, int]) -> ClipConfig:
    return emoji.CLIP.replace(
        image_size=image_size,
        patch_size=8,
        stem=(),
        embedding_dim=embedding_dim,
        vision_width=vision[0],
        vision_layers=vision[1],
        vision_heads=max(1, vision[0] // 64),
        text_width=text[0],
        text_layers=text[1],
        text_heads=max(1, text[0] // 64),
    )


SMOKE = Tier(_clip(16, 32, (32, 1), (32, 1)), (32, 1, 1), 16, 32, (1, 2), 2, (1,), 32, (32, 32), 16, 32)
_TIERS = (
    # For minutes on a CPU: a grid of 8 x 8 with wide levels learns the most a second there.
    Tier(_clip(48, 64, (128, 3), (128, 2)), (128, 3, 2), 32, 64, (1, 2), 4, (1,), 32, (64, 96), 16, 64, speed=1.5),
    Tier(_clip(48, 128, (128, 4), (128, 3)), (192, 4, 3), 32, 48, (1, 2, 4), 2, (1, 2), 48, (64, 128), 16, 96),
    Tier(_clip(48, 192, (192, 6), (128, 4)), (256, 6, 4), 32, 64, (1, 2, 4), 2, (1, 2), 64, (96, 160), 16, 128),
    Tier(
        clip=_clip(64, 256, (384, 8), (256, 6)),
        prior=(512, 8, 8),
        decoder_size=64,
        decoder_channels=128,
        decoder_mult=(1, 2, 4),
        decoder_patch=2,
        decoder_attention=(1, 2),
        upsampler_channels=96,
        autoencoder_widths=(128, 256),
        latent_size=32,
        latent_decoder_channels=128,
        latent_decoder_mult=(1, 2, 4),
    ),
)
_TIER_NEEDS = ((0, 0.0), (0, 2e14), (2_000, 2e15), (10_000, 1e17))
"""Pictures, and operations that the time has room for, that a tier needs.

Two cores at rest do 2e14 in some ten minutes, of which the second tier's decoder makes 1,500 steps.
"""


def tiers_for(num_pictures: int, flops: float) -> list[Tier]:
    """Return the tiers that there are pictures and operations for, the largest last."""
    needs = zip(_TIERS, _TIER_NEEDS, strict=True)
    return [tier for tier, (pictures, needed) in needs if num_pictures >= pictures and flops >= needed]
