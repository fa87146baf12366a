"""Measure what sampling and training take: seconds, memory, operations, share of the device's peak."""

from unclip.bench.peak import DevicePeak, measure_peak
from unclip.bench.sample import BatchFigures, SampleReport, StageFigures, bench_sample
from unclip.bench.subject import Subject, model_subject, preset_subject
from unclip.bench.train import TrainReport, bench_train, train_config

__all__ = [
    "BatchFigures",
    "DevicePeak",
    "SampleReport",
    "StageFigures",
    "Subject",
    "TrainReport",
    "bench_sample",
    "bench_train",
    "measure_peak",
    "model_subject",
    "preset_subject",
    "train_config",
]
