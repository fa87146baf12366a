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
from unclip.training.loop import train, train_steps

__all__ = [
    "ClipTaskConfig",
    "DataConfig",
    "DecoderTaskConfig",
    "OptimizerConfig",
    "PriorTaskConfig",
    "TrainConfig",
    "UpsamplerTaskConfig",
    "train",
    "train_steps",
]
