"""Interpolation: on the way from one text or picture to another. Knows the stages of a model; not how they work."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Unpack

import torch
from torch import Tensor

from unclip.diffusion import slerp
from unclip.pipelines.features import Features
from unclip.pipelines.inputs import (
    Input,
    TextOrPicture,
    embed_inputs,
    encode_inputs,
    read_input,
)
from unclip.pipelines.inversion import INVERTIBLE, check_invertible, invert_pictures
from unclip.pipelines.job import Batch, Job, begin, count_candidates
from unclip.pipelines.model import Model
from unclip.pipelines.options import DrawOptions
from unclip.pipelines.result import Result
from unclip.pipelines.sampling import Start, select_text
from unclip.pipelines.settings import check_count, image_seeds
from unclip.runtime import NoiseSource
from unclip.shapes import Sample


@torch.no_grad()
def interpolate(
    model: Model,
    a: TextOrPicture,
    b: TextOrPicture,
    frames: int = 9,
    *,
    num_candidates: int | None = None,
    **options: Unpack[DrawOptions],
) -> Result:
    """Draw `frames` pictures, at least 2, on the way from `a` to `b`: texts or pictures (paper, section 3.2).

    A PIL image, a path, and a text that names a file are pictures. Image embeddings and the decoder's first noise
    go along great circles (slerp); any other noise is the same for all frames, so there is one seed. A decoder that
    reads text is told that of the nearer end.

    Between two texts the ends are what `text_to_image` draws with the same seed and options. A picture brings the
    noise that leads back to it: unless `options` say otherwise, the decoder then samples by DDIM in 25 steps
    without guidance, and the end is its reconstruction of the picture. Raises `InputError` as `text_to_image` does, for
    a file that is no picture, for a text called like a picture's file that is not there, and for a sampler of the
    decoder other than ddim where an end is a picture.
    """
    ends, fractions = [read_input(end) for end in (a, b)], _fractions(frames)
    has_text, has_picture = any(end.text for end in ends), any(end.picture for end in ends)
    defaults = {"decoder": INVERTIBLE} if has_picture else {}
    image_seeds(options.get("seed"), 1)  # refuses a sequence, of which all but the first would go unused
    job = begin(model, options, num_inputs=frames, uses_prior=has_text, defaults=defaults)
    check_invertible(job, list(defaults))
    candidates = count_candidates(model, num_candidates)

    features, seeds = encode_inputs(model, ends), job.batches[0].seeds[:1]
    noise = NoiseSource.from_seeds(seeds)
    start = replace(job, batches=[Batch([0], seeds, noise)])
    (embeddings,) = embed_inputs(start, features, ends, candidates)
    x_T = _start_noise(start, features, ends, embeddings)

    # What noise is drawn from here on is the same for all frames.
    job = replace(job, batches=[batch._replace(noise=_repeat(noise, len(batch.rows))) for batch in job.batches])
    between = [_between(list(embeddings), fractions[batch.rows]) for batch in job.batches]
    starts = [Start(x_T=_between(x_T, fractions[batch.rows])) for batch in job.batches]
    nearer = [int(fraction > 0.5) for fraction in fractions]
    condition = features.condition._replace(text=select_text(features.condition.text, nearer))
    images = job.upsample(job.decode(between, condition, starts))
    told = [ends[end].text for end in nearer]
    names = [end.name for end in ends]
    return job.result(images, between, features.cut, told, frames=frames, between=names, num_candidates=candidates)


def _fractions(frames: int) -> Tensor:
    check_count("frames", frames, least=2)
    return torch.tensor([frame / (frames - 1) for frame in range(frames)], dtype=torch.float64)


# Of a picture the x_T of unCLIP section 3.1; of a text what the decoder draws first.
def _start_noise(job: Job, features: Features, ends: Sequence[Input], embeddings: Tensor) -> list[Sample]:
    """The noise, a row each, that the decoder makes the two ends from."""
    (batch,), shape = job.batches, job.model.need_decoder.sample_shape(job.chain.sizes[0])
    inverted = iter(_invert(job, features, ends, embeddings))
    drawn = [batch.noise(shape, embeddings.device)] if any(end.text for end in ends) else []
    return [drawn[0] if end.text else next(inverted) for end in ends]


def _invert(job: Job, features: Features, ends: Sequence[Input], embeddings: Tensor) -> list[Sample]:
    """The noise that leads back to each of the pictures."""
    rows = [row for row, end in enumerate(ends) if end.picture is not None]
    if not rows:
        return []
    pictures = [end.picture for end in ends if end.picture is not None]
    told = features.condition._replace(text=select_text(features.condition.text, rows))
    return list(invert_pictures(job, pictures, embeddings[rows, 0], told).split(1))


def _between(ends: Sequence[Tensor], fractions: Tensor) -> Tensor:
    """A row for each fraction of the way between two ends of one row."""
    a, b = (end.expand(len(fractions), *end.shape[1:]) for end in ends)
    return slerp(a, b, fractions)


def _repeat(noise: NoiseSource, count: int) -> NoiseSource:
    """One generator as `count` that go on alike."""
    return NoiseSource([generator for _ in range(count) for generator in noise.copy().generators])
