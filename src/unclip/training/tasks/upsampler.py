"""Training of an upsampler on crops of large pictures and their shrunken, damaged copies. Knows no CLIP."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from unclip.checkpoint import Storage, save_module
from unclip.diffusion import add_noise, diffusion_loss, make_schedule
from unclip.errors import ConfigError
from unclip.images import from_uint8, resize
from unclip.models import Upsampler
from unclip.training.config import TrainConfig, UpsamplerTaskConfig
from unclip.training.task import Task, TaskLoss
from unclip.training.tasks.common import draw_times, load_pictures, seeded_network
from unclip.training.tasks.degrade import degrade
from unclip.training.tasks.preview import preview_grid

__all__ = ["UpsamplerTask", "blur"]

NUM_PREVIEWS = 4
BLUR_TAPS = 5
PREVIEW_SIZE = 256  # of larger pictures the middle is shown
# Pixels of the small picture around a crop: the reach of the bicubic kernel, and of a damage that moves pixels further.
MARGINS = {"blur": 2, "bsr": 8}


class UpsamplerTask(Task):
    """Denoises a crop given the small picture, which is blurred and noised so that a decoder's flaws look familiar."""

    def __init__(self, config: TrainConfig, task: UpsamplerTaskConfig, device: torch.device) -> None:
        self.task, self.device = task, device
        model = task.model
        self.factor = model.image_size // model.low_res_size
        self.margin = MARGINS[task.degradation]
        if task.crop_size % self.factor or task.crop_size > model.image_size:
            raise ConfigError(
                f"crop_size={task.crop_size} must be a multiple of {self.factor} (image_size / low_res_size) "
                f"and at most {model.image_size}."
            )
        self.pictures = load_pictures(config.data, model.image_size)
        self.small = load_pictures(config.data, model.low_res_size)
        self.num_items = len(self.pictures.keys)
        self.network = seeded_network(lambda: Upsampler(model), config.seed, device)
        self.schedule = make_schedule(model.schedule, model.num_timesteps)

    def loss(self, indices: np.ndarray, generator: torch.Generator) -> TaskLoss:
        model = self.task.model
        x0, low_res = self._crops(indices, generator)
        low_res, augmentation = self._damage(low_res, generator)
        low_res = self._enlarge(low_res)
        noise = torch.randn(x0.shape, generator=generator).to(self.device)
        t = draw_times(len(x0), model.num_timesteps, generator).to(self.device)
        x_t = add_noise(self.schedule, x0, noise, t)
        output = self.network(x_t, self.schedule.timestep(t).float(), low_res, augmentation)
        losses = diffusion_loss(
            output, model.prediction_type, self.schedule, x0, noise, x_t, t, self.task.weighting, model.learned_variance
        )
        return TaskLoss(losses.mean(), {})

    def _crops(self, indices: np.ndarray, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Crops of the large pictures, and the same places of the small ones with `margin` pixels around them.

        Corners lie on the small picture's grid; beyond its edge the edge is repeated.
        """
        size = self.task.crop_size // self.factor
        corners = torch.randint(0, self.task.model.low_res_size - size + 1, (len(indices), 2), generator=generator)
        places = list(zip(indices, corners.tolist(), strict=True))
        large = [
            _cut(self.pictures.images[i], y * self.factor, x * self.factor, self.task.crop_size) for i, (y, x) in places
        ]
        border = ((self.margin, self.margin), (self.margin, self.margin), (0, 0))
        small = [
            _cut(np.pad(self.small.images[i], border, "edge"), y, x, size + 2 * self.margin) for i, (y, x) in places
        ]
        return from_uint8(np.stack(large)).to(self.device), from_uint8(np.stack(small)).to(self.device)

    def _enlarge(self, low_res: Tensor) -> Tensor:
        """What the network sees of a small crop when it is enlarged as part of its whole picture: the margin goes."""
        margin = self.margin * self.factor
        enlarged = resize(low_res, low_res.shape[-1] * self.factor)
        return enlarged[..., margin:-margin, margin:-margin]

    def _damage(self, low_res: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Random damage, then Gaussian noise of a random level; the level is returned for the network."""
        draw = torch.rand(3, len(low_res), generator=generator).to(self.device)
        if self.task.degradation == "bsr":
            low_res = degrade(low_res, generator)
        else:
            blurred = blur(low_res, draw[0] * self.task.blur_sigma)
            low_res = torch.where((draw[1] < self.task.blur_prob)[:, None, None, None], blurred, low_res)
        augmentation = draw[2] * self.task.max_augmentation
        noise = torch.randn(low_res.shape, generator=generator).to(self.device)
        return low_res + augmentation[:, None, None, None] * noise, augmentation

    @torch.inference_mode()
    def preview(self, network: nn.Module) -> Image.Image | None:
        """Real pictures above, what the upsampler makes of their small copies below."""
        chosen = np.linspace(0, self.num_items - 1, min(NUM_PREVIEWS, self.num_items)).astype(int)
        size = min(self.task.model.image_size, PREVIEW_SIZE)
        low_res = from_uint8(_middle(self.small.images[chosen], size // self.factor)).to(self.device)
        conditioning = {"low_res": low_res, "augmentation": torch.zeros(len(chosen), device=self.device)}
        real = _middle(self.pictures.images[chosen], size)
        return preview_grid(network, self.task.model, conditioning, real, self.device)

    def export(self, network: nn.Module, folder: Path, storage: Storage) -> None:
        name = f"upsampler_{self.task.model.image_size}"
        save_module(folder / f"{name}.safetensors", network, self.task.model, name, storage)


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur, one standard deviation (pixels) per picture; edges are replicated."""
    offsets = torch.arange(BLUR_TAPS, device=images.device) - BLUR_TAPS // 2
    taps = torch.exp(-0.5 * (offsets / sigma.clamp_min(1e-3)[:, None]) ** 2)
    taps = taps / taps.sum(dim=1, keepdim=True)
    batch, channels, height, width = images.shape
    pad = BLUR_TAPS // 2
    flat = F.pad(images, (pad, pad, pad, pad), mode="replicate").reshape(1, batch * channels, height + 2 * pad, -1)
    taps = taps.repeat_interleave(channels, dim=0)
    flat = F.conv2d(flat, taps[:, None, :, None], groups=batch * channels)
    flat = F.conv2d(flat, taps[:, None, None, :], groups=batch * channels)
    return flat.reshape(batch, channels, height, width)


def _cut(picture: np.ndarray, top: int, left: int, size: int) -> np.ndarray:
    return picture[top : top + size, left : left + size]


def _middle(pictures: np.ndarray, size: int) -> np.ndarray:
    start = (pictures.shape[1] - size) // 2
    return pictures[:, start : start + size, start : start + size]
