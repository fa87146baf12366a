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
from unclip.training.distributed import Cluster, join
from unclip.training.feed import Feed
from unclip.training.hardware import GPUS, Gpu, get_gpu
from unclip.training.loop import make_state, train
from unclip.training.plan import Disk, Memory, Plan, make_plan
from unclip.training.state import Position
from unclip.training.step import train_steps
from unclip.training.stop import StopFlag, stop_on_signal
from unclip.training.task import Batch, Request, Samples, Task, TaskLoss
from unclip.training.tasks import make_task

__all__ = [
    "GPUS",
    "Batch",
    "ClipTaskConfig",
    "Cluster",
    "DataConfig",
    "DecoderTaskConfig",
    "Disk",
    "Feed",
    "Gpu",
    "Memory",
    "OptimizerConfig",
    "Plan",
    "Position",
    "PriorTaskConfig",
    "Request",
    "Samples",
    "StopFlag",
    "Task",
    "TaskLoss",
    "TrainConfig",
    "UpsamplerTaskConfig",
    "average_stage",
    "get_gpu",
    "join",
    "make_plan",
    "make_state",
    "make_task",
    "stop_on_signal",
    "train",
    "train_steps",
]
