"""What a benchmark of sampling found, and how its parts add up. Knows numbers; measures and prints nothing."""

from collections.abc import Mapping
from typing import Any

from unclip.bench.peak import DevicePeak
from unclip.config import Config
from unclip.machine import Machine


class StageFigures(Config):
    """One stage at one batch size. Seconds and operations are those of the whole batch unless they say otherwise."""

    stage: str
    num_parameters: int
    weight_bytes: int
    dtype: str
    batch: int
    num_steps: int
    """Steps of a whole sampling; 1 for what goes through its network once."""
    sampler: str | None
    guidance_scale: float
    setup_seconds: float
    """Before the first step."""
    seconds_per_step: float
    """Mean over the steps of a sampling."""
    timed_steps: int
    extrapolated: bool
    """Whether fewer steps were timed than a sampling has; the rest is taken to be as fast for its operations."""
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

    @property
    def share_of_peak(self) -> float:
        """Operations a second of the steps over those of the fastest matrix product."""
        return self.flops_per_step / self.seconds_per_step / self.peak.matmul

    def as_dict(self) -> dict[str, Any]:
        """All figures, for JSON."""
        return self.model_dump(mode="json") | {
            "seconds_per_image": self.seconds / self.batch,
            "flops_per_image": self.flops / self.batch,
            "share_of_peak": self.share_of_peak,
            "share_of_convolution_peak": self.share_of_peak * self.peak.matmul / self.peak.convolution,
        }


class BatchFigures(Config):
    """All measured stages at one batch size, one after the other."""

    batch: int
    stages: tuple[StageFigures, ...]

    @property
    def seconds_per_image(self) -> float:
        """Sum over the stages."""
        return sum(stage.seconds for stage in self.stages) / self.batch

    @property
    def images_per_second(self) -> float:
        """Of pictures that go through the stages `batch` at a time."""
        return 1.0 / self.seconds_per_image

    @property
    def flops_per_image(self) -> float:
        """Sum over the stages."""
        return sum(stage.flops for stage in self.stages) / self.batch

    @property
    def peak_memory_bytes(self) -> int:
        """With one stage in memory at a time: that of the largest."""
        return max(stage.peak_memory_bytes for stage in self.stages)

    @property
    def peak_memory_loaded_bytes(self) -> int:
        """With the weights of all stages in memory."""
        weights = sum(stage.weight_bytes for stage in self.stages)
        return weights + max(stage.peak_memory_bytes - stage.weight_bytes for stage in self.stages)

    @property
    def share_of_peak(self) -> float:
        """Time that the operations of the steps take at the peak over the time that the steps took."""
        busy = sum(stage.num_steps * stage.seconds_per_step for stage in self.stages)
        return sum(stage.num_steps * stage.flops_per_step / stage.peak.matmul for stage in self.stages) / busy

    @property
    def extrapolated(self) -> bool:
        """Whether any stage is."""
        return any(stage.extrapolated for stage in self.stages)

    def as_dict(self) -> dict[str, Any]:
        """All figures, for JSON; those of a step are there where one stage was measured, else None."""
        only = self.stages[0] if len(self.stages) == 1 else None
        return {
            "batch": self.batch,
            "seconds_per_image": self.seconds_per_image,
            "images_per_second": self.images_per_second,
            "seconds_per_step": None if only is None else only.seconds_per_step,
            "flops_per_step": None if only is None else only.flops_per_step,
            "flops_per_image": self.flops_per_image,
            "share_of_peak": self.share_of_peak,
            "peak_memory_bytes": self.peak_memory_bytes,
            "peak_memory_loaded_bytes": self.peak_memory_loaded_bytes,
            "extrapolated": self.extrapolated,
        }


class SampleReport(Config):
    """Sampling of some stages at some batch sizes."""

    subject: str
    """The preset or the model."""
    random_weights: bool
    image_size: int | None
    """Side of the pictures in the end; None where no stage draws pictures."""
    num_candidates: int
    device: str
    dtype: str
    """Of all stages but the encoders of text, which compute in float32."""
    peaks: Mapping[str, DevicePeak]
    """Of the device, by number format."""
    batches: tuple[BatchFigures, ...]
    machine: Machine
    version: str
    """Of this package."""

    def as_dict(self) -> dict[str, Any]:
        """One object for programs: the figures of the first batch size, then those of all, stage by stage."""
        own = self.model_dump(mode="json", exclude={"batches"})
        all_of_them = [
            figures.as_dict() | {"stages": [stage.as_dict() for stage in figures.stages]} for figures in self.batches
        ]
        return {
            "command": "bench sample",
            **self.batches[0].as_dict(),
            "threads": self.machine.threads,
            **own,
            "batches": all_of_them,
        }
