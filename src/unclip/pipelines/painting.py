"""Painting what is missing in a window, through every stage of a job. Knows stages; not where the window lies."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from PIL import Image
from torch import Tensor

from unclip.images import from_pil, resize
from unclip.pipelines.canvas import BLANK, Canvas
from unclip.pipelines.conditioning import Condition
from unclip.pipelines.features import encode
from unclip.pipelines.job import Job
from unclip.pipelines.masks import Mask, join, resize_known, resize_mask
from unclip.shapes import Images, Sample

__all__ = ["FEATHER", "NUM_RESAMPLES", "describe", "embed", "paint"]

FEATHER = 4
NUM_RESAMPLES = 1


def embed(job: Job, prompt: str | None, picture: Image.Image) -> tuple[list[Tensor], Condition]:
    """Image embeddings for each batch, the prior's of a prompt or else CLIP's, and what decoders read besides."""
    if prompt is not None:
        features = encode(job.model, [prompt])
        return job.imagine(features, job.model.num_candidates), features.condition
    features = encode(job.model, [""], [picture])
    return [features.pictures[batch.rows] for batch in job.batches], features.condition


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
    pictures, mask = [from_pil(batch) for batch in windows], (from_pil([known])[:, :1] < 0.0).float()
    decoder, (height, width) = job.model.need_decoder, job.chain.sizes[0]
    latents = height // decoder.downsampling, width // decoder.downsampling

    def start(images: Images) -> Sample:
        return decoder.start(images.to(job.model.device))

    at_decoder = _canvases(pictures, mask, (height, width), resize_mask(mask, latents), num_resamples, start)
    later = {
        stage.name: _canvases(pictures, mask, size, resize_mask(mask, size))
        for stage, size in zip(job.chain.upsamplers, job.chain.sizes[1:], strict=True)
    }
    drawn = job.enlarge(job.decode(embeddings, condition, at_decoder), later)
    at_home = (resize(images.float().cpu(), (known.height, known.width)).clamp(-1.0, 1.0) for images in drawn)
    return [join(picture, images, mask, feather) for picture, images in zip(pictures, at_home, strict=True)]


def _canvases(
    pictures: list[Tensor],
    mask: Mask,
    size: tuple[int, int],
    hole: Mask,
    num_resamples: int = 1,
    start: Callable[[Images], Sample] = lambda images: images,
) -> Iterator[Canvas]:
    """For each batch what is known at (height, width); blank where nothing is. `hole` is the mask for the network."""
    for picture in pictures:
        if bool(hole.all()):
            yield BLANK
        else:
            yield Canvas(picture=start(resize_known(picture, mask, size)), mask=hole, num_resamples=num_resamples)
