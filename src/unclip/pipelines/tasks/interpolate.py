"""Draw pictures on the way from one text or picture to another."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Unpack

import torch
from torch import Tensor

from unclip.diffusion import slerp
from unclip.pipelines.features import Features
from unclip.pipelines.inputs import Input, TextOrPicture, read_input
from unclip.pipelines.inversion import INVERTIBLE, check_invertible, invert_pictures
from unclip.pipelines.job import Job, PictureBatch, begin, count_candidates
from unclip.pipelines.model import Model
from unclip.pipelines.options import DrawOptions, NumCandidates, Option, task
from unclip.pipelines.result import Result
from unclip.pipelines.settings import image_seeds
from unclip.pipelines.stage import Start
from unclip.pipelines.tasks.embeddings import embed_inputs
from unclip.runtime import NoiseSource
from unclip.shapes import Sample


@task(is_series=True)
def interpolate(
    model: Model,
    a: Annotated[TextOrPicture, Option("Where to begin: a text or a picture.", "text or picture")],
    b: Annotated[TextOrPicture, Option("Where to end: a text or a picture.", "text or picture")],
    frames: Annotated[int, Option("Pictures, both ends included.", least=2)] = 9,
    *,
    num_candidates: NumCandidates = None,
    **options: Unpack[DrawOptions],
) -> Result:
    """Draw `frames` pictures, at least 2, on the way from `a` to `b`: texts or pictures (paper, section 3.2).

    A PIL image, a path, and a text that names a file are pictures. Image embeddings and the decoder's first noise
    go along great circles (slerp); any other noise is the same for all frames, so there is one seed. A decoder that
    reads text gets that of the nearer end.

    Between two texts the ends are what `text_to_image` draws with the same seed and options. A picture brings the
    noise that leads back to it: unless `options` say otherwise, the decoder then samples by DDIM in 25 steps
    without guidance, and the end is its reconstruction of the picture. Raises `InputError` as `text_to_image` does, for
    a file that is no picture, for a text named like a picture's file that is not there, and for a sampler of the
    decoder other than ddim where an end is a picture.
    """
    ends = [read_input(end) for end in (a, b)]
    defaults = {"decoder": INVERTIBLE} if any(end.picture for end in ends) else {}
    image_seeds(options.get("seed"), 1)  # refuses a sequence: its first seed alone would be used
    has_text = any(end.text for end in ends)
    job = begin(model, options, num_inputs=frames, uses_prior=has_text, defaults=defaults)
    check_invertible(job, list(defaults))
    candidates = count_candidates(model, num_candidates)

    # Both ends, from one seed: their image embeddings and the decoder's first noise.
    seeds = job.batches[0].seeds[:1]
    noise = NoiseSource.from_seeds(seeds)
    single = replace(job, batches=[PictureBatch([0], seeds, noise)])
    (embeddings,), features = embed_inputs(single, ends, candidates)
    x_T = _first_noise(single, features, ends, embeddings)

    # Frames between them. Any other noise is the same for all: each frame has a copy of the generator.
    copies = NoiseSource([generator for _ in range(frames) for generator in noise.copy().generators])
    job = job.with_pictures(job.pictures._replace(noise=copies))
    fractions = torch.tensor([frame / (frames - 1) for frame in range(frames)], dtype=torch.float64)
    between = [_between(list(embeddings), fractions[batch.rows]) for batch in job.batches]
    starts = [Start(x_T=_between(x_T, fractions[batch.rows])) for batch in job.batches]
    nearer = [int(fraction > 0.5) for fraction in fractions]
    condition = features.condition.select(nearer)
    images = job.draw(between, condition, {"decoder": starts})
    prompts, names = [ends[end].text for end in nearer], [end.name for end in ends]
    return job.result(images, between, features.cut, prompts, frames=frames, between=names, num_candidates=candidates)


# Of a picture the x_T of unCLIP section 3.1; of a text what the decoder draws first.
def _first_noise(job: Job, features: Features, ends: Sequence[Input], embeddings: Tensor) -> list[Sample]:
    """Return the noise that the decoder draws each of the two ends from, one row each."""
    (batch,), shape = job.batches, job.model.need_decoder.sample_shape(job.chain.sizes[0])
    rows = [row for row, end in enumerate(ends) if end.picture is not None]
    pictures = [end.picture for end in ends if end.picture is not None]
    inverted = iter(())
    if rows:
        condition = features.condition.select(rows)
        inverted = iter(invert_pictures(job, pictures, embeddings[rows, 0], condition).split(1))
    # Two texts begin with the same noise.
    drawn = [batch.noise(shape, embeddings.device)] if len(rows) < len(ends) else []
    return [drawn[0] if end.text else next(inverted) for end in ends]


def _between(ends: Sequence[Tensor], fractions: Tensor) -> Tensor:
    """Return a row for each fraction of the way between two ends of one row."""
    a, b = (end.expand(len(fractions), *end.shape[1:]) for end in ends)
    return slerp(a, b, fractions)
