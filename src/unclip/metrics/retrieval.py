"""Whether CLIP finds the right concept in a picture."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from unclip.clip import TextImageEncoder
from unclip.errors import InputError
from unclip.metrics.clip import text_ranks

TEXT_BATCH = 256

# Batches may differ in size: the checker looks at one of them and would bind a name to it.
ImageBatch = Float[Tensor, "_ channels height width"]


class Retrieval(NamedTuple):
    """Shares in [0, 1] of pictures whose right concept is ranked first, or among the first five."""

    top1: float
    top5: float
    num_images: int


def retrieval(
    encoder: TextImageEncoder, batches: Iterable[ImageBatch], targets: Sequence[int], concepts: Sequence[str]
) -> Retrieval:
    """Rank all `concepts` by cosine similarity with each picture; `targets` number the right one of each picture.

    Raises `InputError` unless there is one target per picture.
    """
    ranks = concept_ranks(encoder, batches, targets, concepts)
    return Retrieval((ranks < 1).float().mean().item(), (ranks < 5).float().mean().item(), len(ranks))


@torch.inference_mode()
def concept_ranks(
    encoder: TextImageEncoder, batches: Iterable[ImageBatch], targets: Sequence[int], concepts: Sequence[str]
) -> Tensor:
    """Count the other concepts that are closer to each picture than its own: 0 is a hit. Raises like `retrieval`."""
    images = torch.cat([encoder.encode_image(batch) for batch in batches])
    if len(images) != len(targets):
        raise InputError(f"{len(images)} pictures but {len(targets)} targets; give one target for each picture.")
    starts = range(0, len(concepts), TEXT_BATCH)
    texts = torch.cat([encoder.encode_text(concepts[start : start + TEXT_BATCH]).embedding for start in starts])
    return text_ranks(images, texts, torch.tensor(list(targets)))
