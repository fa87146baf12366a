"""A trainer on made-up samples: the tasks' own losses and draws, without a data set."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from unclip.clip import ClipConfig
from unclip.data import Item
from unclip.runtime import seeded
from unclip.training import (
    AutoencoderTaskConfig,
    Batch,
    ClipTaskConfig,
    Cluster,
    DecoderTaskConfig,
    PriorTaskConfig,
    Request,
    Samples,
    Task,
    TrainConfig,
    Trainer,
    UpsamplerTaskConfig,
)
from unclip.training.plan.cost import text_length
from unclip.training.task import SampleSet
from unclip.training.tasks import ClipTask, DecoderTask, PriorTask, UpsamplerTask
from unclip.training.tasks.autoencoder import AutoencoderSamples, AutoencoderTask
from unclip.training.tasks.clip import ClipSamples
from unclip.training.tasks.decoder import DecoderSamples
from unclip.training.tasks.prior import PriorSamples
from unclip.training.tasks.samples import Captions, ImageEmbeddings, TextReader
from unclip.training.tasks.upsampler import UpsamplerSamples

NUM_SAMPLES = 64


def synthetic_trainer(config: TrainConfig, cluster: Cluster) -> Trainer:
    """Make a trainer on noise that lies ready: pictures, embeddings and texts of full length, without a CLIP."""
    # Noise has no fields.
    config = config.replace(data=config.data.replace(balance=()))
    if isinstance(config.task, ClipTaskConfig):
        config = config.replace(task=config.task.replace(positives=(), classes=(), teacher=None, phrases=None))
    task = synthetic_task(config, cluster.device)
    task.samples = Ready(task.samples)
    return Trainer.open(config, cluster, task)


def synthetic_task(config: TrainConfig, device: torch.device) -> Task:
    """Make the task of `config` on noise."""
    task = config.task
    match task:
        case ClipTaskConfig(model=clip):
            samples = ClipSamples(NoisePictures(clip.image_size), noise_tokens(clip), task)
            return ClipTask(task, config.seed, samples, None)
        case AutoencoderTaskConfig(model=autoencoder):
            pictures = NoisePictures(task.image_size, channels=autoencoder.in_channels)
            task = task.replace(feature_weight=0.0)
            return AutoencoderTask(task, config.seed, AutoencoderSamples(pictures, task))
        case PriorTaskConfig(model=prior):
            table, width = _table(prior.embedding_dim), prior.text_dim or prior.embedding_dim
            texts = noise_texts(prior.text_embedding_dim or prior.embedding_dim, text_length(prior), width)
            return PriorTask(config, task, device, PriorSamples(NoisePictures(), table, texts, task), table)
        case DecoderTaskConfig(model=decoder):
            texts = noise_texts(decoder.embedding_dim, text_length(decoder), decoder.text_dim)
            # Of latents, too: noise is noise.
            pictures = NoisePictures(decoder.image_size, channels=decoder.in_channels)
            table = _table(decoder.embedding_dim)
            drawn = DecoderSamples(pictures, table, texts if decoder.text_dim else None, task)
            return DecoderTask(config, task, device, drawn, table)
        case UpsamplerTaskConfig(model=upsampler):
            pictures = NoisePictures(upsampler.image_size, upsampler.low_res_size, channels=upsampler.in_channels)
            return UpsamplerTask(config, task, device, UpsamplerSamples(pictures, task))


class Ready:
    """Samples whose first batch is kept and returned again, as if workers had fetched it ahead."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples
        self.batch: Batch | None = None

    @property
    def source(self) -> SampleSet:
        """The source of the samples."""
        return self.samples.source

    def __call__(self, request: Request) -> Batch:
        """Return the first batch."""
        self.batch = self.batch or self.samples(request)
        return self.batch


class NoisePictures:
    """Pictures of noise, each with an empty caption; see `PictureSet`."""

    def __init__(self, *image_sizes: int, channels: int = 3) -> None:
        self.image_sizes, self.channels = image_sizes, channels
        self.shard_sizes = [NUM_SAMPLES]
        self.keys: Sequence[str] = [str(index) for index in range(NUM_SAMPLES)]

    def __len__(self) -> int:
        return NUM_SAMPLES

    def captions(self, index: int) -> tuple[str, ...]:
        """Return one empty caption."""
        return ("",)

    def item(self, index: int) -> Item:
        """Return a picture of the number's own noise."""
        drawn = np.random.default_rng(index)
        pixels = {size: drawn.integers(0, 256, (size, size, self.channels), np.uint8) for size in self.image_sizes}
        return Item(key=str(index), pixels=pixels, captions=self.captions(index))


def noise_texts(embedding_dim: int, length: int, width: int) -> TextReader:
    """Make features of texts that all have `length` tokens; without tokens the embedding alone."""

    def texts(indices: Sequence[int], captions: Captions, chosen: Sequence[int]) -> dict[str, Tensor]:
        rows, generator = len(indices), seeded(0)
        tensors = {"text_embedding": torch.randn(rows, embedding_dim, generator=generator)}
        if length:
            tensors |= {
                "text_hidden": torch.randn(rows, length, width, generator=generator),
                "text_mask": torch.ones(rows, length, dtype=torch.bool),
                "text_length": torch.full((rows,), length),
            }
        return tensors

    return texts


def noise_tokens(clip: ClipConfig) -> TextReader:
    """Make ids of texts that fill CLIP's context."""

    def texts(indices: Sequence[int], captions: Captions, chosen: Sequence[int]) -> dict[str, Tensor]:
        ids = torch.randint(0, clip.end_token, (len(indices), clip.context_length), generator=seeded(0))
        ids[:, -1] = clip.end_token
        return {"text_ids": ids, "text_length": torch.full((len(indices),), clip.context_length)}

    return texts


def _table(embedding_dim: int) -> ImageEmbeddings:
    return ImageEmbeddings.of_table(torch.randn(NUM_SAMPLES, embedding_dim, generator=seeded(1)))
