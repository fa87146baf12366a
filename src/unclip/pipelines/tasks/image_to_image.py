"""Draw over pictures: noise is put on a picture, and the decoder draws over what is left of it (SDEdit)."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Unpack

from unclip.pictures import Picture, open_pictures
from unclip.pipelines.job import begin
from unclip.pipelines.model import Model
from unclip.pipelines.options import DrawOptions, NegativePrompt, NumImages, Option, task
from unclip.pipelines.result import Result
from unclip.pipelines.settings import check_prompts
from unclip.pipelines.stage import Start


@task()
def image_to_image(
    model: Model,
    images: Annotated[Picture | Sequence[Picture], Option("The picture to draw over.", "picture")],
    prompt: Annotated[str | None, Option("What to draw; without it, what CLIP sees in it.")] = None,
    num_images: NumImages = 1,
    *,
    strength: Annotated[
        float,
        Option(
            "Above 0, which keeps the picture, up to 1, which does not.",
            above=0,
            most=1,
            meaning="0.3 keeps most of a picture, 1 nothing",
        ),
    ] = 0.7,
    negative_prompt: NegativePrompt = "",
    **options: Unpack[DrawOptions],
) -> Result:
    """Draw `num_images` pictures over each picture, of `prompt` or, without one, of what CLIP sees in it (SDEdit).

    `images` are as for `image_variations`, cut to the shape that is drawn. `strength` in (0, 1] is the share of the
    way to noise that a picture is taken, at the decoder's size, before it is drawn again, and about the share of
    the decoder's steps that are made: little keeps it, 1 keeps nothing and draws what `text_to_image` (without a
    prompt `image_variations`) draws of the same seed. Everything else, `negative_prompt` too, is as in those tasks.
    """
    pictures = open_pictures(images)
    prompts = None if prompt is None else check_prompts(prompt) * len(pictures)
    count, has_text = len(pictures), prompts is not None
    job = begin(
        model, options, num_inputs=count, num_images=num_images, uses_prior=has_text, negative_prompt=negative_prompt
    )
    embeddings, features = job.embed(prompts, pictures, negative_prompt)

    # A generator, since pictures become latents by weights that are in memory only while the decoder runs.
    def starts() -> Iterator[Start]:
        for batch in job.batches:
            pixels = job.pixels(pictures, batch.rows, job.chain.sizes[0])
            yield Start(picture=model.need_decoder.encode(pixels), strength=strength)

    drawn = job.draw(embeddings, features.condition, {"decoder": starts()})
    settings: dict[str, Any] = {"strength": float(strength), "negative_prompt": negative_prompt}
    settings |= {"num_candidates": model.num_candidates} if prompts else {}
    return job.result(drawn, embeddings, features.cut, prompts, **settings)
