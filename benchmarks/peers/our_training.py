"""Our training step on tensors in memory, as the peers train. Knows tasks and the loop's step; no files and no CLIP."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from unclip.checkpoint import Storage
from unclip.diffusion import make_schedule
from unclip.images import from_uint8
from unclip.model.settings import EMBEDDING_BOUND, PIXEL_BOUND
from unclip.models import Decoder, DecoderConfig, Prior, PriorConfig
from unclip.runtime import forked_random_state, resolve_device
from unclip.training import (
    Batch,
    Cluster,
    DataConfig,
    DecoderTaskConfig,
    OptimizerConfig,
    PriorTaskConfig,
    Request,
    Task,
    TrainConfig,
    Trainer,
)
from unclip.training.logging import StepReport
from unclip.training.tasks.common import denoising_losses, draw_times

__all__ = ["our_steps"]

NUM_SAMPLES = 1024


def our_steps(
    task_config: PriorTaskConfig | DecoderTaskConfig, batch_size: int, num_text_tokens: int, device: str, precision: str
) -> tuple[Iterator[StepReport], nn.Module, str]:
    """The loop's own optimiser steps, what they train, and its precision.

    All is as a recipe does it (stratified times, dropout of the condition, clipping, fused AdamW, an average of the
    weights in every step) but for the samples, which are random numbers.
    """
    config = TrainConfig(
        name="peers",
        task=task_config,
        data=DataConfig(folder="memory"),
        optimizer=OptimizerConfig(learning_rate=1e-4),
        batch_size=batch_size,
        num_images=10**9,
    )
    if precision != "default":
        config = config.replace(precision=precision)
    cluster = Cluster(0, 1, resolve_device(device))
    task = MemoryTask(task_config, num_text_tokens, cluster.device)
    trainer = Trainer.open(config, cluster, task)
    return iter(trainer.step, None), trainer.state.network, config.precision


@dataclass(frozen=True)
class Names:
    """A data set that is not there."""

    keys: Sequence[str]
    shard_sizes: Sequence[int]


@dataclass(frozen=True, eq=False)
class MemorySamples:
    """What the loss needs of a batch, drawn instead of read."""

    source: Names
    task: PriorTaskConfig | DecoderTaskConfig
    num_text_tokens: int

    def __call__(self, request: Request) -> Batch:
        model = self.task.model
        tensors = {"t": draw_times(request, model.num_timesteps), "image_embedding": request.noise((_width(model),))}
        if isinstance(model, PriorConfig):
            tensors |= {"noise": request.noise((model.embedding_dim,))}
        else:
            shape = (model.in_channels, model.image_size, model.image_size)
            tensors |= {"noise": request.noise(shape), "pixels": self._pixels(request, shape)}
            tensors |= {"image_present": request.uniform() >= self.task.image_drop_prob}
        if isinstance(model, PriorConfig) or model.text_dim:
            tensors |= {"text_embedding": request.noise((_width(model),))}
        if self.num_text_tokens:
            width = model.text_dim or model.embedding_dim
            tensors |= {"text_hidden": request.noise((self.num_text_tokens, width))}
            tensors |= {"text_mask": torch.ones(len(request.slots), self.num_text_tokens, dtype=torch.bool)}
        return Batch(tensors)

    def _pixels(self, request: Request, shape: tuple[int, int, int]) -> Tensor:
        channels, height, width = shape
        return (request.uniform(height, width, channels) * 255).to(torch.uint8)


class MemoryTask(Task):
    """The loss of a prior or a decoder, on `MemorySamples`."""

    def __init__(self, task: PriorTaskConfig | DecoderTaskConfig, num_text_tokens: int, device: torch.device) -> None:
        self.task, self.device = task, device
        names = Names([str(number) for number in range(NUM_SAMPLES)], [NUM_SAMPLES])
        self.samples = MemorySamples(names, task, num_text_tokens)
        self.schedule = make_schedule(task.model.schedule, task.model.num_timesteps)

    def build(self) -> nn.Module:
        model = self.task.model
        with forked_random_state(0):
            return Prior(model) if isinstance(model, PriorConfig) else Decoder(model)

    def forward(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        names = {"text_embedding", "text_hidden", "text_mask"}
        if isinstance(self.task, DecoderTaskConfig):
            names |= {"image_embedding", "image_present"}
            x0 = from_uint8(batch["pixels"])
        else:
            x0 = batch["image_embedding"]
        conditioning = {name: tensor for name, tensor in batch.tensors.items() if name in names}
        tensors = {**batch.tensors, "x0": x0}
        bound = PIXEL_BOUND if isinstance(self.task, DecoderTaskConfig) else EMBEDDING_BOUND
        losses = denoising_losses(
            network, self.task.model, self.schedule, self.task.weighting, tensors, conditioning, bound
        )
        return {"loss": losses}

    def export(self, network: nn.Module, folder: Path, storage: Storage) -> None:
        raise AssertionError("a measured network is not kept")


def _width(model: PriorConfig | DecoderConfig) -> int:
    return model.embedding_dim
