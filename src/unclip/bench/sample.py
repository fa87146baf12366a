"""A benchmark of sampling: each stage at each batch size, counted, timed and put together."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import torch
from pydantic import computed_field

from unclip import __version__
from unclip.bench.measure import Measurement, measure_apart
from unclip.bench.peak import DevicePeak, measure_peak
from unclip.bench.stage import StageCount, StageJob, count_stage, shape_of
from unclip.bench.subject import Subject, stage_sizes
from unclip.config import Config
from unclip.errors import InputError, did_you_mean
from unclip.machine import Machine, describe_machine
from unclip.model import StageSettings
from unclip.model.families import ENCODERS
from unclip.pipelines import ImageSize
from unclip.runtime import inference_dtype, resolve_device

DTYPES = ("float32", "bfloat16", "float16")


class StageFigures(Config):
    """One stage at one batch size. Seconds and operations are those of the whole batch unless they say otherwise."""

    stage: str
    num_parameters: int
    weight_bytes: int
    dtype: str
    batch: int
    num_steps: int
    """Steps of a whole sampling; 1 for networks that are not sampled."""
    sampler: str | None
    guidance_scale: float
    setup_seconds: float
    """Before the first step."""
    seconds_per_step: float
    """Mean over the steps of a sampling."""
    timed_steps: int
    extrapolated: bool
    """Whether fewer steps were timed than a sampling has; the rest is assumed to be as fast for its operations."""
    peak_memory_bytes: int
    """Above the process before the network was built."""
    flops_per_forward: int
    """One whole pass of the network for one picture, without guidance."""
    setup_flops: int
    flops_per_step: float
    """Mean over the steps: all passes of guidance and of the sampler."""
    peak: DevicePeak
    """Of the device in `dtype`."""

    @property
    def seconds(self) -> float:
        """A whole sampling: set-up, and steps times seconds a step."""
        return self.setup_seconds + self.num_steps * self.seconds_per_step

    @property
    def flops(self) -> float:
        """A whole sampling."""
        return self.setup_flops + self.num_steps * self.flops_per_step

    @computed_field  # type: ignore[prop-decorator]
    @property
    def seconds_per_image(self) -> float:
        """Of a whole sampling."""
        return self.seconds / self.batch

    @computed_field  # type: ignore[prop-decorator]
    @property
    def flops_per_image(self) -> float:
        """Of a whole sampling."""
        return self.flops / self.batch

    @computed_field  # type: ignore[prop-decorator]
    @property
    def share_of_peak(self) -> float:
        """Operations a second of the steps over those of the fastest matrix product."""
        return self.flops_per_step / self.seconds_per_step / self.peak.matmul

    @computed_field  # type: ignore[prop-decorator]
    @property
    def share_of_convolution_peak(self) -> float:
        """Operations a second of the steps over those of the fastest convolution."""
        return self.flops_per_step / self.seconds_per_step / self.peak.convolution


class BatchFigures(Config):
    """All measured stages at one batch size, one after the other."""

    batch: int
    stages: tuple[StageFigures, ...]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def seconds_per_image(self) -> float:
        """Sum over the stages."""
        return sum(stage.seconds for stage in self.stages) / self.batch

    @computed_field  # type: ignore[prop-decorator]
    @property
    def images_per_second(self) -> float:
        """Of pictures that go through the stages `batch` at a time."""
        return 1.0 / self.seconds_per_image

    @computed_field  # type: ignore[prop-decorator]
    @property
    def seconds_per_step(self) -> float | None:
        """If one stage was measured."""
        return self.stages[0].seconds_per_step if len(self.stages) == 1 else None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def flops_per_step(self) -> float | None:
        """If one stage was measured."""
        return self.stages[0].flops_per_step if len(self.stages) == 1 else None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def flops_per_image(self) -> float:
        """Sum over the stages."""
        return sum(stage.flops for stage in self.stages) / self.batch

    @computed_field  # type: ignore[prop-decorator]
    @property
    def share_of_peak(self) -> float:
        """Time that the operations of the steps take at the peak over the time that the steps took."""
        busy = sum(stage.num_steps * stage.seconds_per_step for stage in self.stages)
        return sum(stage.num_steps * stage.flops_per_step / stage.peak.matmul for stage in self.stages) / busy

    @computed_field  # type: ignore[prop-decorator]
    @property
    def peak_memory_bytes(self) -> int:
        """With one stage in memory at a time: that of the largest."""
        return max(stage.peak_memory_bytes for stage in self.stages)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def peak_memory_loaded_bytes(self) -> int:
        """With the weights of all stages in memory."""
        weights = sum(stage.weight_bytes for stage in self.stages)
        return weights + max(stage.peak_memory_bytes - stage.weight_bytes for stage in self.stages)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def extrapolated(self) -> bool:
        """Whether any stage is."""
        return any(stage.extrapolated for stage in self.stages)


class SampleReport(Config):
    """Sampling of some stages at some batch sizes."""

    subject: str
    """The preset or the model."""
    random_weights: bool
    image_size: int | None
    """Side of the final pictures; None without a stage that draws pictures."""
    num_candidates: int
    device: str
    dtype: str
    """Of all stages except the encoders of text, which compute in float32."""
    peaks: Mapping[str, DevicePeak]
    """Of the device, by number format."""
    batches: tuple[BatchFigures, ...]
    machine: Machine
    version: str
    """Of this package."""

    def as_dict(self) -> dict[str, Any]:
        """Return one object for programs: the figures of the first batch size, then those of all, stage by stage."""
        return {
            "command": "bench sample",
            **self.batches[0].model_dump(mode="json", exclude={"stages"}),
            "threads": self.machine.threads,
            **self.model_dump(mode="json"),
        }


def bench_sample(
    subject: Subject,
    *,
    batches: Sequence[int] = (1,),
    settings: Mapping[str, StageSettings] | None = None,
    image_size: ImageSize | None = None,
    text_tokens: int | None = None,
    num_candidates: int | None = None,
    dtype: str | None = None,
    device: str = "auto",
    repeats: int = 3,
    progress: Callable[[str, int, int], object] = lambda stage, done, total: None,
) -> SampleReport:
    """Measure every stage of `subject` at every batch size, one in memory at a time.

    At least `repeats` steps of a stage are timed after one to warm up; where a sampling has more, its time is that of
    the timed ones in proportion to the operations. `text_tokens` is the length of texts where a decoder does not limit
    it. `progress` is called before each job: (stage, number, of how many). Raises `InputError` and `ConfigError`,
    before anything is measured, for invalid sizes and settings, and `InputError` if a stage does not fit into memory.
    """
    place = resolve_device(device)
    dtype = dtype or str(inference_dtype(place)).removeprefix("torch.")
    if dtype not in DTYPES:
        raise InputError(f"dtype={dtype!r} is not a number format to draw in; {did_you_mean(dtype, DTYPES)}")
    sizes, width = stage_sizes(subject, image_size)
    settings, candidates = settings or subject.settings, num_candidates or subject.num_candidates
    shapes = {name: shape_of(config) for name, config in subject.networks.items()}
    jobs = [
        StageJob(
            stage=stage,
            shapes=tuple(shapes[name] for name in (stage, f"{stage}_last") if name in shapes),
            settings=settings.get(stage),
            size=size,
            text_tokens=text_tokens or None,
            batch=batch,
            num_candidates=candidates,
            # Encoders are measured in float32, though pipelines run them in `encoder_dtype`.
            dtype="float32" if stage in ENCODERS else dtype,
            device=str(place),
            repeats=repeats,
            model=subject.model,
        )
        for batch in batches
        for stage, size in sizes.items()
    ]
    # All are counted before any is measured, so that invalid ones are reported at once.
    counts = [count_stage(job) for job in jobs]
    peaks = {name: measure_peak(place, getattr(torch, name)) for name in sorted({job.dtype for job in jobs})}
    figures = []
    for number, (job, count) in enumerate(zip(jobs, counts, strict=True)):
        progress(f"{job.stage}, batch {job.batch}", number, len(jobs))
        measurement = measure_apart(job.replace(num_steps=len(count.steps)))
        figures.append(_figures(job, count, measurement, peaks[job.dtype]))
    return SampleReport(
        subject=subject.name,
        random_weights=subject.model is None,
        image_size=width,
        num_candidates=candidates,
        device=str(place),
        dtype=dtype,
        peaks=peaks,
        batches=tuple(
            BatchFigures(batch=batch, stages=tuple(stage for stage in figures if stage.batch == batch))
            for batch in batches
        ),
        machine=describe_machine(place),
        version=__version__,
    )


def _figures(job: StageJob, count: StageCount, measurement: Measurement, peak: DevicePeak) -> StageFigures:
    """Put a stage's figures together.

    Steps differ where guidance acts in some, or a sampler makes two passes: seconds follow the operations.
    """
    pairs = zip(measurement.seconds, measurement.indices, strict=True)
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
        setup_seconds=measurement.setup_seconds,
        seconds_per_step=median(seconds / count.steps[index] for seconds, index in pairs) * flops_per_step,
        timed_steps=len(measurement.seconds),
        extrapolated=len(measurement.seconds) < len(count.steps),
        peak_memory_bytes=measurement.peak_memory_bytes,
        flops_per_forward=count.forward,
        setup_flops=count.setup,
        flops_per_step=flops_per_step,
        peak=peak,
    )
