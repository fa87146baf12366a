"""Image to image: noise is put on a picture, and the decoder draws over what is left of it (SDEdit).

Knows the stages of a model; not how networks or samplers work.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Unpack

import torch
from PIL import Image

from unclip.errors import InputError
from unclip.pictures import Picture, open_pictures
from unclip.pipelines.features import encode
from unclip.pipelines.job import Job, begin, check_negative
from unclip.pipelines.model import Model
from unclip.pipelines.options import DrawOptions
from unclip.pipelines.result import Result
from unclip.pipelines.sampling import Start
from unclip.pipelines.settings import check_prompts


@torch.no_grad()
def image_to_image(
    model: Model,
    images: Picture | Sequence[Picture],
    prompt: str | None = None,
    num_images: int = 1,
    *,
    strength: float = 0.7,
    negative_prompt: str = "",
    **options: Unpack[DrawOptions],
) -> Result:
    """Draw `num_images` pictures over each picture, of `prompt` or, without one, of what CLIP sees in it (SDEdit).

    `images` are as for `image_variations`, cut to the shape that is drawn. `strength` in (0, 1] is the share of the
    way to noise that a picture is taken, at the decoder's size, before it is drawn again, and about the share of
    the decoder's steps that are made: little keeps it, 1 keeps nothing and draws what `text_to_image` (without a
    prompt `image_variations`) draws of the same seed. All else is as there; `negative_prompt` too.
    """
    pictures = open_pictures(images)
    prompts = None if prompt is None else check_prompts(prompt) * len(pictures)
    job = begin(model, options, num_inputs=len(pictures), num_images=num_images, uses_prior=prompts is not None)
    check_negative(job, negative_prompt)
    told: dict[str, Any] = {"strength": _check_strength(strength), "negative_prompt": negative_prompt}
    if prompts is None:
        features = encode(model, [""] * len(pictures), pictures, negative_prompt)
        embeddings = [features.pictures[batch.rows] for batch in job.batches]
    else:
        features = encode(model, prompts, negative_prompt=negative_prompt)
        embeddings = job.sample_prior(features, model.num_candidates)
        told["num_candidates"] = model.num_candidates
    small = job.decode(embeddings, features.condition, _starts(job, pictures, strength))
    return job.result(job.upsample(small), embeddings, features.cut, prompts, **told)


# Made as they are asked for, when the decoder's weights are in memory: pictures become latents by some of them.
def _starts(job: Job, pictures: list[Image.Image], strength: float) -> Iterator[Start]:
    for batch in job.batches:
        seen = job.pixels(pictures, batch.rows, job.chain.sizes[0])
        yield Start(picture=job.model.need_decoder.encode(seen), strength=strength)


def _check_strength(strength: float) -> float:
    if isinstance(strength, bool) or not isinstance(strength, int | float) or not 0.0 < strength <= 1.0:
        raise InputError(
            f"strength={strength!r} is not possible; give a number above 0 and up to 1: 0.3 keeps most of a picture, "
            "1 nothing."
        )
    return float(strength)
