"""What the tasks that learn to denoise share: the loss, its draws, frozen embeddings, sampling and previews."""

import abc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from PIL import Image
from torch import Tensor, nn

from unclip.checkpoint import LazyTensor, NetworkWeights, save_network
from unclip.clip import TextImageEncoder
from unclip.diffusion import (
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
from unclip.model.families import family_of
from unclip.model.settings import PIXEL_BOUND, StageSettings
from unclip.models import DecoderConfig, KandinskyDecoderConfig, PriorConfig, UpsamplerConfig
from unclip.models.common import Standardized
from unclip.runtime import forked_random_state
from unclip.shapes import Images
from unclip.training.config import DecoderTaskConfig, PriorTaskConfig, TrainConfig, UpsamplerTaskConfig
from unclip.training.task import Batch, Request, Samples, Stream, Task
from unclip.training.tasks.samples import ImageEmbeddings

DiffusionTaskConfig: TypeAlias = PriorTaskConfig | DecoderTaskConfig | UpsamplerTaskConfig

SAMPLING = StageSettings(num_steps=16, sampler="dpm++")
"""How previews and figures are sampled: without guidance."""
COLUMNS = 12
"""Pictures in a row of a preview."""


class DiffusionTask(Task):
    """A stage that learns to denoise; a subclass says what, from which conditioning."""

    task: DiffusionTaskConfig
    x0_bound: float = PIXEL_BOUND
    """Largest absolute value of a predicted x0."""

    def __init__(
        self,
        config: TrainConfig,
        task: DiffusionTaskConfig,
        device: torch.device,
        samples: Samples,
        embeddings: ImageEmbeddings | None = None,
        encoder: TextImageEncoder | None = None,
    ) -> None:
        """Take the settings of the run and of its task, and the data.

        `embeddings` give the statistics of image embeddings; `encoder` reads what `samples` bring no features of.
        """
        self.task, self.device, self.samples = task, device, samples
        self.embeddings, self.encoder = embeddings, encoder
        self.seed, self.stage = config.seed, config.stage
        self.schedule = make_schedule(task.model.schedule, task.model.num_timesteps)

    def build(self) -> nn.Module:
        with forked_random_state(self.seed):
            build: Any = family_of(self.task.model).network
            network: nn.Module = build(self.task.model)
        if self.embeddings is not None and isinstance(network, Standardized):
            network.get_buffer("embedding_mean").copy_(self.embeddings.mean)
            network.get_buffer("embedding_std").copy_(self.embeddings.std)
        return network

    def x0(self, batch: Batch) -> Tensor:
        """Return the clean samples of a batch, in the numbers that the network denoises."""
        return from_uint8(batch["pixels"])

    @abc.abstractmethod
    def conditioning(self, batch: Batch) -> Mapping[str, Tensor | None]:
        """Return the keyword arguments of the network in the loss, besides x_t and t."""

    def forward(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        tensors, model = {**batch.tensors, "x0": self.x0(batch)}, self.task.model
        conditioning = self.conditioning(batch)
        losses = denoising_losses(
            network, model, self.schedule, self.task.weighting, tensors, conditioning, self.x0_bound
        )
        return {"loss": losses}

    def export(self, state: Mapping[str, LazyTensor], folder: Path) -> None:
        path = folder / f"{self.stage}.safetensors"
        kind = family_of(self.task.model).network.__name__
        weights = NetworkWeights(kind, self.task.model, state, str(path))
        save_network(path, weights, self.stage, "float32")


def denoising_losses(
    network: nn.Module,
    model: PriorConfig | DecoderConfig | KandinskyDecoderConfig | UpsamplerConfig,
    schedule: DiscreteSchedule,
    weighting: Weighting,
    batch: Mapping[str, Tensor],
    conditioning: Mapping[str, Tensor | None],
    x0_bound: float,
) -> Tensor:
    """Compute the loss of each sample, (batch,), at the `x0`, `noise` and times `t` of the batch.

    Where the batch has `self_condition` set, the network first estimates x0, within `x0_bound`, and then reads the
    estimate.
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
            estimated = estimate_x0(clip_x0(denoiser, x0_bound), x_t, t)
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


def draw_step(request: Request, task: DiffusionTaskConfig, shape: Sequence[int]) -> dict[str, Tensor]:
    """Draw the `noise` of samples of a shape, their times `t` and, for a self-conditioned network, `self_condition`.

    The last, (samples,) bool, is whether the network reads its own estimate: drawn once for a whole batch of training,
    so that the other batches are spared its cost; once for each held-out sample.
    """
    draws = {"noise": request.noise(shape), "t": draw_times(request, task.model.num_timesteps)}
    if not isinstance(task, UpsamplerTaskConfig) and task.model.self_conditioning:
        count = request.batch_size if request.is_held_out else 1
        is_shown = torch.rand(count, generator=request.shared(Stream.SELF_CONDITIONING)) < task.self_conditioning_prob
        draws["self_condition"] = is_shown.expand(request.batch_size)[torch.from_numpy(request.slots)]
    return draws


def preview_grid(real: Images, drawn: Images) -> Image.Image:
    """Lay out real pictures in [-1, 1] in the odd rows, and the drawn ones in the rows below."""
    pairs = to_pil(real), to_pil(drawn)
    columns = min(COLUMNS, len(real))
    rows = []
    for first in range(0, len(real), columns):
        for pictures in pairs:
            row = pictures[first : first + columns]
            rows += row + [Image.new("RGB", row[0].size, "white")] * (columns - len(row))
    return grid(rows, columns)
