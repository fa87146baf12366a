"""A benchmark of training: steps of the trainer itself on made-up samples."""

from pathlib import Path
from statistics import median
from typing import Any

import torch

from unclip import __version__
from unclip.bench.measure import TrainJob, measure_apart
from unclip.bench.peak import DevicePeak, measure_peak
from unclip.clip import ClipConfig
from unclip.config import Config
from unclip.errors import InputError
from unclip.machine import Machine, describe_machine
from unclip.model.families import build_on_meta
from unclip.models import DecoderConfig, PriorConfig, UpsamplerConfig, count_parameters
from unclip.runtime import resolve_device
from unclip.training import (
    ClipTaskConfig,
    DataConfig,
    DecoderTaskConfig,
    OptimizerConfig,
    PriorTaskConfig,
    TrainConfig,
    UpsamplerTaskConfig,
)
from unclip.training.config import TaskConfig
from unclip.training.plan.cost import count_flops_per_image

SYNTHETIC = "synthetic"
CROPS = 4
"""Crops of an upsampler on a side (DALL-E 2, table 3)."""


class TrainReport(Config):
    """Training steps of one network."""

    name: str
    """The recipe, or the preset and its stage."""
    num_parameters: int
    batch: int
    micro_batch_size: int
    """Images of one forward pass."""
    precision: str
    activation_checkpointing: bool
    optimizer: str
    device: str
    seconds_per_step: float
    """Forward, backward, optimiser and averages; the batch lies ready."""
    images_per_second: float
    timed_steps: int
    peak_memory_bytes: int
    """Above the process before the network was built."""
    flops_per_step: int
    flops_per_image: int
    """Counted as `unclip plan` counts; a frozen CLIP computes nothing here."""
    share_of_peak: float
    """Operations a second over those of the fastest matrix product."""
    peak: DevicePeak
    """In `precision`."""
    machine: Machine
    version: str
    """Of this package."""

    def as_dict(self) -> dict[str, Any]:
        """Return one object for programs."""
        return {"command": "bench train", "threads": self.machine.threads, **self.model_dump(mode="json")}


def train_config(name: str, network: Config) -> TrainConfig:
    """Return settings to train a network of that shape; raises `InputError` for networks that are only sampled."""
    task: TaskConfig
    match network:
        case ClipConfig():
            task = ClipTaskConfig(model=network)
        case PriorConfig():
            task = PriorTaskConfig(model=network, clip=Path(SYNTHETIC))
        case DecoderConfig():
            task = DecoderTaskConfig(model=network)
        case UpsamplerConfig():
            noise = 0.3 if network.noise_conditioning else 0.0
            task = UpsamplerTaskConfig(model=network, crop_size=network.image_size // CROPS, max_augmentation=noise)
        case _:
            kind = type(network).__name__.removesuffix("Config")
            raise InputError(
                f"{name} is a {kind}, which is only sampled here; train an unclip prior, decoder, upsampler or CLIP."
            )
    return TrainConfig(
        name=name,
        task=task,
        data=DataConfig(folder=SYNTHETIC, embeddings=SYNTHETIC),
        optimizer=OptimizerConfig(learning_rate=1e-4, warmup_images=0),
        batch_size=8,
        num_images=1_000_000,
    )


def bench_train(config: TrainConfig, *, device: str = "auto", repeats: int = 3) -> TrainReport:
    """Time `repeats` steps of the trainer after one to warm up, on samples of noise that lie ready.

    Texts are as long as possible. Raises `InputError` if the run does not fit into memory.
    """
    place = resolve_device(device)
    data = DataConfig(folder=SYNTHETIC, embeddings=SYNTHETIC, source_size=config.data.source_size)
    config = config.replace(data=data)
    flops = count_flops_per_image(config)
    peak = measure_peak(place, getattr(torch, config.precision))
    measurement = measure_apart(TrainJob(config=config, device=str(place), repeats=repeats))
    seconds = median(measurement.seconds)
    return TrainReport(
        name=config.name,
        num_parameters=count_parameters(build_on_meta(config.task.model)),
        batch=config.batch_size,
        micro_batch_size=config.micro_batch_size or config.batch_size,
        precision=config.precision,
        activation_checkpointing=config.activation_checkpointing,
        optimizer=config.optimizer.name,
        device=str(place),
        seconds_per_step=seconds,
        images_per_second=config.batch_size / seconds,
        timed_steps=len(measurement.seconds),
        peak_memory_bytes=measurement.peak_memory_bytes,
        flops_per_step=config.batch_size * flops,
        flops_per_image=flops,
        share_of_peak=config.batch_size * flops / seconds / peak.matmul,
        peak=peak,
        machine=describe_machine(place),
        version=__version__,
    )
