"""One task per stage, and the table that finds them."""

import torch
from torch import Tensor

from unclip.training.config import (
    AutoencoderTaskConfig,
    ClipTaskConfig,
    DecoderTaskConfig,
    PriorTaskConfig,
    TrainConfig,
    UpsamplerTaskConfig,
)
from unclip.training.fit import check_run
from unclip.training.task import Task
from unclip.training.tasks.autoencoder import AutoencoderTask
from unclip.training.tasks.clip import ClipTask
from unclip.training.tasks.decoder import DecoderTask
from unclip.training.tasks.prior import PriorTask
from unclip.training.tasks.upsampler import UpsamplerTask

__all__ = ["AutoencoderTask", "ClipTask", "DecoderTask", "PriorTask", "UpsamplerTask", "make_task"]


def make_task(config: TrainConfig, device: torch.device, embedded: Tensor | None = None) -> Task:
    """Open the task of `config`, its network initialised from `config.seed` and frozen ones on `device`.

    `embedded` are the pictures' embeddings if another process has computed them (`Task.embedded`). Raises `ConfigError`
    before anything is read if the network does not fit the CLIP or the embeddings that it learns from.
    """
    check_run(config)
    match config.task:
        case ClipTaskConfig():
            return ClipTask.open(config, config.task)
        case AutoencoderTaskConfig():
            return AutoencoderTask.open(config, config.task, device)
        case PriorTaskConfig():
            return PriorTask.open(config, config.task, device, embedded)
        case DecoderTaskConfig():
            return DecoderTask.open(config, config.task, device, embedded)
        case UpsamplerTaskConfig():
            return UpsamplerTask.open(config, config.task, device)
