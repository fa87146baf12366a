"""What sampling and training take: seconds, memory, operations, share of the peak. Knows all stages; no surface."""

from unclip.bench.counting import StageCount, count_stage
from unclip.bench.jobs import Measured, NetworkShape, StageJob, TrainJob
from unclip.bench.peak import DevicePeak, measure_peak
from unclip.bench.processes import measure_apart
from unclip.bench.report import BatchFigures, SampleReport, StageFigures
from unclip.bench.sample import bench_sample
from unclip.bench.sizes import StageSizes, stage_sizes
from unclip.bench.subject import Subject, change_networks, model_subject, preset_subject, with_text_tokens
from unclip.bench.train import TrainReport, bench_train, train_config

__all__ = [
    "BatchFigures",
    "DevicePeak",
    "Measured",
    "NetworkShape",
    "SampleReport",
    "StageCount",
    "StageFigures",
    "StageJob",
    "StageSizes",
    "Subject",
    "TrainJob",
    "TrainReport",
    "bench_sample",
    "bench_train",
    "change_networks",
    "count_stage",
    "measure_apart",
    "measure_peak",
    "model_subject",
    "preset_subject",
    "stage_sizes",
    "train_config",
    "with_text_tokens",
]
