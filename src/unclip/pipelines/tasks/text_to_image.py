"""Best of n: the pictures that CLIP finds nearest to their text. Knows CLIP and a job; not how pictures are drawn."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from unclip.clip import TextFeatures
from unclip.errors import InputError
from unclip.images import to_pil
from unclip.pipelines.features import encode
from unclip.pipelines.job import Job, begin, check_negative, count_candidates
from unclip.pipelines.model import Model
from unclip.pipelines.options import DrawOptions
from unclip.pipelines.result import Result
from unclip.pipelines.settings import check_count, check_prompts


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
    kept = job.select(places)
    embeddings, images = (kept.split(torch.cat(values)[places]) for values in (embeddings, images))
    return Best(kept, embeddings, images, [round(scores[place], 4) for place in places])


def _scores(job: Job, text: TextFeatures, images: list[Tensor]) -> list[float]:
    clip, scores = job.model.need_clip, list[float]()
    with job.model.resident(clip):
        for index, (batch, pictures) in enumerate(zip(job.batches, images, strict=True)):
            seen = clip.encode_pictures(to_pil(pictures))
            scores += F.cosine_similarity(seen, text.embedding[batch.rows]).tolist()
            job.progress("clip", index + 1, len(job.batches))
    return scores


@torch.no_grad()
def text_to_image(
    model: Model,
    prompts: str | Sequence[str],
    num_images: int = 1,
    *,
    num_candidates: int | None = None,
    best_of: int | None = None,
    negative_prompt: str = "",
    **options: Unpack[DrawOptions],
) -> Result:
    """Draw `num_images` pictures of each prompt, in the order of the prompts; `options` are `DrawOptions`.

    Image k of every prompt has the seed `seed` + k (a random one where `seed` is None; a sequence has one for each
    picture, prompts first) and its own generator: it does not depend on `num_images` or on the other prompts. Noise is
    drawn in the order prior start, prior steps, decoder start, decoder steps, upsampler start, upsampler steps; all
    `num_candidates` image embeddings of a picture draw from its generator, and the one nearest to the text is drawn.

    With `best_of`, so many pictures of each prompt go through the decoder, CLIP compares them with the text, and
    the nearest `num_images` go on, best first; `settings["scores"]` has their cosines. Guidance leads away from
    `negative_prompt` in the prior, and in a decoder that reads text.

    A prompt longer than CLIP's context is drawn from its beginning; `Result.cut` holds the rest, and `settings["cut"]`
    the rest of every text that an encoder had to cut, the negative prompt too. Raises `InputError` for an empty prompt,
    a negative one that no guidance hears, and any setting that cannot be, before anything is drawn.
    """
    texts = check_prompts(prompts)
    drawn = num_images if best_of is None else check_best_of(model, best_of, num_images)
    job = begin(model, options, num_inputs=len(texts), num_images=drawn, uses_prior=True)
    check_negative(job, negative_prompt)
    candidates = count_candidates(model, num_candidates)
    told: dict[str, Any] = {"num_candidates": candidates, "negative_prompt": negative_prompt}
    features = encode(model, texts, negative_prompt=negative_prompt)
    embeddings = job.sample_prior(features, candidates)
    images = job.decode(embeddings, features.condition)
    if best_of is not None:
        job, embeddings, images, scores = keep_best(job, num_images, features.text, embeddings, images)
        told |= {"best_of": best_of, "scores": scores}
    return job.result(job.upsample(images), embeddings, features.cut, texts, **told)
