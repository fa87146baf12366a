"""Sample grids during training: fixed pictures, fixed noise, few steps. Knows any pixel stage; no files."""

from collections.abc import Mapping

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from unclip.diffusion import make_schedule
from unclip.images import from_uint8, grid, to_pil
from unclip.models import DecoderConfig, UpsamplerConfig
from unclip.runtime import NoiseSource
from unclip.training.tasks.drawing import draw

__all__ = ["preview_grid"]

COLUMNS = 12


def preview_grid(
    network: nn.Module,
    model: DecoderConfig | UpsamplerConfig,
    conditioning: Mapping[str, Tensor],
    real: np.ndarray,
    device: torch.device,
) -> Image.Image:
    """`real` (uint8, batch first) in the odd rows, samples for `conditioning` in the rows below."""
    schedule = make_schedule(model.schedule, model.num_timesteps)
    noise = NoiseSource.from_seeds(range(len(real)))((3, *real.shape[1:3]), device)
    drawn = draw(network, model, schedule, conditioning, noise)
    pairs = to_pil(from_uint8(np.asarray(real))), to_pil(drawn)
    columns = min(COLUMNS, len(real))
    rows = []
    for first in range(0, len(real), columns):
        for pictures in pairs:
            row = pictures[first : first + columns]
            rows += row + [Image.new("RGB", row[0].size, "white")] * (columns - len(row))
    return grid(rows, columns)
