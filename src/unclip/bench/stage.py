"""A stage under measurement: made-up inputs, and the sampling that the pipeline does with them. Knows no clock."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from unclip.bench.jobs import StageJob
from unclip.clip import Clip, MultilingualClip, TextFeatures
from unclip.model.family import CLIP_TOKENS
from unclip.models import Autoencoder, Decoder, KandinskyDecoder, Prior, Upsampler
from unclip.models.dalle2_pytorch import Dalle2Prior, Dalle2UNet
from unclip.pipelines import Condition, DecoderStage, PriorStage, UpsamplerStage
from unclip.runtime import NoiseSource, seeded

Begin = Callable[[], Iterator[object]]
"""Begins a sampling: what is done once is done when it returns; each item is then a step."""


def prepare(job: StageJob, network: Any, last: Any, device: torch.device) -> Begin:
    """The sampling of `job` with inputs on `device`, which may be meta; it can be begun any number of times."""
    rows = job.batch
    match network:
        case Clip(config=shape):
            ids = torch.zeros(rows, shape.context_length, dtype=torch.int64)
            ids[:, -1] = shape.end_token
            return _once(_read_prompts, network, ids.to(device))
        case MultilingualClip(config=shape):
            ids = torch.full((rows, shape.context_length), shape.pad_token + 1, device=device)
            return _once(network, ids, torch.ones_like(ids, dtype=torch.bool))
        case Autoencoder(config=shape):
            assert job.size is not None, "an autoencoder decodes latents of some size"
            return _once(network.decode, _normal((rows, shape.latent_channels, *job.size), device))
        case Prior() | Dalle2Prior():
            return _prior(job, network, device)
        case Decoder() | KandinskyDecoder() | Dalle2UNet():
            return _decoder(job, network, device)
        case Upsampler():
            return _upsampler(job, network, last, device)
    raise AssertionError(f"nobody said what {type(network).__name__} does in a sampling")


def _once(function: Callable[..., object], *inputs: Any) -> Begin:
    return lambda: (function(*inputs) for _ in range(1))


def _read_prompts(clip: Clip, ids: Tensor) -> object:
    """The prompts, and the empty one that guidance leads away from."""
    return clip.encode_tokens(ids), clip.encode_tokens(ids[:1])


def _prior(job: StageJob, network: Prior | Dalle2Prior, device: torch.device) -> Begin:
    assert job.settings is not None, "a prior is sampled"
    settings, (embedding_dim, width) = job.settings, _prior_reads(network)
    text, null = (_text(rows, embedding_dim, width, network.config.num_text_tokens, device) for rows in (job.batch, 1))
    stage = PriorStage(network, settings)
    return lambda: stage.steps(text, null, _noise(job), settings, job.num_candidates)


def _prior_reads(network: Prior | Dalle2Prior) -> tuple[int, int]:
    """Sizes of the text embedding and of a text token."""
    match network:
        case Prior(config=shape):
            return shape.text_embedding_dim or shape.embedding_dim, shape.text_dim or shape.embedding_dim
        case Dalle2Prior(config=shape):
            return shape.embedding_dim, shape.embedding_dim


def _decoder(job: StageJob, network: Decoder | KandinskyDecoder | Dalle2UNet, device: torch.device) -> Begin:
    assert job.settings is not None, "a decoder is sampled"
    shape, settings = network.config, job.settings
    embedding = shape.embedding_dim
    if isinstance(network, KandinskyDecoder):
        embedding = network.config.text_embedding_dim or embedding
    text, null = (_text(count, embedding, shape.text_dim, _length(job, network), device) for count in (job.batch, 1))
    image = _normal((job.batch, shape.embedding_dim), device)
    condition = Condition(text, null, image[:1])
    # Without its autoencoder, which is measured by itself.
    stage = DecoderStage(network, settings)
    return lambda: stage.steps(image, condition, _noise(job), settings, size=job.size)


def _length(job: StageJob, network: Decoder | KandinskyDecoder | Dalle2UNet) -> int:
    """Tokens of the decoder's texts, which are taken to be as long as they may be."""
    match network:
        case Decoder(config=shape) if shape.text_transformer is not None:
            return shape.text_transformer.num_text_tokens
        case Dalle2UNet(config=shape):
            return shape.num_text_tokens
    return job.text_tokens or CLIP_TOKENS


def _upsampler(job: StageJob, network: Upsampler, last: Upsampler | None, device: torch.device) -> Begin:
    assert job.settings is not None, "an upsampler is sampled"
    assert job.size is not None, "an upsampler makes pictures of some size"
    shape, settings = network.config, job.settings
    factor = shape.image_size // shape.low_res_size
    low_res = _normal((job.batch, shape.in_channels, job.size[0] // factor, job.size[1] // factor), device)
    stage = UpsamplerStage(network, settings, last)
    return lambda: stage.steps(low_res.clamp(-1.0, 1.0), _noise(job), settings, size=job.size)


def _noise(job: StageJob) -> NoiseSource:
    return NoiseSource.from_seeds(range(job.batch))


def _text(rows: int, embedding_dim: int, width: int, length: int, device: torch.device) -> TextFeatures:
    # A network without text tokens is still told of one, and does not look.
    shape = (rows, max(length, 1), max(width, 1))
    mask = torch.ones(shape[:2], dtype=torch.bool, device=device)
    return TextFeatures(_normal((rows, embedding_dim), device), _normal(shape, device), mask)


def _normal(shape: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.randn(shape, generator=seeded(0)).to(device)
