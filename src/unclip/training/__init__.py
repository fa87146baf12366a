"""Training: one trainer, a task per stage, exact resuming."""

from unclip.training.averages import average_stage
from unclip.training.config import (
    AutoencoderTaskConfig,
    ClipTaskConfig,
    DataConfig,
    DecoderTaskConfig,
    OptimizerConfig,
    ParaphraseConfig,
    PriorTaskConfig,
    TrainConfig,
    UpsamplerTaskConfig,
)
from unclip.training.distributed import Cluster, init_cluster
from unclip.training.feed import Feed
from unclip.training.fit import check_run
from unclip.training.plan.plan import GPUS, Disk, Gpu, Memory, Plan, get_gpu, make_plan
from unclip.training.state import Position
from unclip.training.stop import StopFlag, stop_on_signal
from unclip.training.task import Batch, Request, Samples, Task, TaskLoss
from unclip.training.tasks import make_task
from unclip.training.tasks.clip import ClipTask
from unclip.training.tasks.decoder import DecoderTask
from unclip.training.tasks.prior import PriorTask
from unclip.training.tasks.upsampler import UpsamplerTask
from unclip.training.trainer import Trainer, train

__all__ = [
    "GPUS",
    "AutoencoderTaskConfig",
    "Batch",
    "ClipTask",
    "ClipTaskConfig",
    "Cluster",
    "DataConfig",
    "DecoderTask",
    "DecoderTaskConfig",
    "Disk",
    "Feed",
    "Gpu",
    "Memory",
    "OptimizerConfig",
    "ParaphraseConfig",
    "Plan",
    "Position",
    "PriorTask",
    "PriorTaskConfig",
    "Request",
    "Samples",
    "StopFlag",
    "Task",
    "TaskLoss",
    "TrainConfig",
    "Trainer",
    "UpsamplerTask",
    "UpsamplerTaskConfig",
    "average_stage",
    "check_run",
    "get_gpu",
    "init_cluster",
    "make_plan",
    "make_task",
    "stop_on_signal",
    "train",
]
