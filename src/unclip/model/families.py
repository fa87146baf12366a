"""The networks that a model can hold, each class with its `Family`."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from unclip.clip import Clip, ClipConfig, TextFeatures
from unclip.config import Config
from unclip.model.families_dalle2 import DALLE2_PRIOR, DALLE2_UNET
from unclip.model.families_kandinsky import AUTOENCODER, KANDINSKY_DECODER, MULTILINGUAL_CLIP
from unclip.model.family import (
    LATENT_SIZE,
    Condition,
    Conditioning,
    DecoderInputs,
    ExampleShape,
    Family,
    Size,
    example_step,
    example_text,
    text_conditioning,
    trim_texts,
)
from unclip.models import (
    ConvAutoencoder,
    ConvAutoencoderConfig,
    Decoder,
    DecoderConfig,
    Prior,
    PriorConfig,
    Upsampler,
    UpsamplerConfig,
    count_flops,
)
from unclip.runtime import on_meta
from unclip.shapes import Embeddings


def family_of(config: Config) -> Family:
    """Return the family of a network's configuration."""
    return _BY_CONFIG[type(config)]


def build_on_meta(config: Config) -> Any:
    """Build the network that a configuration describes, for inference; it takes no memory until it is filled."""
    build: Any = family_of(config).network
    with on_meta():
        return build(config).eval().requires_grad_(False)


def count_step(network: Any, size: tuple[int, int] | None = None) -> int:
    """Count the floating-point operations of one step for one picture without guidance.

    `network` is on the meta device. A step of CLIP is one text, of an autoencoder the decoding of one picture. `size`
    is the (height, width) of what it reads, None that of training.
    """
    family = family_of(network.config)
    with torch.device("meta"):
        return count_flops(lambda: getattr(network, family.method)(**family.example_inputs(network.config, size=size)))


def _clip_sizes(config: ClipConfig) -> list[Size]:
    return [
        Size("image embedding", config.embedding_dim, "embedding_dim"),
        Size("text embedding", config.embedding_dim, "embedding_dim"),
        Size("token width", config.text_width, "text_width"),
        Size("prompt length", config.context_length, "context_length"),
    ]


def _prior_sizes(config: PriorConfig) -> list[Size]:
    width = (config.text_dim or config.embedding_dim) if config.num_text_tokens else 0
    return [
        Size("image embedding", config.embedding_dim, "embedding_dim"),
        Size("text embedding", config.text_embedding_dim or config.embedding_dim, "text_embedding_dim"),
        Size("token width", width, "text_dim"),
        Size("prompt length", config.num_text_tokens, "num_text_tokens"),
    ]


def _prior_example(config: PriorConfig, shape: ExampleShape) -> Conditioning:
    return {
        "x_t": torch.empty(shape.batch, config.embedding_dim),
        "timestep": torch.empty(shape.batch),
        "text_embedding": torch.empty(shape.batch, config.text_embedding_dim or config.embedding_dim),
        **example_text(shape.batch, config.num_text_tokens, config.text_dim or config.embedding_dim),
    }


def _condition_prior(network: Prior, text: TextFeatures, null: TextFeatures, rows: int) -> list[Conditioning]:
    passes: list[Conditioning] = []
    for features in trim_texts(text, null):
        hidden, mask = (features.hidden, features.mask) if network.config.num_text_tokens else (None, None)
        # Keys and values of the text do not depend on the time: computed once, not once per step and candidate.
        cache = network.text_cache(features.embedding, hidden, mask)
        repeats = rows // len(features.embedding)
        passes.append(
            {
                "cache": cache.repeat_interleave(repeats, dim=0),
                "text_mask": None if mask is None else mask.repeat_interleave(repeats, dim=0),
            }
        )
    return passes


def _decoder_sizes(config: DecoderConfig) -> list[Size]:
    transformer = config.text_transformer
    return [
        Size("image embedding", config.embedding_dim, "embedding_dim"),
        Size("token width", config.text_dim, "text_dim"),
        Size("prompt length", transformer.num_text_tokens if transformer else 0, "text_transformer.num_text_tokens"),
        Size("number of latent channels", config.in_channels, "in_channels"),
    ]


