"""Draw variations of pictures: the decoder draws what CLIP sees in a picture, from fresh noise or the picture's own."""

from collections.abc import Sequence
from typing import Annotated, Any, Unpack

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
)
from unclip.pipelines.job import begin
from unclip.pipelines.model import Model
from unclip.pipelines.options import DrawOptions, NumImages, Option, task
from unclip.pipelines.result import Result
from unclip.pipelines.settings import check_prompts
from unclip.shapes import Sample


@task()
def image_variations(
    model: Model,
    images: Annotated[Picture | Sequence[Picture], Option("The picture to vary.", "picture")],
    num_images: NumImages = 1,
    *,
    eta: Annotated[
        float | None,
        Option(
            "Begin at the picture's own noise: 0 gives it back, up to 1 varies it.",
            least=0,
            most=1,
            meaning="0 reconstructs the picture, 1 keeps only what CLIP saw",
        ),
    ] = None,
    exact: Annotated[bool, Option("With `eta`: upsamplers begin at its noise too.")] = False,
    prompt: Annotated[str | None, Option("A text to lead to.")] = None,
    text_weight: Annotated[
        float,
        Option(
            "How far to it: 0 is the picture alone, 1 the text.",
            least=0,
            most=1,
            meaning="0 is the picture alone, 1 the prompt",
        ),
    ] = 0.5,
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
    one that the prior samples, and a decoder that reads text gets the prompt. Without one the prior is not used.

    Everything else, also seeds, noise and errors, is as for `text_to_image`. Raises `InputError` also for `exact`
    without `eta`, and for a sampler other than ddim where noise is found.
    """
    if exact and eta is None:
        raise InputError("exact=True goes back to the noise of the picture, so it needs eta; 0 reconstructs.")
    pictures = open_pictures(images)
    prompts = None if prompt is None else check_prompts(prompt) * len(pictures)
    # Stages that begin at the noise of the picture.
    inverted: dict[str, dict[str, Any]] = {}
    if eta is not None:
        inverted["decoder"] = {**INVERTIBLE, "eta": eta}
        upsamplers = [stage.name for stage in model.upsampler_stages.values()] if exact else []
        inverted |= {name: {**INVERTIBLE_UPSAMPLER, "eta": eta} for name in upsamplers}
    count, has_text = len(pictures), prompts is not None
    job = begin(model, options, num_inputs=count, num_images=num_images, uses_prior=has_text, defaults=inverted)
    check_invertible(job, [stage for stage in inverted if stage in job.settings])
    if eta is not None:
        pictures = [cut(picture, job.chain.size[::-1]) for picture in pictures]

    features = encode(model, prompts or [""] * count, pictures)
    embeddings = [features.pictures[batch.rows] for batch in job.batches]
    if prompts is not None:
        of_prompt = job.sample_prior(features, model.num_candidates)
        embeddings = [slerp(*ends, text_weight) for ends in zip(embeddings, of_prompt, strict=True)]
    x_T: dict[str, Sample] = {}
    if eta is not None:
        condition = features.condition.without_text(count)
        x_T["decoder"] = invert_pictures(job, pictures, features.pictures, condition)
    if exact:
        x_T |= invert_upsamplers(job, pictures)
    drawn = job.draw(embeddings, features.condition, starts_from_noise(job, x_T))
    settings: dict[str, Any] = {} if eta is None else {"eta": float(eta), "exact": exact}
    if prompts is not None:
        settings |= {"text_weight": float(text_weight), "num_candidates": model.num_candidates}
    return job.result(drawn, embeddings, features.cut, prompts, **settings)
