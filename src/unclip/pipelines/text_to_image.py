"""Text to image: CLIP reads, the prior imagines an embedding, the decoder draws it, the upsamplers sharpen it.

Knows the stages of a model; not how networks or samplers work.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from unclip.clip import TextFeatures
from unclip.pipelines.conditioning import Condition
from unclip.pipelines.drawing import (
    Batch,
    Progress,
    describe,
    draw,
    encode_empty_image,
    encode_prompts,
    in_decoders_words,
    make_batches,
    run_steps,
    silent,
)
from unclip.pipelines.model import Model, Stage
from unclip.pipelines.prior_stage import PriorStage
from unclip.pipelines.result import OutputType, Result, check_output_type, convert
from unclip.pipelines.sampling import select_text
from unclip.pipelines.settings import PerStage, StageSettings, check_count, check_prompts, image_seeds

__all__ = ["text_to_image"]


@torch.inference_mode()
def text_to_image(
    model: Model,
    prompts: str | Sequence[str],
    num_images: int = 1,
    *,
    seed: int | None = None,
    image_size: int | None = None,
    num_steps: PerStage[int] = None,
    guidance_scale: PerStage[float] = None,
    sampler: PerStage[str] = None,
    num_candidates: int | None = None,
    output_type: OutputType = "pil",
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Result:
    """Draw `num_images` pictures of each prompt; see `UnClip.text_to_image` for the arguments."""
    texts = check_prompts(prompts)
    check_output_type(output_type)
    clip, prior, upsamplers = model.need_clip, model.need_prior, model.upsamplers_to(image_size)
    stages: dict[str, Stage] = {
        "prior": prior,
        "decoder": model.need_decoder,
        **{stage.name: stage for stage in upsamplers},
    }
    settings = model.settle(stages, num_steps=num_steps, guidance_scale=guidance_scale, sampler=sampler)
    candidates = model.num_candidates if num_candidates is None else check_count("num_candidates", num_candidates)
    seeds, report = image_seeds(seed, num_images), progress or silent

    with model.resident(clip):
        text, null = encode_prompts(model, clip, texts), clip.encode_text([""])
        condition = Condition(text, null, encode_empty_image(model))
    batches = make_batches(model, len(texts), seeds, batch_size)
    with model.resident(prior):
        embeddings = _imagine(prior, batches, text, null, settings["prior"], candidates, report)
    condition = in_decoders_words(model, texts, condition)
    images = draw(model, batches, embeddings, condition, upsamplers, settings, report)

    return Result(
        images=[picture for batch in images for picture in convert(batch, output_type)],
        prompts=[text for text in texts for _ in seeds],
        seeds=seeds * len(texts),
        image_embeddings=torch.cat(embeddings).clone(),
        settings={"num_candidates": candidates, **describe(images, settings)},
        cut=[cut for cut in clip.cut_text(texts) for _ in seeds],
    )


def _imagine(
    prior: PriorStage,
    batches: list[Batch],
    text: TextFeatures,
    null: TextFeatures,
    settings: StageSettings,
    candidates: int,
    report: Progress,
) -> list[Tensor]:
    """An image embedding for each picture."""
    texts = [select_text(text, batch.rows) for batch in batches]
    pairs = zip(texts, batches, strict=True)
    steps = (prior.steps(rows, null, batch.noise, settings, candidates) for rows, batch in pairs)
    results = run_steps("prior", steps, len(batches), report)
    return [prior.finish(x_0, rows) for x_0, rows in zip(results, texts, strict=True)]
