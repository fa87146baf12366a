"""Training: one loop, a task per stage, exact resuming. Knows every stage; no surface."""

from unclip.training.averaging import average_stage
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
    "average_stage",
    "train",
    "train_steps",
]
