"""What the tasks that learn to denoise share: the loss, its draws, frozen embeddings, sampling and previews."""

import abc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from unclip.checkpoint import LazyTensor, NetworkWeights, save_network
from unclip.diffusion import (
    Denoiser,
    DiscreteSchedule,
    Weighting,
    add_noise,
    bind,
    clip_x0,
    diffusion_loss,
    estimate_x0,
    make_schedule,
)
from unclip.images import from_uint8, grid, to_pil
from unclip.model.settings import EMBEDDING_BOUND, PIXEL_BOUND, StageSettings
from unclip.models import Decoder, DecoderConfig, Prior, PriorConfig, Upsampler, UpsamplerConfig
from unclip.pipelines.stage import run_to_end, sample_steps
from unclip.runtime import forked_random_state
from unclip.training.config import DecoderTaskConfig, PriorTaskConfig, UpsamplerTaskConfig
from unclip.training.task import Batch, Request, Samples, Stream, Task

N = TypeVar("N", bound=nn.Module)
StageConfig = PriorConfig | DecoderConfig | UpsamplerConfig

SAMPLING = StageSettings(num_steps=16, sampler="dpm++")
"""How previews and figures are sampled: without guidance."""
COLUMNS = 12
"""Pictures in a row of a preview."""


class DiffusionTask(Task):
    """A stage that learns to denoise; a subclass says what, from which conditioning."""

    network: ClassVar[type[Prior] | type[Decoder] | type[Upsampler]]
    task: PriorTaskConfig | DecoderTaskConfig | UpsamplerTaskConfig

    def __init__(self, seed: int, device: torch.device, samples: Samples, stage: str) -> None:
        """`stage` is what the exported file is called."""
        model = self.task.model
        self.seed, self.device, self.samples, self.stage = seed, device, samples, stage
        self.schedule = make_schedule(model.schedule, model.num_timesteps)

    def build(self) -> nn.Module:
        return seeded_network(lambda: self.network(self.task.model), self.seed)  # type: ignore[arg-type]  # its own

    @abc.abstractmethod
    def x0(self, batch: Batch) -> Tensor:
        """Return the clean samples of a batch, in the numbers that the network denoises."""

    @abc.abstractmethod
    def conditioning(self, batch: Batch) -> Mapping[str, Tensor | None]:
        """Return the keyword arguments of the network in the loss, besides x_t and t."""

    def forward(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        tensors, model = {**batch.tensors, "x0": self.x0(batch)}, self.task.model
        conditioning = self.conditioning(batch)
        return {"loss": denoising_losses(network, model, self.schedule, self.task.weighting, tensors, conditioning)}

    def export(self, state: Mapping[str, LazyTensor], folder: Path) -> None:
        path = folder / f"{self.stage}.safetensors"
        weights = NetworkWeights(self.network.__name__, self.task.model, state, str(path))
        save_network(path, weights, self.stage, "float32")


def denoising_losses(
    network: nn.Module,
    model: StageConfig,
    schedule: DiscreteSchedule,
    weighting: Weighting,
    batch: Mapping[str, Tensor],
    conditioning: Mapping[str, Tensor | None],
) -> Tensor:
    """Compute the loss of each sample, (batch,), at the `x0`, `noise` and times `t` of the batch.

    Where the batch has `self_condition` set, the network first estimates x0 and then reads the estimate.
    """
    x0, noise, t = batch["x0"], batch["noise"], batch["t"]
    x_t = add_noise(schedule, x0, noise, t)
    # Priors learn no variance; their x0 is in standard deviations.
    learns_variance = not isinstance(model, PriorConfig) and model.learned_variance
    if "self_condition" in batch:
        estimate = torch.zeros_like(x0)
        is_shown = batch["self_condition"]
        # Processes that share a sharded network make as many passes, whichever of their samples read an estimate.
        if not network.training or bool(is_shown.any()):
            denoiser = bind(network, schedule, model.prediction_type, conditioning, learns_variance)
            bound = EMBEDDING_BOUND if isinstance(model, PriorConfig) else PIXEL_BOUND
            estimated = estimate_x0(clip_x0(denoiser, bound), x_t, t)
            estimate = torch.where(is_shown.view(-1, *[1] * (x0.ndim - 1)), estimated, estimate)
        conditioning = {**conditioning, "self_condition": estimate.float()}
    output = network(x_t, schedule.timestep(t).float(), **conditioning)
    return diffusion_loss(output, model.prediction_type, schedule, x0, noise, x_t, t, weighting, learns_variance)


def draw_times(request: Request, num_timesteps: int) -> Tensor:
    """Draw uniform table points t = (i + 1) / T, stratified over the whole batch so that it covers all noise levels."""
    count, generator = request.batch_size, request.shared()
    strata = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    index = (strata * num_timesteps).long().clamp_(max=num_timesteps - 1)
    t = ((index + 1).double() / num_timesteps)[torch.randperm(count, generator=generator)]
    return t[torch.from_numpy(request.slots)]


def draw_self_conditioning(request: Request, prob: float) -> Tensor:
    """Draw whether the network reads its own estimate, (samples,) bool.

    Once for a whole batch of training, so that the other batches are spared its cost; once for each held-out sample.
    """
    generator = request.shared(Stream.SELF_CONDITIONING)
    if not request.is_held_out:
        return (torch.rand((), generator=generator) < prob).expand(len(request.slots))
    return (torch.rand(request.batch_size, generator=generator) < prob)[torch.from_numpy(request.slots)]


def seeded_network(build: Callable[[], N], seed: int) -> N:
    """Build a network whose initial weights depend on `seed` alone; the caller's random state is untouched."""
    with forked_random_state(seed):
        return build()


@contextmanager
def clip_precision(device: torch.device) -> Iterator[None]:
    """Run a frozen CLIP in the type of its weights: without gradients, and without the autocast of training."""
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        yield


@torch.no_grad()
def sample(denoiser: Denoiser, schedule: DiscreteSchedule, x_T: Tensor) -> Tensor:
    """Sample x_0 from the noise `x_T` as a pipeline's stage does, with a `denoiser` of that stage and `SAMPLING`."""
    return run_to_end(sample_steps(denoiser, schedule, SAMPLING, lambda: x_T))


def preview_grid(real: np.ndarray, drawn: Tensor) -> Image.Image:
    """Lay out `real` pictures (uint8, batch first) in the odd rows, and the drawn ones in the rows below."""
    pairs = to_pil(from_uint8(real)), to_pil(drawn)
    columns = min(COLUMNS, len(real))
    rows = []
    for first in range(0, len(real), columns):
        for pictures in pairs:
            row = pictures[first : first + columns]
            rows += row + [Image.new("RGB", row[0].size, "white")] * (columns - len(row))
    return grid(rows, columns)
