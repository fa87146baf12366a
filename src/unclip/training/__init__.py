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
from unclip.training.distributed import Cluster, join
from unclip.training.feed import Feed
from unclip.training.loop import make_state, train
from unclip.training.state import Position
from unclip.training.step import train_steps
from unclip.training.task import Batch, Request, Samples, Task, TaskLoss
from unclip.training.tasks import make_task

__all__ = [
    "Batch",
    "ClipTaskConfig",
    "Cluster",
    "DataConfig",
    "DecoderTaskConfig",
    "Feed",
    "OptimizerConfig",
    "Position",
    "PriorTaskConfig",
    "Request",
    "Samples",
    "Task",
    "TaskLoss",
    "TrainConfig",
    "UpsamplerTaskConfig",
    "join",
    "make_state",
    "make_task",
    "train",
    "train_steps",
]
