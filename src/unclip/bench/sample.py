"""A benchmark of sampling: each stage at each batch size, counted, timed and put together. Knows no surface."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, get_args

import torch

from unclip import __version__
from unclip.bench.counting import StageCount, count_stage
from unclip.bench.jobs import DType, Measured, NetworkShape, StageJob
from unclip.bench.peak import DevicePeak, measure_peak
from unclip.bench.processes import measure_apart
from unclip.bench.report import BatchFigures, SampleReport, StageFigures
from unclip.bench.sizes import StageSizes, stage_sizes
from unclip.bench.subject import Subject
from unclip.errors import InputError, did_you_mean
from unclip.machine import describe_machine
from unclip.model import StageSettings
from unclip.runtime import inference_dtype, resolve_device

# CLIP computes in float32 in every pipeline.
ENCODERS = ("clip", "text_encoder")
Tell = Callable[[str, int, int], object]


def bench_sample(
    subject: Subject,
    *,
    batches: Sequence[int] = (1,),
    settings: Mapping[str, StageSettings] | None = None,
    image_size: int | tuple[int, int] | None = None,
    text_tokens: int | None = None,
    num_candidates: int | None = None,
    dtype: str | None = None,
    device: str = "auto",
    repeats: int = 3,
    tell: Tell = lambda stage, done, total: None,
) -> SampleReport:
    """Measure every stage of `subject` at every batch size, one in memory at a time.

    At least `repeats` steps of a stage are timed after one to warm up; where a sampling has more, its time is that of
    the timed ones in proportion to the operations. `text_tokens` is the length of texts where a decoder does not limit
    it. `tell` hears of the jobs that are done. Raises `InputError` and `ConfigError`, before anything is measured, for
    sizes and settings that cannot be, and `InputError` where a stage does not fit into memory.
    """
    place = resolve_device(device)
    chosen = _dtype(dtype, place)
    sizes = stage_sizes(subject, image_size)
    candidates = num_candidates or subject.num_candidates
    common = {
        "device": str(place), "repeats": repeats, "num_candidates": candidates, "text_tokens": text_tokens or None,
    }  # fmt: skip
    jobs = [
        _job(subject, stage, batch, sizes, settings or subject.settings, chosen, common)
        for batch in batches
        for stage in sizes.of
    ]
    # All are counted before any is measured, so that what cannot be is said at once.
    counts = [count_stage(job) for job in jobs]
    peaks: dict[str, DevicePeak] = {
        name: measure_peak(place, getattr(torch, name)) for name in sorted({job.dtype for job in jobs})
    }
    figures = []
    for number, (job, count) in enumerate(zip(jobs, counts, strict=True)):
        tell(f"{job.stage}, batch {job.batch}", number, len(jobs))
        found = measure_apart(job.replace(num_steps=len(count.steps)))
        figures.append(_figures(job, count, found, peaks[job.dtype]))
    return SampleReport(
        subject=subject.name,
        random_weights=subject.model is None,
        image_size=sizes.image_size,
        num_candidates=candidates,
        device=str(place),
        dtype=chosen,
        peaks=peaks,
        batches=tuple(
            BatchFigures(batch=batch, stages=tuple(stage for stage in figures if stage.batch == batch))
            for batch in batches
        ),
        machine=describe_machine(place),
        version=__version__,
    )


def _dtype(name: str | None, device: torch.device) -> DType:
    given = name or str(inference_dtype(device)).removeprefix("torch.")
    for known in get_args(DType):
        if given == known:
            return known
    raise InputError(f"dtype={name!r} is no number format to draw in; {did_you_mean(given, get_args(DType))}")


def _job(
    subject: Subject,
    stage: str,
    batch: int,
    sizes: StageSizes,
    settings: Mapping[str, StageSettings],
    dtype: DType,
    common: Mapping[str, Any],
) -> StageJob:
    last = subject.networks.get(f"{stage}_last")
    return StageJob(
        stage=stage,
        shape=NetworkShape.of(subject.networks[stage]),
        last=None if last is None else NetworkShape.of(last),
        settings=settings.get(stage),
        size=sizes.of[stage],
        batch=batch,
        dtype="float32" if stage in ENCODERS else dtype,
        model=subject.model,
        **common,
    )


def _figures(job: StageJob, count: StageCount, found: Measured, peak: DevicePeak) -> StageFigures:
    """Steps differ where guidance acts in some, or a sampler makes two passes: seconds follow the operations."""
    rate = median(seconds / count.steps[index] for seconds, index in zip(found.seconds, found.indices, strict=True))
    flops_per_step = sum(count.steps) / len(count.steps)
    return StageFigures(
        stage=job.stage,
        num_parameters=count.num_parameters,
        weight_bytes=count.weight_bytes,
        dtype=job.dtype,
        batch=job.batch,
        num_steps=len(count.steps),
        sampler=None if job.settings is None else job.settings.sampler,
        guidance_scale=1.0 if job.settings is None else job.settings.guidance_scale,
        setup_seconds=found.setup_seconds,
        seconds_per_step=rate * flops_per_step,
        timed_steps=len(found.seconds),
        extrapolated=len(found.seconds) < len(count.steps),
        peak_memory_bytes=found.peak_memory_bytes,
        flops_per_forward=count.forward,
        setup_flops=count.setup,
        flops_per_step=flops_per_step,
        peak=peak,
    )
