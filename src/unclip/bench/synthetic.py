"""Training tasks on made-up samples: the tasks' own losses and draws, without a data set. Knows tasks; no loop."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unclip.clip import ClipConfig
from unclip.data import Item
from unclip.errors import InputError
from unclip.runtime import seeded
from unclip.training import (
    Batch,
    ClipTaskConfig,
    DecoderTaskConfig,
    PriorTaskConfig,
    Request,
    Samples,
    Task,
    TrainConfig,
    UpsamplerTaskConfig,
)
from unclip.training.plan.cost import text_length
from unclip.training.task import SampleSet
from unclip.training.tasks import ClipTask, DecoderTask, PriorTask, UpsamplerTask
from unclip.training.tasks.clip import ClipSamples
from unclip.training.tasks.decoder import DecoderSamples
from unclip.training.tasks.prior import PriorSamples
from unclip.training.tasks.samples import Embeddings
from unclip.training.tasks.upsampler import UpsamplerSamples

NUM_SAMPLES = 64


def synthetic_task(config: TrainConfig, device: torch.device) -> Task:
    """The task of `config` on noise: pictures, embeddings and texts of full length, none computed by a CLIP."""
    task, seed = config.task, config.seed
    match task:
        case ClipTaskConfig(model=shape):
            pictures = NoisePictures((shape.image_size,))
            return ClipTask(task, seed, device, ClipSamples(pictures, NoiseTokens(shape), task), None)
        case PriorTaskConfig(model=shape):
            width = shape.text_dim or shape.embedding_dim
            texts = NoiseTexts(shape.text_embedding_dim or shape.embedding_dim, text_length(shape), width)
            table = _table(shape.embedding_dim)
            samples = PriorSamples(NoisePictures(()), table, texts, task)
            return PriorTask(task, seed, device, samples, table, None)
        case DecoderTaskConfig(model=decoder):
            words = NoiseTexts(decoder.embedding_dim, text_length(decoder), decoder.text_dim)
            pictures, table = NoisePictures((decoder.image_size,)), _table(decoder.embedding_dim)
            read = DecoderSamples(pictures, table, words if decoder.text_dim else None, task)
            return DecoderTask(task, seed, device, read, None)
        case UpsamplerTaskConfig(model=upsampler):
            pictures = NoisePictures((upsampler.image_size, upsampler.low_res_size))
            return UpsamplerTask(task, seed, device, UpsamplerSamples(pictures, task))


class Ready:
    """Samples whose first batch is kept and given again, as if others had fetched it ahead."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples
        self.batch: Batch | None = None

    @property
    def source(self) -> SampleSet:
        """That of the samples."""
        return self.samples.source

    def __call__(self, request: Request) -> Batch:
        """The first batch."""
        if self.batch is None:
            self.batch = self.samples(request)
        return self.batch


@dataclass(frozen=True)
class NoisePictures:
    """Pictures of noise, each with one caption; see `PictureSet`."""

    image_sizes: tuple[int, ...]

    @property
    def shard_sizes(self) -> list[int]:
        """One shard."""
        return [NUM_SAMPLES]

    @property
    def keys(self) -> Sequence[str]:
        """The numbers of the samples."""
        return [str(index) for index in range(NUM_SAMPLES)]

    def __len__(self) -> int:
        return NUM_SAMPLES

    def captions(self, index: int) -> tuple[str, ...]:
        """Nothing is said of any."""
        return ("",)

    def item(self, index: int) -> Item:
        """A picture of the number's own noise; raises `InputError` outside the set."""
        if not 0 <= index < NUM_SAMPLES:
            raise InputError(f"there is no sample {index}; they go from 0 to {NUM_SAMPLES - 1}.")
        drawn = np.random.default_rng(index)
        pixels = {size: drawn.integers(0, 256, (size, size, 3), np.uint8) for size in self.image_sizes}
        return Item(key=str(index), pixels=pixels, captions=self.captions(index))


@dataclass(frozen=True)
class NoiseTexts:
    """Features of texts that all have `length` tokens; without tokens the embedding alone. See `Texts`."""

    embedding_dim: int
    length: int
    width: int

    def __call__(
        self, indices: Sequence[int], captions: Sequence[Sequence[str]], chosen: Sequence[int]
    ) -> dict[str, Tensor]:
        """Features of as many texts as there are `indices`."""
        rows, generator = len(indices), seeded(0)
        tensors = {"text_embedding": torch.randn(rows, self.embedding_dim, generator=generator)}
        if self.length:
            tensors |= {
                "text_hidden": torch.randn(rows, self.length, self.width, generator=generator),
                "text_mask": torch.ones(rows, self.length, dtype=torch.bool),
                "text_length": torch.full((rows,), self.length),
            }
        return tensors


@dataclass(frozen=True)
class NoiseTokens:
    """Ids of texts that fill CLIP's context; see `Texts`."""

    shape: ClipConfig

    def __call__(
        self, indices: Sequence[int], captions: Sequence[Sequence[str]], chosen: Sequence[int]
    ) -> dict[str, Tensor]:
        """Ids of as many texts as there are `indices`."""
        rows, length, end = len(indices), self.shape.context_length, self.shape.end_token
        ids = torch.randint(0, end, (rows, length), generator=seeded(0))
        ids[:, -1] = end
        return {"text_ids": ids, "text_length": torch.full((rows,), length)}


def _table(embedding_dim: int) -> Embeddings:
    return Embeddings.of_table(torch.randn(NUM_SAMPLES, embedding_dim, generator=seeded(1)))
