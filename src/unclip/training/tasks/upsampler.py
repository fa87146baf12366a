"""Training of an upsampler on crops of large pictures and their shrunken, damaged copies. Knows no CLIP."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from unclip.checkpoint import LazyTensor, NetworkWeights, save_network
from unclip.data import PictureSet
from unclip.diffusion import make_schedule
from unclip.errors import ConfigError
from unclip.images import from_uint8, resize
from unclip.models import Upsampler
from unclip.training.config import TrainConfig, UpsamplerTaskConfig
from unclip.training.task import Batch, Request, Task, TaskLoss
from unclip.training.tasks.common import (
    denoising_losses,
    draw_times,
    load_pictures,
    read_items,
    seeded_network,
    stack_pixels,
)
from unclip.training.tasks.degrade import degrade
from unclip.training.tasks.drawing import preview_grid

NUM_PREVIEWS = 4
BLUR_TAPS = 5
PREVIEW_SIZE = 256  # of larger pictures the middle is shown
# Pixels of the small picture around a crop: the reach of the bicubic kernel, and of a damage that moves pixels further.
MARGINS = {"blur": 2, "bsr": 8}


class UpsamplerTask(Task):
    """Denoises a crop given the small picture, which is blurred and noised so that a decoder's flaws look familiar."""

    samples: "UpsamplerSamples"

    def __init__(self, task: UpsamplerTaskConfig, seed: int, device: torch.device, samples: "UpsamplerSamples") -> None:
        """Raises `ConfigError` for crops that do not fit, and for noise that the network cannot be told."""
        _check(task)
        self.task, self.device, self.seed, self.samples = task, device, seed, samples
        model = task.model
        self.factor = model.image_size // model.low_res_size
        self.schedule = make_schedule(model.schedule, model.num_timesteps)

    @classmethod
    def open(cls, config: TrainConfig, task: UpsamplerTaskConfig, device: torch.device) -> "UpsamplerTask":
        """The task on the data that `config` names."""
        # Before pictures are decoded, which may take long.
        _check(task)
        pictures = load_pictures(config.data, task.model.image_size, task.model.low_res_size)
        return cls(task, config.seed, device, UpsamplerSamples(pictures, task))

    def build(self) -> Upsampler:
        return seeded_network(lambda: Upsampler(self.task.model), self.seed)

    def loss(self, network: nn.Module, batch: Batch) -> TaskLoss:
        return TaskLoss(self._losses(network, batch).mean(), {})

    def held_out(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return {"loss": self._losses(network, batch)}

    def _losses(self, network: nn.Module, batch: Batch) -> Tensor:
        tensors = {**batch.tensors, "x0": from_uint8(batch["pixels"])}
        conditioning = self._conditioning(self._enlarge(batch["low_res"]), batch["augmentation"])
        return denoising_losses(network, self.task.model, self.schedule, self.task.weighting, tensors, conditioning)

    def _conditioning(self, low_res: Tensor, augmentation: Tensor) -> dict[str, Tensor]:
        told = {"augmentation": augmentation} if self.task.model.noise_conditioning else {}
        return {"low_res": low_res, **told}

    def _enlarge(self, low_res: Tensor) -> Tensor:
        """What the network sees of a small crop when it is enlarged as part of its whole picture: the margin goes."""
        margin = MARGINS[self.task.degradation] * self.factor
        enlarged = resize(low_res, low_res.shape[-1] * self.factor)
        return enlarged[..., margin:-margin, margin:-margin]

    @torch.inference_mode()
    def preview(self, network: nn.Module) -> Image.Image | None:
        """Real pictures above, what the upsampler makes of their small copies below."""
        model, pictures = self.task.model, self.samples.source
        chosen = np.linspace(0, len(pictures) - 1, min(NUM_PREVIEWS, len(pictures))).astype(int)
        size = min(model.image_size, PREVIEW_SIZE)
        items = read_items(pictures, chosen).items
        low_res = from_uint8(_middle(stack_pixels(items, model.low_res_size), size // self.factor)).to(self.device)
        conditioning = self._conditioning(low_res, torch.zeros(len(items), device=self.device))
        real = _middle(stack_pixels(items, model.image_size), size).numpy()
        return preview_grid(network, model, conditioning, real, self.device)

    def export(self, state: Mapping[str, LazyTensor], folder: Path) -> None:
        name = f"upsampler_{self.task.model.image_size}"
        path = folder / f"{name}.safetensors"
        weights = NetworkWeights(Upsampler.__name__, self.task.model, state, str(path))
        save_network(path, weights, name, "float32")


def _check(task: UpsamplerTaskConfig) -> None:
    model, factor = task.model, task.model.image_size // task.model.low_res_size
    if task.crop_size % factor or task.crop_size > model.image_size:
        raise ConfigError(
            f"crop_size={task.crop_size} must be a multiple of {factor} (image_size / low_res_size) "
            f"and at most {model.image_size}."
        )
    if task.max_augmentation and not model.noise_conditioning:
        raise ConfigError(
            f"max_augmentation={task.max_augmentation} adds noise whose level the network must be told, which "
            "model.noise_conditioning=false rules out; set task.max_augmentation=0, or noise_conditioning=true."
        )


@dataclass(frozen=True, eq=False)
class UpsamplerSamples:
    """Crops of large pictures, and the same places of their small copies, damaged."""

    source: PictureSet
    task: UpsamplerTaskConfig

    def __call__(self, request: Request) -> Batch:
        task = self.task
        items, _, skipped = read_items(self.source, request.indices)
        crops = [self._crop(item.pixels, generator) for item, generator in zip(items, request.generators, strict=True)]
        large, small = (np.stack(side) for side in zip(*crops, strict=True))
        low_res, augmentation = self._damage(from_uint8(small), request)
        tensors = {
            "pixels": torch.from_numpy(large),
            "low_res": low_res,
            "augmentation": augmentation,
            "noise": request.noise((3, task.crop_size, task.crop_size)),
            "t": draw_times(request, task.model.num_timesteps),
        }
        return Batch(tensors, skipped)

    def _crop(self, pixels: Mapping[int, np.ndarray], generator: torch.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A crop of the large picture, and the same place of the small one with a margin around it.

        Corners lie on the small picture's grid; beyond its edge the edge is repeated.
        """
        model, margin = self.task.model, MARGINS[self.task.degradation]
        factor = model.image_size // model.low_res_size
        size = self.task.crop_size // factor
        y, x = torch.randint(0, model.low_res_size - size + 1, (2,), generator=generator).tolist()
        large = _cut(pixels[model.image_size], y * factor, x * factor, self.task.crop_size)
        padded = np.pad(pixels[model.low_res_size], ((margin, margin), (margin, margin), (0, 0)), "edge")
        return large, _cut(padded, y, x, size + 2 * margin)

    def _damage(self, low_res: Tensor, request: Request) -> tuple[Tensor, Tensor]:
        """Random damage, then Gaussian noise of a random level; the level is returned for the network."""
        draw = request.uniform(3).T
        if self.task.degradation == "bsr":
            rows = zip(low_res, request.generators, strict=True)
            low_res = torch.cat([degrade(row[None], generator) for row, generator in rows])
        else:
            blurred = blur(low_res, draw[0] * self.task.blur_sigma)
            low_res = torch.where((draw[1] < self.task.blur_prob)[:, None, None, None], blurred, low_res)
        augmentation = draw[2] * self.task.max_augmentation
        return low_res + augmentation[:, None, None, None] * request.noise(low_res.shape[1:]), augmentation


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


def _middle(pictures: Tensor, size: int) -> Tensor:
    start = (pictures.shape[1] - size) // 2
    return pictures[:, start : start + size, start : start + size]
