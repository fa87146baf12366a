"""The families of networks that DALLE2-pytorch trained. Their image embeddings are unit vectors."""

import torch
from torch import Tensor
from torch.nn import functional as F

from unclip.clip import TextFeatures
from unclip.model.family import Condition, Conditioning, ExampleShape, Family, Size, example_step, example_text
from unclip.models.dalle2_pytorch import Dalle2Prior, Dalle2PriorConfig, Dalle2UNet, Dalle2UNetConfig
from unclip.shapes import Embeddings


def _prior_sizes(config: Dalle2PriorConfig) -> list[Size]:
    return [
        Size("image embedding", config.embedding_dim, "embedding_dim"),
        Size("token width", config.embedding_dim * config.reads_text_hidden, "embedding_dim"),
    ]


def _prior_example(config: Dalle2PriorConfig, shape: ExampleShape) -> Conditioning:
    return {
        "x_t": torch.empty(shape.batch, config.embedding_dim),
        "timestep": torch.empty(shape.batch),
        "text_embedding": torch.empty(shape.batch, config.embedding_dim),
        **example_text(shape.batch, config.num_text_tokens, config.embedding_dim * config.reads_text_hidden),
    }


def _condition_prior(network: Dalle2Prior, text: TextFeatures, null: TextFeatures, rows: int) -> list[Conditioning]:
    config, repeats = network.config, rows // len(text.embedding)
    inputs: dict[str, Tensor] = {"text_embedding": F.normalize(text.embedding, dim=-1)}
    inputs |= _tokens(text, config.num_text_tokens) if config.reads_text_hidden else {}
    inputs = {name: value.repeat_interleave(repeats, dim=0) for name, value in inputs.items()}
    present = torch.ones(rows, dtype=torch.bool, device=text.embedding.device)
    return [{**inputs, "text_present": flags} for flags in (present if config.learned_nulls else None, ~present)]


def _decoder_example(config: Dalle2UNetConfig, shape: ExampleShape) -> Conditioning:
    return {
        **example_step(config, shape),
        "image_embedding": torch.empty(shape.batch, config.embedding_dim) if config.embedding_dim else None,
        **example_text(shape.batch, config.num_text_tokens, config.text_dim),
    }


def _condition_decoder(network: Dalle2UNet, image_embedding: Embeddings, condition: Condition) -> list[Conditioning]:
    config = network.config
    absent = torch.zeros(len(image_embedding), dtype=torch.bool, device=image_embedding.device)
    inputs = {"image_embedding": image_embedding} if config.embedding_dim else {}
    inputs |= _tokens(condition.text, config.num_text_tokens) if config.text_dim else {}
    flags = ["image_present", "text_present"] if config.text_dim else ["image_present"]
    return [
        {**inputs, **dict.fromkeys(flags, present)}
        for present in (~absent if condition.is_conditional else absent, absent)
    ]


# DALLE2-pytorch leaves out what its networks have no room for.
def _tokens(text: TextFeatures, length: int) -> dict[str, Tensor]:
    return {"text_hidden": text.hidden[:, :length], "text_mask": text.mask[:, :length]}


DALLE2_PRIOR = Family(
    network=Dalle2Prior,
    config=Dalle2PriorConfig,
    stage="prior",
    sizes=_prior_sizes,
    example=_prior_example,
    condition_prior=_condition_prior,
    unit_embeddings=True,
    can_self_condition=True,
)
DALLE2_UNET = Family(
    network=Dalle2UNet,
    config=Dalle2UNetConfig,
    stage="decoder",
    sizes=lambda config: (
        Size("image embedding", config.embedding_dim, "embedding_dim"),
        Size("token width", config.text_dim, "text_dim"),
        Size("number of latent channels", config.in_channels, "in_channels"),
    ),
    example=_decoder_example,
    condition_decoder=_condition_decoder,
    unit_embeddings=True,
    can_self_condition=True,
)
