"""Training of the autoencoder, whose latents a decoder learns to denoise."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from unclip.checkpoint import LazyTensor, load_weights, save_module
from unclip.clip import TextImageEncoder
from unclip.data import PictureSet
from unclip.errors import ConfigError
from unclip.images import from_uint8
from unclip.metrics import psnr
from unclip.model.families import family_of
from unclip.models import Autoencoder, ConvAutoencoder
from unclip.runtime import forked_random_state
from unclip.shapes import Images
from unclip.training.config import AutoencoderTaskConfig, TrainConfig
from unclip.training.task import Batch, Gather, Request, Task, TaskLoss
from unclip.training.tasks.adversarial import JudgedAutoencoder
from unclip.training.tasks.common import preview_grid
from unclip.training.tasks.samples import load_pictures, read_items, stack_pixels

NUM_PREVIEWS = 24
NUM_MEASURED = 512
"""Pictures that the statistics of the latents are measured on."""
MEASURED_TOGETHER = 64
NUM_SCALES = 3
"""Scales at which neighbouring pixels are compared: whole, half and quarter size."""


class AutoencoderTask(Task):
    """Pixels and their differences against the originals, and simple latents with noise on them.

    Features of a frozen CLIP and the judgement of a discriminator are further losses, off by default.
    """

    num_compared = None

    def __init__(
        self,
        task: AutoencoderTaskConfig,
        seed: int,
        samples: "AutoencoderSamples",
        encoder: TextImageEncoder | None = None,
    ) -> None:
        """Take the settings, the pictures and, for a feature loss, the frozen CLIP."""
        self.task, self.seed, self.samples, self.encoder = task, seed, samples, encoder

    @classmethod
    def open(cls, config: TrainConfig, task: AutoencoderTaskConfig, device: torch.device) -> "AutoencoderTask":
        """Open the task on the data that `config` names; raises `ConfigError` for a feature loss without a CLIP."""
        encoder: TextImageEncoder | None = None
        if task.feature_weight:
            if task.clip is None:
                raise ConfigError(
                    f"feature_weight={task.feature_weight} needs a CLIP whose features to compare; name one "
                    "(task.clip), or set task.feature_weight=0."
                )
            encoder = TextImageEncoder.load(task.clip, device)
            encoder.clip.need_vision().requires_grad_(False)
        pictures = load_pictures(config.data, task.image_size, channels=task.model.in_channels)
        return cls(task, config.seed, AutoencoderSamples(pictures, task), encoder)

    def build(self) -> nn.Module:
        with forked_random_state(self.seed):
            network = self._autoencoder()
            return JudgedAutoencoder(network) if self.task.adversarial_weight else network

    def exported(self, network: nn.Module) -> nn.Module:
        return network.get_submodule("autoencoder") if self.task.adversarial_weight else network

    def forward(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        images, task = from_uint8(batch["pixels"]), self.task
        judging = {"is_judged": bool(batch["is_judged"].any())} if task.adversarial_weight else {}
        made, penalty, *judgements = network(images, batch["noise"], task.latent_noise, **judging)
        made = made.float()
        losses = reconstruction_losses(made, images, task.gradient_weight) + task.regularizer_weight * penalty
        figures = {"penalty": penalty, "psnr": colour_psnr(made, images)}
        if self.encoder is not None:
            figures["features"] = feature_distances(self.encoder, made, images)
            losses = losses + task.feature_weight * figures["features"]
        for name, judgement in zip(("generator", "discriminator"), judgements, strict=False):
            figures[name] = judgement
            losses = losses + task.adversarial_weight * judgement
        return {"loss": losses, **{name: figure.detach() for name, figure in figures.items()}}

    def loss(self, network: nn.Module, rows: Mapping[str, Tensor], gather: Gather) -> TaskLoss:
        """Compute the mean loss; `psnr` is that of this batch, with the noise of training on its latents."""
        return TaskLoss(rows["loss"].mean(), {name: float(rows[name].mean()) for name in rows if name != "loss"})

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
        made = network(images.to(next(network.parameters()).device))[0]
        return preview_grid(images[:, :3], made[:, :3])

    def export(self, state: Mapping[str, LazyTensor], folder: Path) -> None:
        """Write the autoencoder with the statistics of its latents, measured on pictures spread over the set."""
        network = self._autoencoder().eval()
        prefix = "autoencoder." if self.task.adversarial_weight else ""
        tensors = {name.removeprefix(prefix): part.read() for name, part in state.items() if name.startswith(prefix)}
        load_weights(network, tensors, folder)
        network.measure(from_uint8(part) for part in self._spread(NUM_MEASURED).split(MEASURED_TOGETHER))
        save_module(folder / "autoencoder.safetensors", network, self.task.model, "autoencoder")

    def _autoencoder(self) -> Autoencoder | ConvAutoencoder:
        build: Any = family_of(self.task.model).network
        return cast(Autoencoder | ConvAutoencoder, build(self.task.model))

    def _spread(self, count: int) -> Tensor:
        pictures = cast(PictureSet, self.samples.source)
        chosen = np.unique(np.linspace(0, len(pictures) - 1, min(count, len(pictures))).astype(int))
        return stack_pixels(read_items(pictures, chosen)[0], self.task.image_size)


@dataclass(frozen=True, eq=False)
class AutoencoderSamples:
    """Pictures, noise for their latents and, with a discriminator, whether it judges them."""

    source: PictureSet
    task: AutoencoderTaskConfig

    def __call__(self, request: Request) -> Batch:
        items, _, skipped = read_items(self.source, request.indices)
        size, model = self.task.image_size, self.task.model
        side = size // model.downsampling
        noise = request.noise((model.latent_channels, side, side))
        tensors = {"pixels": stack_pixels(items, size), "noise": noise}
        if self.task.adversarial_weight:
            # Held-out losses of any two moments must be of the same kind.
            is_judged = not request.is_held_out and request.images_seen >= self.task.adversarial_images
            tensors["is_judged"] = torch.full((len(items),), is_judged)
        return Batch(tensors, skipped)


def reconstruction_losses(made: Images, images: Images, gradient_weight: float) -> Float[Tensor, " batch"]:
    """Compute each picture's mean absolute error and, weighted, that of its pixels' differences at three scales."""
    losses = _distances(made, images)
    for scale in range(NUM_SCALES):
        if scale:
            made, images = F.avg_pool2d(made, 2), F.avg_pool2d(images, 2)
        for axis in (2, 3):
            losses = losses + gradient_weight / NUM_SCALES * _distances(made.diff(dim=axis), images.diff(dim=axis))
    return losses


def feature_distances(encoder: TextImageEncoder, made: Images, images: Images) -> Float[Tensor, " batch"]:
    """Compute 1 less the cosine of CLIP's features of each pair of pictures; gradients reach `made`."""
    with torch.autocast(made.device.type, enabled=False):
        features = encoder.clip.encode_pixels(made[:, :3])
        return 1.0 - F.cosine_similarity(features, encoder.encode_image(images[:, :3]), dim=1)


def colour_psnr(made: Images, images: Images) -> Float[Tensor, " batch"]:
    """Compute the PSNR in dB of each picture's colours, clipped to the range; at most 100."""
    return psnr(made.clamp(-1.0, 1.0)[:, :3], images[:, :3]).float().clamp_max(100.0)


def _distances(made: Tensor, images: Tensor) -> Tensor:
    return (made - images).abs().flatten(1).mean(dim=1)
