"""Variations of a picture: CLIP looks at it, the decoder draws what CLIP saw, from fresh noise or from the picture's.

Knows the stages of a model; not how networks or samplers work.
"""

from collections.abc import Sequence
from typing import Any, Unpack

import torch

from unclip.diffusion import slerp
from unclip.errors import InputError
from unclip.images import cut
from unclip.pictures import Picture, open_pictures
from unclip.pipelines.features import encode
from unclip.pipelines.inversion import (
    INVERTIBLE,
    INVERTIBLE_UPSAMPLER,
    check_invertible,
    invert_pictures,
    invert_upsamplers,
    starts_from_noise,
    without_text,
)
from unclip.pipelines.job import begin
from unclip.pipelines.model import Model
from unclip.pipelines.options import DrawOptions
from unclip.pipelines.result import Result
from unclip.pipelines.settings import check_fraction, check_prompts
from unclip.shapes import Sample


@torch.no_grad()
def image_variations(
    model: Model,
    images: Picture | Sequence[Picture],
    num_images: int = 1,
    *,
    eta: float | None = None,
    exact: bool = False,
    prompt: str | None = None,
    text_weight: float = 0.5,
    **options: Unpack[DrawOptions],
) -> Result:
    """Draw `num_images` variations of each picture: others of which CLIP would say the same (paper, section 3.1).

    `images` are PIL pictures or paths of any shape; CLIP's `resize` says how they become square. The decoder draws what
    CLIP saw, from fresh noise.

    With `eta` in [0, 1] it is from the noise that leads back to the picture, which is first cut to the shape that is
    drawn: DDIM climbs from it to x_T, and back with that eta. 0 reconstructs the picture at the decoder's size; the
    more, the less is left of it but what CLIP saw. Unless `options` say otherwise, both ways have 25 steps and no
    guidance. Upsamplers go on as ever; with `exact` they too begin at the noise that leads to the picture, in 10 steps,
    and with eta = 0 no seed matters.

    With `prompt`, the image embedding is the point at `text_weight` in [0, 1] of the way (slerp) from the picture's to
    what the prior imagines, and a decoder that reads text is told the prompt. Without one the prior is not used.

    All else, seeds, noise and errors too, is as for `text_to_image`. Raises `InputError` also for `exact` without
    `eta`, and for a sampler other than ddim where noise is found.
    """
    pictures, told = open_pictures(images), _told(model, eta, exact, prompt, text_weight)
    prompts = None if prompt is None else check_prompts(prompt) * len(pictures)
    defaults = _defaults(model, eta, exact)
    job = begin(
        model,
        options,
        num_inputs=len(pictures),
        num_images=num_images,
        uses_prior=prompts is not None,
        defaults=defaults,
    )
    check_invertible(job, [stage for stage in defaults if stage in job.settings])
    if eta is not None:
        pictures = [cut(picture, job.chain.size[::-1]) for picture in pictures]
    features = encode(model, prompts or [""] * len(pictures), pictures)
    embeddings = [features.pictures[batch.rows] for batch in job.batches]
    if prompts is not None:
        imagined = job.sample_prior(features, model.num_candidates)
        embeddings = [slerp(*ends, text_weight) for ends in zip(embeddings, imagined, strict=True)]
    x_T: dict[str, Sample] = {}
    if eta is not None:
        condition = without_text(features.condition, len(pictures))
        x_T["decoder"] = invert_pictures(job, pictures, features.pictures, condition)
    if exact:
        x_T |= invert_upsamplers(job, pictures)
    drawn = job.draw(embeddings, features.condition, starts_from_noise(job, x_T))
    return job.result(drawn, embeddings, features.cut, prompts, **told)


def _defaults(model: Model, eta: float | None, exact: bool) -> dict[str, dict[str, Any]]:
    """Settings of the stages that begin at the noise of the picture."""
    if eta is None:
        return {}
    upsamplers = [stage.name for stage in model.upsamplers.values()] if exact else []
    return {"decoder": {**INVERTIBLE, "eta": eta}} | {name: {**INVERTIBLE_UPSAMPLER, "eta": eta} for name in upsamplers}


def _told(model: Model, eta: float | None, exact: bool, prompt: str | None, text_weight: float) -> dict[str, Any]:
    """The task's own settings, checked; what nobody asked for is left out."""
    if exact and eta is None:
        raise InputError("exact=True goes back to the noise of the picture, so it needs eta; 0 reconstructs.")
    told: dict[str, Any] = {}
    if eta is not None:
        eta = check_fraction("eta", eta, "0 reconstructs the picture, 1 keeps only what CLIP saw")
        told = {"eta": eta, "exact": exact}
    weight = check_fraction("text_weight", text_weight, "0 is the picture alone, 1 the prompt")
    return told if prompt is None else {**told, "text_weight": weight, "num_candidates": model.num_candidates}
