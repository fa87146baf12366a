"""Training of an upsampler on crops of large pictures and their shrunken, damaged copies."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from unclip.data import PictureSet
from unclip.errors import ConfigError
from unclip.images import from_uint8, resize
from unclip.models import Upsampler, UpsamplerConfig
from unclip.pipelines import UpsamplerStage, run_to_end
from unclip.runtime import NoiseSource
from unclip.training.config import TrainConfig, UpsamplerTaskConfig
from unclip.training.task import Batch, Request
from unclip.training.tasks.common import SAMPLING, DiffusionTask, draw_step, preview_grid
from unclip.training.tasks.degrade import blur, degrade
from unclip.training.tasks.samples import load_pictures, read_items, stack_pixels

NUM_PREVIEWS = 4
PREVIEW_SIZE = 256
"""Side of a preview; of larger pictures the middle is shown."""
BLUR_TAPS = 5
MARGINS = {"blur": 2, "bsr": 8}
"""Pixels of the small picture around a crop: the reach of the bicubic kernel, and of damage that moves pixels further.
"""


class UpsamplerTask(DiffusionTask):
    """Denoises a crop given the small picture, which is blurred and noised so that a decoder's flaws look familiar."""

    task: UpsamplerTaskConfig

    @classmethod
    def open(cls, config: TrainConfig, task: UpsamplerTaskConfig, device: torch.device) -> "UpsamplerTask":
        """Open the task on the data that `config` names.

        Raises `ConfigError` for crops that do not fit, and for noise of a level that the network cannot read.
        """
        model, factor = task.model, enlargement(task.model)
        if task.crop_size % factor or task.crop_size > model.image_size:
            raise ConfigError(
                f"crop_size={task.crop_size} must be a multiple of {factor} (image_size / low_res_size) "
                f"and at most {model.image_size}."
            )
        if task.max_augmentation and not model.noise_conditioning:
            raise ConfigError(
                f"max_augmentation={task.max_augmentation} adds noise whose level the network has to read, which "
                "model.noise_conditioning=false rules out; set task.max_augmentation=0, or noise_conditioning=true."
            )
        pictures = load_pictures(config.data, model.image_size, model.low_res_size, channels=model.in_channels)
        return cls(config, task, device, UpsamplerSamples(pictures, task))

    def conditioning(self, batch: Batch) -> dict[str, Tensor | None]:
        """Enlarge the small crop as part of its whole picture, so that the margin falls away."""
        factor = enlargement(self.task.model)
        margin = MARGINS[self.task.degradation] * factor
        enlarged = resize(batch["low_res"], batch["low_res"].shape[-1] * factor)
        level = {"augmentation": batch["augmentation"]} if self.task.model.noise_conditioning else {}
        return {"low_res": enlarged[..., margin:-margin, margin:-margin], **level}

    @torch.inference_mode()
    def preview(self, network: nn.Module) -> Image.Image:
        """Draw real pictures above, and below what the upsampler makes of their small copies."""
        model, pictures = self.task.model, cast(PictureSet, self.samples.source)
        chosen = np.linspace(0, len(pictures) - 1, min(NUM_PREVIEWS, len(pictures))).astype(int)
        size = min(model.image_size, PREVIEW_SIZE)
        items, _, _ = read_items(pictures, chosen)

        def middle(image_size: int, side: int) -> Tensor:
            start = (image_size - side) // 2
            return stack_pixels(items, image_size)[:, start : start + side, start : start + side]

        low_res = from_uint8(middle(model.low_res_size, size // enlargement(model))).to(self.device)
        stage, noise = UpsamplerStage(cast(Upsampler, network), SAMPLING), NoiseSource.from_seeds(range(len(items)))
        drawn = run_to_end(stage.steps(low_res, noise, SAMPLING, size=(size, size)))
        return preview_grid(from_uint8(middle(model.image_size, size))[:, :3], drawn[:, :3])


def enlargement(model: UpsamplerConfig) -> int:
    """Return the side of a large picture over that of the small one."""
    return model.image_size // model.low_res_size


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
        low_res, draw = from_uint8(small), request.uniform(3).T
        # Random damage, then Gaussian noise of a random level.
        if task.degradation == "bsr":
            low_res = degrade(low_res, request.generators)
        else:
            sigma = draw[0] * task.blur_sigma
            blurred = blur(low_res, sigma, sigma, torch.zeros_like(sigma), BLUR_TAPS)
            low_res = torch.where((draw[1] < task.blur_prob)[:, None, None, None], blurred, low_res)
        level = draw[2] * task.max_augmentation
        low_res = low_res + level[:, None, None, None] * request.noise(low_res.shape[1:])
        tensors = {"pixels": torch.from_numpy(large), "low_res": low_res, "augmentation": level}
        shape = (task.model.in_channels, task.crop_size, task.crop_size)
        return Batch({**tensors, **draw_step(request, task, shape)}, skipped)

    def _crop(self, pixels: Mapping[int, np.ndarray], generator: torch.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Cut a crop of the large picture, and the same place of the small one with a margin around it.

        Corners lie on the small picture's grid; beyond its edge the edge is repeated.
        """
        model, margin = self.task.model, MARGINS[self.task.degradation]
        factor = enlargement(model)
        size = self.task.crop_size // factor
        y, x = torch.randint(0, model.low_res_size - size + 1, (2,), generator=generator).tolist()

        def cut(picture: np.ndarray, top: int, left: int, side: int) -> np.ndarray:
            return picture[top : top + side, left : left + side]

        padded = np.pad(pixels[model.low_res_size], ((margin, margin), (margin, margin), (0, 0)), "edge")
        large = cut(pixels[model.image_size], y * factor, x * factor, self.task.crop_size)
        return large, cut(padded, y, x, size + 2 * margin)
