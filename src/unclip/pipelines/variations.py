"""Variations of a picture: CLIP looks at it, the decoder draws what CLIP saw. Knows the stages of a model, no prior."""

from collections.abc import Sequence

import torch

from unclip.pictures import Picture, open_pictures
from unclip.pipelines.conditioning import Condition
from unclip.pipelines.drawing import (
    Progress,
    describe,
    draw,
    encode_empty_image,
    encode_pictures,
    in_decoders_words,
    make_batches,
    silent,
)
from unclip.pipelines.model import Model, Stage
from unclip.pipelines.result import OutputType, Result, check_output_type, convert
from unclip.pipelines.sampling import expand_text
from unclip.pipelines.settings import PerStage, image_seeds

__all__ = ["image_variations", "open_pictures"]


@torch.inference_mode()
def image_variations(
    model: Model,
    images: Picture | Sequence[Picture],
    num_images: int = 1,
    *,
    seed: int | None = None,
    image_size: int | None = None,
    num_steps: PerStage[int] = None,
    guidance_scale: PerStage[float] = None,
    sampler: PerStage[str] = None,
    output_type: OutputType = "pil",
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Result:
    """Draw `num_images` variations of each picture; see `UnClip.image_variations` for the arguments."""
    pictures = open_pictures(images)
    check_output_type(output_type)
    clip, upsamplers = model.need_clip, model.upsamplers_to(image_size)
    stages: dict[str, Stage] = {"decoder": model.need_decoder, **{stage.name: stage for stage in upsamplers}}
    settings = model.settle(stages, num_steps=num_steps, guidance_scale=guidance_scale, sampler=sampler)
    seeds, empty = image_seeds(seed, num_images), [""] * len(pictures)

    with model.resident(clip):
        seen, null = encode_pictures(model, pictures), clip.encode_text([""])
        condition = Condition(expand_text(null, len(pictures)), null, encode_empty_image(model))
    batches = make_batches(model, len(pictures), seeds, batch_size)
    embeddings = [model.need_decoder.from_clip(seen[batch.rows]) for batch in batches]
    condition = in_decoders_words(model, empty, condition)
    drawn = draw(model, batches, embeddings, condition, upsamplers, settings, progress or silent)

    count = len(pictures) * num_images
    return Result(
        images=[picture for batch in drawn for picture in convert(batch, output_type)],
        prompts=[""] * count,
        seeds=seeds * len(pictures),
        image_embeddings=torch.cat(embeddings).clone(),
        settings=describe(drawn, settings),
        cut=[""] * count,
    )
