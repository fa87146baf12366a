"""Training: one loop, a task per stage, exact resuming. Knows every stage; no surface."""

from unclip.training.config import (
    ClipTaskConfig,
    DataConfig,
    DecoderTaskConfig,
    OptimizerConfig,
    PriorTaskConfig,
    TrainConfig,
    UpsamplerTaskConfig,
)
from unclip.training.hardware import GPUS, Gpu, get_gpu
from unclip.training.loop import train, train_steps
from unclip.training.plan import Disk, Memory, Plan, make_plan

__all__ = [
    "GPUS",
    "ClipTaskConfig",
    "DataConfig",
    "DecoderTaskConfig",
    "Disk",
    "Gpu",
    "Memory",
    "OptimizerConfig",
    "Plan",
    "PriorTaskConfig",
    "TrainConfig",
    "UpsamplerTaskConfig",
    "get_gpu",
    "make_plan",
    "train",
    "train_steps",
]
