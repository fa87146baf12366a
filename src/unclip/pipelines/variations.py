"""Variations of a picture: CLIP looks at it, the decoder draws what CLIP saw, from fresh noise or from the picture's.

Knows the stages of a model; not how networks or samplers work.
"""

from collections.abc import Sequence
from typing import Any, Unpack

import torch

from unclip.diffusion import slerp
from unclip.images import cut
from unclip.pictures import Picture, open_pictures
from unclip.pipelines.features import encode
from unclip.pipelines.inversion import check_invertible, invert_stages, invertible, start_from
from unclip.pipelines.job import begin
from unclip.pipelines.model import Model
from unclip.pipelines.options import DrawOptions
from unclip.pipelines.result import Result
from unclip.pipelines.settings import check_fraction, check_prompts

__all__ = ["image_variations"]


@torch.inference_mode()
def image_variations(
    model: Model,
    images: Picture | Sequence[Picture],
    num_images: int = 1,
    *,
    eta: float | None = None,
    prompt: str | None = None,
    text_weight: float = 0.5,
    **options: Unpack[DrawOptions],
) -> Result:
    """Draw `num_images` variations of each picture: others of which CLIP would say the same (paper, section 3.1).

    `images` are PIL pictures or paths of any shape; CLIP's `resize` says how they become square. The decoder draws what
    CLIP saw, from fresh noise.

    With `eta` in [0, 1] it is from the noise that leads back to the picture, which is first cut to the shape that is
    drawn: DDIM climbs from it to the x_T of the decoder and of each upsampler, and back with that eta. 0 reconstructs
    the picture, and seeds do not matter; the more, the less is left of it but what CLIP saw. Unless `options` say
    otherwise, the decoder then makes 50 steps without guidance, and an upsampler 10.

    With `prompt`, the image embedding is the point at `text_weight` in [0, 1] of the way (slerp) from the picture's to
    what the prior imagines, and a decoder that reads text is told the prompt. Without one the prior is not used.

    All else, seeds, noise and errors too, is as for `text_to_image`. Raises `InputError` also for a sampler other than
    ddim beside `eta`.
    """
    pictures, told = open_pictures(images), _told(model, eta, prompt, text_weight)
    prompts = None if prompt is None else check_prompts(prompt) * len(pictures)
    job = begin(
        model,
        options,
        num_inputs=len(pictures),
        num_images=num_images,
        uses_prior=prompts is not None,
        defaults=None if eta is None else invertible(model, eta),
    )
    if eta is not None:
        check_invertible(job)
        pictures = [cut(picture, job.chain.size[::-1]) for picture in pictures]
    features = encode(model, prompts or [""] * len(pictures), pictures)
    embeddings = [features.pictures[batch.rows] for batch in job.batches]
    if prompts is not None:
        imagined = job.imagine(features, model.num_candidates)
        embeddings = [slerp(*ends, text_weight) for ends in zip(embeddings, imagined, strict=True)]
    x_T = {} if eta is None else invert_stages(job, pictures, features)
    return job.result(job.draw(embeddings, features.condition, start_from(job, x_T)), embeddings, prompts, **told)


def _told(model: Model, eta: float | None, prompt: str | None, text_weight: float) -> dict[str, Any]:
    """The task's own settings, checked; those that nobody asked for are left out."""
    told: dict[str, Any] = {}
    if eta is not None:
        told["eta"] = check_fraction("eta", eta, "0 reconstructs the picture, 1 keeps only what it shows")
    check_fraction("text_weight", text_weight, "0 is the picture alone, 1 the prompt")
    return told if prompt is None else {**told, "text_weight": text_weight, "num_candidates": model.num_candidates}
