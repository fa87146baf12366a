"""The families of Kandinsky's networks: its decoder, autoencoder and multilingual text encoder."""

import torch

from unclip.clip import MultilingualClip, MultilingualConfig
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
)
from unclip.models import Autoencoder, AutoencoderConfig, KandinskyDecoder, KandinskyDecoderConfig
from unclip.shapes import Embeddings


def _decoder_sizes(config: KandinskyDecoderConfig) -> list[Size]:
    text = (config.text_embedding_dim or config.embedding_dim) if config.text_dim else 0
    return [
        Size("image embedding", config.embedding_dim, "embedding_dim"),
        # Its text comes from the multilingual encoder.
        Size("second text embedding", text, "text_embedding_dim"),
        Size("second token width", config.text_dim, "text_dim"),
        Size("number of latent channels", config.in_channels, "in_channels"),
    ]


def _decoder_example(config: KandinskyDecoderConfig, shape: ExampleShape) -> Conditioning:
    text_dim = config.text_embedding_dim or config.embedding_dim
    return {
        **example_step(config, shape),
        "image_embedding": torch.empty(shape.batch, config.embedding_dim),
        "text_embedding": torch.empty(shape.batch, text_dim) if config.text_dim else None,
        **example_text(shape.batch, shape.num_tokens, config.text_dim),
    }


def _condition_decoder(
    network: KandinskyDecoder, image_embedding: Embeddings, condition: Condition
) -> list[Conditioning]:
    assert condition.null_image is not None, "guidance leads away from the embedding of an empty image"
    rows = len(image_embedding)
    null_image = condition.null_image.expand(rows, -1)
    images = (image_embedding if condition.is_conditional else null_image, null_image)
    if not network.config.text_dim:
        return [{"image_embedding": image} for image in images]
    # The network was trained to look at the padding, so no mask is given.
    return [
        {"image_embedding": image, **text_conditioning(text, rows), "text_mask": None}
        for image, text in zip(images, (condition.text, condition.null), strict=True)
    ]


def _train_decoder(config: KandinskyDecoderConfig, inputs: DecoderInputs) -> Conditioning:
    return {"image_embedding": torch.where(inputs.image_present[:, None], inputs.image_embedding, inputs.null_image)}


KANDINSKY_DECODER = Family(
    network=KandinskyDecoder,
    config=KandinskyDecoderConfig,
    stage="decoder",
    sizes=_decoder_sizes,
    example=_decoder_example,
    condition_decoder=_condition_decoder,
    train_decoder=_train_decoder,
    null_is_text=True,
    null_is_empty_image=True,
    draws_latents=True,
)
AUTOENCODER = Family(
    network=Autoencoder,
    config=AutoencoderConfig,
    stage="autoencoder",
    sizes=lambda config: (Size("number of latent channels", config.latent_channels, "latent_channels"),),
    example=lambda config, shape: {
        "latents": torch.empty(shape.batch, config.latent_channels, *(shape.size or (LATENT_SIZE, LATENT_SIZE)))
    },
    method="decode",
)
MULTILINGUAL_CLIP = Family(
    network=MultilingualClip,
    config=MultilingualConfig,
    stage="text_encoder",
    sizes=lambda config: (
        Size("second text embedding", config.embedding_dim, "embedding_dim"),
        Size("second token width", config.width, "width"),
    ),
    example=lambda config, shape: {
        "ids": torch.empty(shape.batch, shape.num_tokens, dtype=torch.int64),
        "mask": torch.empty(shape.batch, shape.num_tokens, dtype=torch.bool),
    },
)