def _decoder_example(config: DecoderConfig, shape: ExampleShape) -> Conditioning:
    length = config.text_transformer.num_text_tokens if config.text_transformer else shape.num_tokens
    embedding = torch.empty(shape.batch, config.embedding_dim)
    return {
        **example_step(config, shape),
        "image_embedding": embedding,
        "image_present": torch.empty(shape.batch, dtype=torch.bool),
        "text_embedding": embedding if config.text_dim else None,
        "augmentation": torch.empty(shape.batch) if config.noise_conditioning else None,
        **example_text(shape.batch, length, config.text_dim),
    }


def _condition_decoder(network: Decoder, image_embedding: Embeddings, condition: Condition) -> list[Conditioning]:
    rows = len(image_embedding)
    absent = torch.zeros(rows, dtype=torch.bool, device=image_embedding.device)
    texts: Sequence[dict[str, Tensor | None]] = [{}, {}]
    if network.config.text_dim:
        texts = [text_conditioning(text, rows) for text in trim_texts(condition.text, condition.null)]
    return [
        {"image_embedding": image_embedding, "image_present": present, **text}
        for present, text in zip((~absent if condition.is_conditional else absent, absent), texts, strict=True)
    ]


def _train_decoder(config: DecoderConfig, inputs: DecoderInputs) -> Conditioning:
    text = text_conditioning(inputs.text, len(inputs.image_embedding)) if config.text_dim else {}
    level = {"augmentation": inputs.level} if config.noise_conditioning else {}
    return {"image_embedding": inputs.image_embedding, "image_present": inputs.image_present, **level, **text}


def _latents_example(config: ConvAutoencoderConfig, shape: ExampleShape) -> Conditioning:
    return {"latents": torch.empty(shape.batch, config.latent_channels, *(shape.size or (LATENT_SIZE, LATENT_SIZE)))}


def _upsampler_example(config: UpsamplerConfig, shape: ExampleShape) -> Conditioning:
    # Pictures of another size are crops, as in training, whose small ones are enlarged already.
    small = (config.low_res_size, config.low_res_size) if shape.size is None else shape.size
    return {
        **example_step(config, shape),
        "low_res": torch.empty(shape.batch, config.in_channels, *small),
        "augmentation": torch.empty(shape.batch) if config.noise_conditioning else None,
    }


FAMILIES = {
    family.network.__name__: family
    for family in (
        Family(
            network=Clip,
            config=ClipConfig,
            stage="clip",
            sizes=_clip_sizes,
            example=lambda config, shape: {"ids": torch.empty(shape.batch, config.context_length, dtype=torch.int64)},
            method="encode_tokens",
        ),
        Family(
            network=Prior,
            config=PriorConfig,
            stage="prior",
            sizes=_prior_sizes,
            example=_prior_example,
            condition_prior=_condition_prior,
            null_is_text=True,
            can_self_condition=True,
        ),
        Family(
            network=Decoder,
            config=DecoderConfig,
            stage="decoder",
            sizes=_decoder_sizes,
            example=_decoder_example,
            condition_decoder=_condition_decoder,
            train_decoder=_train_decoder,
            null_is_text=True,
            reads_noise_level=True,
            can_self_condition=True,
        ),
        Family(
            network=Upsampler,
            config=UpsamplerConfig,
            stage="upsampler",
            sizes=lambda config: (),  # It reads pictures alone, whose sizes are checked as a chain.
            example=_upsampler_example,
            reads_noise_level=True,
        ),
        KANDINSKY_DECODER,
        MULTILINGUAL_CLIP,
        AUTOENCODER,
        Family(
            network=ConvAutoencoder,
            config=ConvAutoencoderConfig,
            stage="autoencoder",
            sizes=lambda config: (Size("number of latent channels", config.latent_channels, "latent_channels"),),
            example=_latents_example,
            method="decode",
        ),
        DALLE2_PRIOR,
        DALLE2_UNET,
    )
}
"""By the name of the network's class, as files have it."""
_BY_CONFIG = {family.config: family for family in FAMILIES.values()}
# Networks that encode and are not sampled.
ENCODERS = ("clip", "text_encoder")
