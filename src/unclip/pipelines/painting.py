"""Painting what is missing in a window, through every stage of a job. Knows stages; not where the window lies."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from PIL import Image
from torch import Tensor

from unclip.images import from_pil, resize
from unclip.pipelines.canvas import BLANK, Canvas
from unclip.pipelines.conditioning import Condition
from unclip.pipelines.features import Features, encode
from unclip.pipelines.job import Job
from unclip.pipelines.masks import Mask, join, resize_known, resize_mask
from unclip.shapes import Images, Sample

__all__ = ["FEATHER", "NUM_RESAMPLES", "describe", "embed", "paint"]

FEATHER = 4
NUM_RESAMPLES = 2


def embed(job: Job, prompt: str | None, picture: Image.Image) -> tuple[list[Tensor], Features]:
    """Image embeddings for each batch, the prior's of a prompt or else CLIP's, and the features that they are of."""
    if prompt is not None:
        features = encode(job.model, [prompt])
        return job.imagine(features, job.model.num_candidates), features
    features = encode(job.model, [""], [picture])
    return [features.pictures[batch.rows] for batch in job.batches], features


def describe(job: Job, prompt: str | None, feather: int, num_resamples: int) -> dict[str, Any]:
    """What a result says of how it was painted."""
    height, width = job.chain.size
    return {
        "drawn_size": width if width == height else [width, height],
        "feather": feather,
        "num_resamples": num_resamples,
        **({} if prompt is None else {"num_candidates": job.model.num_candidates}),
    }


def paint(
    job: Job,
    embeddings: list[Tensor],
    condition: Condition,
    windows: Sequence[Sequence[Image.Image]],
    known: Image.Image,
    *,
    feather: int,
    num_resamples: int,
) -> list[Tensor]:
    """The windows of each batch in [-1, 1]: as they are where `known` is white, painted where it is black.

    Every stage draws at its own size and keeps what is known at that size; only the decoder resamples.
    """
    decoder, (height, width), device = job.model.need_decoder, job.chain.sizes[0], job.model.device
    latents = height // decoder.downsampling, width // decoder.downsampling
    pictures = [from_pil(batch).to(device) for batch in windows]
    mask = (from_pil([known])[:, :1] < 0.0).float().to(device)

    at_decoder = _canvases(pictures, mask, (height, width), latents, decoder.start, num_resamples)
    later = {
        stage.name: _canvases(pictures, mask, size, size)
        for stage, size in zip(job.chain.upsamplers, job.chain.sizes[1:], strict=True)
    }
    drawn = job.enlarge(job.decode(embeddings, condition, at_decoder), later)
    at_home = (resize(images, (known.height, known.width)).clamp(-1.0, 1.0) for images in drawn)
    return [join(picture, images, mask, feather).cpu() for picture, images in zip(pictures, at_home, strict=True)]


def _canvases(
    pictures: list[Tensor],
    mask: Mask,
    size: tuple[int, int],
    seen: tuple[int, int],
    start: Callable[[Images], Sample] = lambda images: images,
    num_resamples: int = 1,
) -> Iterator[Canvas]:
    """For each batch what is known at `size`; blank where nothing is. `seen` is the size that the network works at."""
    hole = resize_mask(mask, seen)
    for picture in pictures:
        if bool(hole.all()):
            yield BLANK
        else:
            yield Canvas(picture=start(resize_known(picture, mask, size)), mask=hole, num_resamples=num_resamples)
