"""From image embeddings to pictures, whatever made the embeddings. Knows decoder and upsamplers; no prior."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import torch
from PIL import Image
from torch import Tensor

from unclip.clip import TextFeatures
from unclip.diffusion import SamplerStep
from unclip.pipelines.conditioning import Condition
from unclip.pipelines.model import Encoder, Model
from unclip.pipelines.sampling import select_text
from unclip.pipelines.settings import StageSettings, check_count
from unclip.pipelines.upsampler_stage import UpsamplerStage
from unclip.runtime import NoiseSource
from unclip.shapes import Embeddings

__all__ = [
    "Batch",
    "Progress",
    "describe",
    "draw",
    "encode_empty_image",
    "encode_pictures",
    "encode_prompts",
    "in_decoders_words",
    "make_batches",
    "run_steps",
    "silent",
]

T = TypeVar("T")
Progress = Callable[[str, int, int], None]
"""Called with the stage, the steps done (from 1) and the steps in all, counted over all pictures."""

# Pictures that go through a network together. One on a CPU: bits then do not depend on how many are asked for.
BATCH_SIZE = {"cpu": 1}
DEFAULT_BATCH_SIZE = 8


class Batch(NamedTuple):
    """Pictures that are drawn together: the inputs that they are of, and the noise of each."""

    rows: list[int]
    noise: NoiseSource


def make_batches(model: Model, num_inputs: int, seeds: list[int], batch_size: int | None) -> list[Batch]:
    """One picture for each input and each seed, inputs first.

    Without a `batch_size` the device decides. Raises `InputError` for one below 1.
    """
    default = BATCH_SIZE.get(model.device.type, DEFAULT_BATCH_SIZE)
    size = default if batch_size is None else check_count("batch_size", batch_size)
    pictures = [(row, seed) for row in range(num_inputs) for seed in seeds]
    chunks = [pictures[first : first + size] for first in range(0, len(pictures), size)]
    return [Batch([row for row, _ in chunk], NoiseSource.from_seeds([seed for _, seed in chunk])) for chunk in chunks]


def encode_empty_image(model: Model) -> Embeddings | None:
    """CLIP's embedding of nothing, where the decoder is guided away from it."""
    return model.need_clip.encode_empty_image() if model.need_decoder.needs_null_image else None


def in_decoders_words(model: Model, prompts: list[str], condition: Condition) -> Condition:
    """The condition with the texts that the decoder reads, where those are not CLIP's."""
    encoder = model.text_encoder
    if encoder is None:
        return condition
    with model.resident(encoder):
        return condition._replace(text=encode_prompts(model, encoder, prompts), null=encoder.encode_text([""]))


def draw(
    model: Model,
    batches: list[Batch],
    embeddings: list[Tensor],
    condition: Condition,
    upsamplers: list[UpsamplerStage],
    settings: Mapping[str, StageSettings],
    report: Progress,
) -> list[Tensor]:
    """Pictures in [-1, 1] for the image embeddings of each batch, enlarged by `upsamplers` in turn."""
    decoder = model.need_decoder

    def steps(embedding: Tensor, batch: Batch) -> Iterator[SamplerStep]:
        told = condition._replace(text=select_text(condition.text, batch.rows))
        return decoder.steps(embedding, told, batch.noise, settings["decoder"])

    with model.resident(decoder):
        samplers = (steps(embedding, batch) for embedding, batch in zip(embeddings, batches, strict=True))
        images = [decoder.finish(x_0) for x_0 in run_steps("decoder", samplers, len(batches), report)]
    for upsampler in upsamplers:
        with model.resident(upsampler):
            images = _enlarge(upsampler, batches, images, settings[upsampler.name], report)
    return images


def run_steps(stage: str, samplers: Iterable[Iterator[SamplerStep]], count: int, report: Progress) -> list[Tensor]:
    """The results of `count` samplers run one after the other, steps reported over all of them."""
    results = []
    for number, steps in enumerate(samplers):
        for step in steps:
            report(stage, number * step.num_steps + step.index + 1, count * step.num_steps)
        results.append(step.x_t)
    return results


def describe(images: list[Tensor], settings: Mapping[str, StageSettings]) -> dict[str, Any]:
    """Size and settings of what was drawn, ready for JSON."""
    stages = {stage: value.model_dump(mode="json") for stage, value in settings.items()}
    return {"image_size": images[0].shape[-1], **stages}


def silent(stage: str, done: int, total: int) -> None:
    """No progress is shown."""


def _enlarge(
    upsampler: UpsamplerStage, batches: list[Batch], images: list[Tensor], settings: StageSettings, report: Progress
) -> list[Tensor]:
    pairs = zip(images, batches, strict=True)
    steps = (upsampler.steps(low_res, batch.noise, settings) for low_res, batch in pairs)
    return [large.clamp(-1.0, 1.0) for large in run_steps(upsampler.name, steps, len(batches), report)]


def encode_prompts(model: Model, encoder: Encoder, prompts: list[str]) -> TextFeatures:
    """Features of prompts, a few at a time."""
    parts = [encoder.encode_text(chunk) for chunk in _chunks(model, prompts)]
    return TextFeatures(*(torch.cat(values) for values in zip(*parts, strict=True)))


def encode_pictures(model: Model, pictures: list[Image.Image]) -> Embeddings:
    """CLIP's embeddings of pictures, a few at a time."""
    return torch.cat([model.need_clip.encode_pictures(chunk) for chunk in _chunks(model, pictures)])


def _chunks(model: Model, items: list[T]) -> list[list[T]]:
    """As many as go through a network together."""
    size = BATCH_SIZE.get(model.device.type, DEFAULT_BATCH_SIZE)
    return [items[first : first + size] for first in range(0, len(items), size)]
