"""A whole model of a few hundred thousand random weights: every file and code path of a real one, in milliseconds.

Its pictures are noise, but other prompts, seeds and settings give other noise.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from torch import nn

from unclip.clip import Clip, TextImageEncoder, Tokenizer, clip_preset
from unclip.model import StageSettings
from unclip.models import (
    ConvAutoencoder,
    ConvAutoencoderConfig,
    Decoder,
    DecoderConfig,
    Prior,
    PriorConfig,
    Upsampler,
    UpsamplerConfig,
)
from unclip.pipelines import DecoderStage, PriorStage, UnClip, UpsamplerStage
from unclip.runtime import forked_random_state

TINY_TEXTS = (
    "a red apple, noto style",
    "a cat with sunglasses",
    "a blue heart and a green tree, fluent style",
    "an old house near the yellow sun",
)
"""What the tiny tokenizer is trained on."""

CLIP = clip_preset("tiny").replace(vocab_size=560)
PRIOR = PriorConfig(
    embedding_dim=CLIP.embedding_dim,
    text_dim=CLIP.text_width,
    num_text_tokens=CLIP.context_length,
    width=32,
    depth=2,
    num_heads=2,
)
DECODER = DecoderConfig(
    image_size=16,
    embedding_dim=CLIP.embedding_dim,
    text_dim=CLIP.text_width,
    base_channels=32,
    channel_mult=(1, 2),
    num_res_blocks=1,
    attention_resolutions=(8,),
    head_dim=32,
    context_dim=32,
)
UPSAMPLER = UpsamplerConfig(
    image_size=32, low_res_size=16, base_channels=32, channel_mult=(1,), num_res_blocks=1, noise_conditioning=True
)
AUTOENCODER = ConvAutoencoderConfig(latent_channels=4, widths=(32,), decoder_blocks=1, patch_size=2)
ZERO_STD = 0.1

N = TypeVar("N", bound=nn.Module)


def tiny_tokenizer() -> Tokenizer:
    """A tokenizer trained on `TINY_TEXTS`; it encodes any text."""
    return Tokenizer.train(TINY_TEXTS * 3, CLIP.vocab_size)


def tiny_model(folder: str | Path, *, seed: int = 0) -> Path:
    """Write the folder of the tiny model and return it; weights depend on `seed` alone.

    It draws 16 and 32 px, reads 16 tokens, and has every feature of a model: text in prior and decoder, learned
    variance, noise conditioning of the upsampler.
    """
    tiny_pipeline(seed=seed).save(folder)
    return Path(folder)


def tiny_pipeline(*, seed: int = 0, channels: int = 3, latents: bool = False) -> UnClip:
    """The tiny model in memory, float32 on the CPU; with 4 `channels` it draws alpha.

    With `latents` the decoder draws them, 8 x 8 of 4 channels, and an autoencoder makes pictures of them.
    """
    tokenizer, enlarging, drawing = tiny_tokenizer(), UPSAMPLER.replace(in_channels=channels), DECODER
    autoencoder: ConvAutoencoder | None = None
    if latents:
        coding = AUTOENCODER.replace(in_channels=channels)
        autoencoder = _random(lambda: ConvAutoencoder(coding), seed + 4)
        drawing = drawing.replace(image_size=DECODER.image_size // coding.downsampling)
    drawing = drawing.replace(in_channels=AUTOENCODER.latent_channels if latents else channels)
    upsampler = UpsamplerStage(_random(lambda: Upsampler(enlarging), seed + 3), _settings(2, sampler="ddim"))
    prior = PriorStage(_random(lambda: Prior(PRIOR), seed + 1), _settings(3, guidance_scale=2.0))
    decoder_network = _random(lambda: Decoder(drawing), seed + 2)
    decoder = DecoderStage(decoder_network, _settings(3, guidance_scale=3.0), autoencoder)
    return UnClip(
        name="tiny",
        encoders={"clip": TextImageEncoder(_random(lambda: Clip(CLIP), seed), tokenizer)},
        stages={stage.name: stage for stage in (prior, decoder, upsampler)},
    )


def _settings(num_steps: int, *, guidance_scale: float = 1.0, sampler: str = "ddpm") -> StageSettings:
    return StageSettings(num_steps=num_steps, guidance_scale=guidance_scale, sampler=sampler)


def _random(build: Callable[[], N], seed: int) -> N:
    """Build a network from `seed` alone; weights that start at zero are drawn too, else tests would not see them."""
    with forked_random_state(seed):
        network = build()
        for parameter in network.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=ZERO_STD)
    return network.eval().requires_grad_(False)
