"""Best of n: the pictures that CLIP finds nearest to their text. Knows CLIP and a job; not how pictures are drawn."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from unclip.clip import TextFeatures
from unclip.errors import InputError
from unclip.images import to_pil
from unclip.pipelines.job import Job
from unclip.pipelines.model import Model
from unclip.pipelines.settings import check_count

__all__ = ["Best", "check_best_of", "keep_best"]


class Best(NamedTuple):
    """A job that goes on with the best pictures of each text, best first, and what there is of these."""

    job: Job
    embeddings: list[Tensor]
    images: list[Tensor]
    scores: list[float]
    """The cosine of each picture's embedding and its text's."""


def check_best_of(model: Model, best_of: int, num_images: int) -> int:
    """`best_of` when so many pictures can be drawn and judged; raises `InputError` otherwise."""
    if check_count("best_of", best_of) < check_count("num_images", num_images):
        raise InputError(f"best_of={best_of} pictures are too few to keep {num_images} of; draw at least that many.")
    model.need_clip.clip.need_vision()
    return best_of


# Reranking by CLIP, Zero-Shot Text-to-Image Generation section 2.6.
def keep_best(job: Job, num_images: int, text: TextFeatures, embeddings: list[Tensor], images: list[Tensor]) -> Best:
    """The `num_images` pictures of each text that are nearest to it."""
    scores, rows, places = _scores(job, text, images), job.pictures.rows, []
    for row in dict.fromkeys(rows):
        own = [place for place in range(len(rows)) if rows[place] == row]
        places += sorted(own, key=lambda place: -scores[place])[:num_images]
    kept = job.keep(places)
    embeddings, images = (kept.split(torch.cat(values)[places]) for values in (embeddings, images))
    return Best(kept, embeddings, images, [round(scores[place], 4) for place in places])


def _scores(job: Job, text: TextFeatures, images: list[Tensor]) -> list[float]:
    clip, scores = job.model.need_clip, list[float]()
    with job.model.resident(clip):
        for index, (batch, pictures) in enumerate(zip(job.batches, images, strict=True)):
            seen = clip.encode_pictures(to_pil(pictures))
            scores += F.cosine_similarity(seen, text.embedding[batch.rows]).tolist()
            job.report("clip", index + 1, len(job.batches))
    return scores
