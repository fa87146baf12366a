"""Training of the autoencoder, whose latents a decoder learns to denoise."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from unclip.checkpoint import LazyTensor, load_weights, save_module
from unclip.data import PictureSet
from unclip.images import from_uint8
from unclip.metrics import psnr
from unclip.models import ConvAutoencoder
from unclip.runtime import forked_random_state
from unclip.shapes import Images
from unclip.training.config import AutoencoderTaskConfig, TrainConfig
from unclip.training.task import Batch, Gather, Request, Task, TaskLoss
from unclip.training.tasks.common import preview_grid
from unclip.training.tasks.samples import load_pictures, read_items, stack_pixels

NUM_PREVIEWS = 24
NUM_MEASURED = 512
"""Pictures that the statistics of the latents are measured on."""
MEASURED_TOGETHER = 64
NUM_SCALES = 3
"""Scales at which neighbouring pixels are compared: whole, half and quarter size."""


class AutoencoderTask(Task):
    """Pixels and their differences against the originals, and simple latents with noise on them."""

    num_compared = None

    def __init__(self, task: AutoencoderTaskConfig, seed: int, samples: "AutoencoderSamples") -> None:
        """Take the settings and the pictures."""
        self.task, self.seed, self.samples = task, seed, samples

    @classmethod
    def open(cls, config: TrainConfig, task: AutoencoderTaskConfig) -> "AutoencoderTask":
        """Open the task on the data that `config` names."""
        pictures = load_pictures(config.data, task.image_size, channels=task.model.in_channels)
        return cls(task, config.seed, AutoencoderSamples(pictures, task))

    def build(self) -> ConvAutoencoder:
        with forked_random_state(self.seed):
            return ConvAutoencoder(self.task.model)

    def forward(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        images, task = from_uint8(batch["pixels"]), self.task
        made, penalty = network(images, batch["noise"], task.latent_noise)
        made = made.float()
        pixels = reconstruction_losses(made, images, task.gradient_weight)
        figures = {"penalty": penalty.detach(), "psnr": colour_psnr(made.detach(), images)}
        return {"loss": pixels + task.regularizer_weight * penalty, **figures}

    def loss(self, network: nn.Module, rows: Mapping[str, Tensor], gather: Gather) -> TaskLoss:
        """Compute the mean loss; `psnr` is that of this batch, with the noise of training on its latents."""
        return TaskLoss(rows["loss"].mean(), {name: float(rows[name].mean()) for name in ("psnr", "penalty")})

    def draw(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return the PSNR of held-out pictures that went through the means of their latents."""
        images = from_uint8(batch["pixels"])
        return {"psnr": colour_psnr(network(images)[0].float(), images)}

    def figures(self, rows: Mapping[str, Tensor]) -> dict[str, float]:
        """Compute `psnr`: the mean over held-out pictures, in dB."""
        return {"psnr": float(rows["psnr"].mean())}

    @torch.inference_mode()
    def preview(self, network: nn.Module) -> Image.Image:
        """Draw real pictures in the odd rows, and below each what is left of it."""
        images = from_uint8(self._spread(NUM_PREVIEWS))
        made, _ = network(images.to(next(network.parameters()).device))
        return preview_grid(images[:, :3], made[:, :3])

    def export(self, state: Mapping[str, LazyTensor], folder: Path) -> None:
        """Write the network with the statistics of its latents, measured on pictures spread over the set."""
        network = ConvAutoencoder(self.task.model).eval()
        load_weights(network, {name: tensor.read() for name, tensor in state.items()}, folder)
        network.measure([from_uint8(part) for part in self._spread(NUM_MEASURED).split(MEASURED_TOGETHER)])
        save_module(folder / "autoencoder.safetensors", network, self.task.model, "autoencoder")

    def _spread(self, count: int) -> Tensor:
        pictures = cast(PictureSet, self.samples.source)
        chosen = np.unique(np.linspace(0, len(pictures) - 1, min(count, len(pictures))).astype(int))
        return stack_pixels(read_items(pictures, chosen)[0], self.task.image_size)


@dataclass(frozen=True, eq=False)
class AutoencoderSamples:
    """Pictures, and noise for their latents."""

    source: PictureSet
    task: AutoencoderTaskConfig

    def __call__(self, request: Request) -> Batch:
        items, _, skipped = read_items(self.source, request.indices)
        size, model = self.task.image_size, self.task.model
        side = size // model.downsampling
        noise = request.noise((model.latent_channels, side, side))
        return Batch({"pixels": stack_pixels(items, size), "noise": noise}, skipped)


def reconstruction_losses(made: Images, images: Images, gradient_weight: float) -> Float[Tensor, " batch"]:
    """Compute each picture's mean absolute error and, weighted, that of its pixels' differences at three scales."""
    losses = _distances(made, images)
    for scale in range(NUM_SCALES):
        if scale:
            made, images = F.avg_pool2d(made, 2), F.avg_pool2d(images, 2)
        for axis in (2, 3):
            losses = losses + gradient_weight / NUM_SCALES * _distances(made.diff(dim=axis), images.diff(dim=axis))
    return losses


def colour_psnr(made: Images, images: Images) -> Float[Tensor, " batch"]:
    """Compute the PSNR in dB of each picture's colours, clipped to the range; at most 100."""
    return psnr(made.clamp(-1.0, 1.0)[:, :3], images[:, :3]).float().clamp_max(100.0)


def _distances(made: Tensor, images: Tensor) -> Tensor:
    return (made - images).abs().flatten(1).mean(dim=1)
