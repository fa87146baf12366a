"""Pictures of which a part is unknown: resized, and joined with what was painted. Knows tensors; no stage."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from unclip.images import resize
from unclip.shapes import Images

__all__ = ["Mask", "join", "resize_known", "resize_mask", "soft_edge"]

Mask = Float[Tensor, "1 1 _height _width"]
"""1 where something is to be painted, 0 where a picture stays."""


def resize_mask(mask: Mask, size: tuple[int, int]) -> Mask:
    """The mask at (height, width): 0 only for a pixel that lies wholly in what is known."""
    return mask if mask.shape[-2:] == size else F.adaptive_max_pool2d(mask, size)


def resize_known(
    pictures: Images, mask: Mask, size: tuple[int, int]
) -> Float[Tensor, "batch channels new_height new_width"]:
    """The known part at (height, width), from known pixels alone: what the mask hides does not bleed into its borders.

    A bicubic mean over what is known, divided by its weights; 0, which is grey, where nothing known is near.
    """
    weights = resize(1.0 - mask, size)
    # Of a pixel that is wholly known the weights sum to 0.2 or more, since its own pixels weigh most.
    return (resize(pictures * (1.0 - mask), size) / weights.clamp(min=0.1)).clamp(-1.0, 1.0)


def join(pictures: Images, painted: Images, mask: Mask, feather: int) -> Images:
    """`pictures` where the mask is 0, bit for bit; `painted` where it is 1, which fades in over `feather` pixels.

    It fades into the mean of known pixels that are no further away than that, and not into what the mask hides.
    """
    known = torch.where(mask == 0, pictures, _mean_of_known(pictures, mask, feather))
    return torch.lerp(known, painted, soft_edge(mask, feather))


def soft_edge(mask: Mask, feather: int) -> Mask:
    """min(d, feather + 1) / (feather + 1), with d the steps (king's moves) to the nearest pixel where the mask is 0.

    So it is 0 there, and 1 in all that is more than `feather` pixels inside. Beyond the borders nothing is known.
    """
    weights, eroded = mask, mask
    for done in range(feather):
        if bool((eroded == eroded.amax()).all()):
            return (weights + (feather - done) * eroded) / (feather + 1)
        eroded = -F.max_pool2d(-eroded, kernel_size=3, stride=1, padding=1)
        weights = weights + eroded
    return weights / (feather + 1)


def _mean_of_known(pictures: Images, mask: Mask, radius: int) -> Images:
    known, radius = 1.0 - mask, min(radius, max(mask.shape))
    return _box_blur(pictures * known, radius) / _box_blur(known, radius).clamp(min=1e-6)


def _box_blur(images: Images, radius: int) -> Images:
    """The mean over a square of 2 radius + 1 pixels, with zeros beyond the borders."""
    for height, width in ((2 * radius + 1, 1), (1, 2 * radius + 1)):
        images = F.avg_pool2d(images, (height, width), stride=1, padding=(height // 2, width // 2))
    return images
