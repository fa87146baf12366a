"""Text to image: CLIP reads, the prior imagines an embedding, the decoder draws it, the upsamplers sharpen it.

Knows the stages of a model; not how networks or samplers work.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unclip.clip import TextFeatures
from unclip.diffusion import SamplerStep
from unclip.pipelines.model import Model
from unclip.pipelines.result import OutputType, Result, check_output_type, convert
from unclip.pipelines.sampling import select_text
from unclip.pipelines.settings import PerStage, StageSettings, check_count, check_prompts, image_seeds
from unclip.pipelines.upsampler_stage import UpsamplerStage
from unclip.runtime import NoiseSource

__all__ = ["Progress", "text_to_image"]

Progress = Callable[[str, int, int], None]
"""Called with the stage, the steps done (from 1) and the steps in all, counted over all pictures."""

# Pictures that go through a network together. One on a CPU: bits then do not depend on how many are asked for.
BATCH_SIZE = {"cpu": 1}
DEFAULT_BATCH_SIZE = 8


class Batch(NamedTuple):
    """Pictures that are drawn together: the text of each, and the noise of each."""

    text: TextFeatures
    noise: NoiseSource


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
    upsamplers = model.upsamplers_to(image_size)
    settings = model.settle(upsamplers, num_steps=num_steps, guidance_scale=guidance_scale, sampler=sampler)
    candidates = model.num_candidates if num_candidates is None else check_count("num_candidates", num_candidates)
    seeds = image_seeds(seed, num_images)
    size = default_batch_size(model) if batch_size is None else check_count("batch_size", batch_size)
    report = progress or _silent

    batches = _batches(model, texts, seeds, size)
    null = model.clip.encode_text([""])
    embeddings = _imagine(model, batches, null, settings, candidates, report)
    images = _draw(model, batches, embeddings, null, settings, report)
    for upsampler in upsamplers:
        images = _sharpen(upsampler, batches, images, settings[upsampler.name], report)

    return Result(
        images=[picture for batch in images for picture in convert(batch, output_type)],
        prompts=[text for text in texts for _ in seeds],
        seeds=seeds * len(texts),
        image_embeddings=torch.cat(embeddings).clone(),
        settings=_describe(images[0].shape[-1], candidates, settings),
        cut=[cut for cut in model.clip.cut_text(texts) for _ in seeds],
    )


def default_batch_size(model: Model) -> int:
    """Pictures that go through a network together where a caller does not say."""
    return BATCH_SIZE.get(model.device.type, DEFAULT_BATCH_SIZE)


def _batches(model: Model, texts: list[str], seeds: list[int], size: int) -> list[Batch]:
    parts = [model.clip.encode_text(texts[first : first + size]) for first in range(0, len(texts), size)]
    features = TextFeatures(*(torch.cat(values) for values in zip(*parts, strict=True)))
    pictures = [(row, seed) for row in range(len(texts)) for seed in seeds]
    chunks = [pictures[first : first + size] for first in range(0, len(pictures), size)]
    return [
        Batch(select_text(features, [row for row, _ in chunk]), NoiseSource.from_seeds([seed for _, seed in chunk]))
        for chunk in chunks
    ]


def _imagine(
    model: Model,
    batches: list[Batch],
    null: TextFeatures,
    settings: Mapping[str, StageSettings],
    candidates: int,
    report: Progress,
) -> list[Tensor]:
    """An image embedding for each text."""
    steps = (model.prior.steps(batch.text, null, batch.noise, settings["prior"], candidates) for batch in batches)
    results = _run("prior", steps, len(batches), report)
    return [model.prior.finish(x_0, batch.text) for x_0, batch in zip(results, batches, strict=True)]


def _draw(
    model: Model,
    batches: list[Batch],
    embeddings: list[Tensor],
    null: TextFeatures,
    settings: Mapping[str, StageSettings],
    report: Progress,
) -> list[Tensor]:
    """A picture at the decoder's size for each image embedding."""
    pairs = zip(embeddings, batches, strict=True)
    steps = (model.decoder.steps(z, batch.text, null, batch.noise, settings["decoder"]) for z, batch in pairs)
    return [images.clamp(-1.0, 1.0) for images in _run("decoder", steps, len(batches), report)]


def _sharpen(
    upsampler: UpsamplerStage, batches: list[Batch], images: list[Tensor], settings: StageSettings, report: Progress
) -> list[Tensor]:
    """A larger picture for each picture."""
    pairs = zip(images, batches, strict=True)
    steps = (upsampler.steps(low_res, batch.noise, settings) for low_res, batch in pairs)
    return [large.clamp(-1.0, 1.0) for large in _run(upsampler.name, steps, len(batches), report)]


def _run(stage: str, samplers: Iterable[Iterator[SamplerStep]], count: int, report: Progress) -> list[Tensor]:
    """The results of `count` samplers run one after the other, steps reported over all of them."""
    results = []
    for number, steps in enumerate(samplers):
        for step in steps:
            report(stage, number * step.num_steps + step.index + 1, count * step.num_steps)
        results.append(step.x_t)
    return results


def _describe(image_size: int, candidates: int, settings: Mapping[str, StageSettings]) -> dict[str, Any]:
    stages = {stage: value.model_dump(mode="json") for stage, value in settings.items()}
    return {"image_size": image_size, "num_candidates": candidates, **stages}


def _silent(stage: str, done: int, total: int) -> None:
    """No progress is shown."""
