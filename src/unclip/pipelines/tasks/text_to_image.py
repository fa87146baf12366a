"""Draw pictures of prompts, and of several tries the ones that CLIP finds nearest to their prompt."""

from collections.abc import Sequence
from typing import Annotated, Any, Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from unclip.clip import TextFeatures
from unclip.errors import InputError
from unclip.images import to_pil
from unclip.pipelines.job import Job, begin, count_candidates
from unclip.pipelines.model import Model
from unclip.pipelines.options import DrawOptions, NegativePrompt, NumCandidates, NumImages, Option, Prompts, task
from unclip.pipelines.result import Result
from unclip.pipelines.settings import check_prompts


@task()
def text_to_image(
    model: Model,
    prompts: Prompts,
    num_images: NumImages = 1,
    *,
    num_candidates: NumCandidates = None,
    best_of: Annotated[int | None, Option("Pictures to draw, of which CLIP keeps the nearest.", least=1)] = None,
    negative_prompt: NegativePrompt = "",
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
    a negative one that no guided stage reads, and any invalid setting, before anything is drawn.
    """
    texts, num_drawn = check_prompts(prompts), num_images
    if best_of is not None:
        model.need_clip.clip.need_vision()
        if best_of < num_images:
            raise InputError(f"best_of={best_of} pictures are too few to keep {num_images} of; draw as many or more.")
        num_drawn = best_of
    count = len(texts)
    job = begin(
        model, options, num_inputs=count, num_images=num_drawn, texts=texts, uses_prior=True,
        negative_prompt=negative_prompt,
    )  # fmt: skip
    candidates = count_candidates(model, num_candidates)
    settings: dict[str, Any] = {"num_candidates": candidates, "negative_prompt": negative_prompt}

    embeddings, features = job.embed(texts, (), negative_prompt, candidates)
    images = job.decode(embeddings, features.condition)
    if best_of is not None:
        places, scores = rank_by_clip(job, num_images, features.text, images)
        job = job.with_pictures(job.pictures.select(places))
        embeddings, images = (job.split(torch.cat(values)[places]) for values in (embeddings, images))
        settings |= {"best_of": best_of, "scores": scores}
    return job.result(job.upsample(images), embeddings, features.cut, texts, **settings)


# Reranking by CLIP, Zero-Shot Text-to-Image Generation section 2.6.
def rank_by_clip(
    job: Job, num_images: int, text: TextFeatures, images: Sequence[Tensor]
) -> tuple[list[int], list[float]]:
    """Rank the pictures of each text by the cosine of both embeddings.

    Returns the places of the `num_images` best of each text, best first, and their cosines.
    """
    clip, scores = job.model.need_clip, list[float]()
    with job.model.resident(clip):
        for index, (batch, pictures) in enumerate(zip(job.batches, images, strict=True), start=1):
            embeddings = clip.encode_pictures(to_pil(pictures))
            scores += F.cosine_similarity(embeddings, text.embedding[batch.rows]).tolist()
            job.progress("clip", index, len(job.batches))
    rows, places = job.pictures.rows, list[int]()
    for row in dict.fromkeys(rows):
        of_text = [place for place in range(len(rows)) if rows[place] == row]
        places += sorted(of_text, key=lambda place: -scores[place])[:num_images]
    return places, [round(scores[place], 4) for place in places]
