"""Text to image: CLIP reads, the prior imagines an embedding, the decoder draws it, the upsamplers sharpen it.

Knows the stages of a model; not how networks or samplers work.
"""

from collections.abc import Sequence
from typing import Any, Unpack

import torch

from unclip.pipelines.best_of import check_best_of, keep_best
from unclip.pipelines.features import encode
from unclip.pipelines.job import begin, count_candidates
from unclip.pipelines.model import Model
from unclip.pipelines.negative import check_negative
from unclip.pipelines.options import DrawOptions
from unclip.pipelines.result import Result
from unclip.pipelines.settings import check_prompts

__all__ = ["text_to_image"]


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
    embeddings = job.imagine(features, candidates)
    images = job.decode(embeddings, features.condition)
    if best_of is not None:
        job, embeddings, images, scores = keep_best(job, num_images, features.text, embeddings, images)
        told |= {"best_of": best_of, "scores": scores}
    return job.result(job.enlarge(images), embeddings, features.cut, texts, **told)
