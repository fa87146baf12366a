"""Change pictures at random, as drawn ones differ from real ones: moved, recoloured, blurred, cut, compressed."""

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

MOVED_PROB, COLOURED_PROB, NOISY_PROB, CUT_PROB, SOFT_PROB, COMPRESSED_PROB = 0.8, 0.6, 0.2, 0.25, 0.3, 0.1
BLOCK = 8
"""Side of the blocks that are compressed, as in JPEG."""
# Luminance and two axes of colour (YIQ, of the NTSC): hue is an angle between the latter.
YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


def augment(images: Tensor, generator: Generator) -> Tensor:
    """Change each of the pictures (batch, 3, side, side) in [-1, 1], on white, on its own; the shape stays."""
    darkness = (1.0 - images) / 2.0  # white is 0, so that what comes in from outside is white
    for change, prob in ((move, MOVED_PROB), (recolour, COLOURED_PROB), (cut_out, CUT_PROB), (soften, SOFT_PROB)):
        darkness = _sometimes(change, darkness, prob, generator)
    darkness = _sometimes(compress, darkness, COMPRESSED_PROB, generator)
    darkness = _sometimes(add_noise, darkness, NOISY_PROB, generator)
    return (1.0 - 2.0 * darkness).clamp(-1.0, 1.0)


def move(x: Tensor, generator: Generator) -> Tensor:
    """Shift by up to an eighth, scale by 0.7 to 1.2, rotate by up to 12 degrees: arrows stay what they are."""
    count = len(x)
    angle = _uniform(count, -12.0, 12.0, generator) * (math.pi / 180.0)
    width, height = (1.0 / _uniform(count, *bounds, generator) for bounds in ((0.7, 1.2), (0.9, 1.1)))
    cos, sin = angle.cos() * width, angle.sin() * width
    shift = [_uniform(count, -0.25, 0.25, generator) for _ in range(2)]
    rows = torch.stack([cos, -sin, shift[0], sin * height, cos * height, shift[1]], dim=1)
    grid = F.affine_grid(rows.view(-1, 2, 3), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def recolour(x: Tensor, generator: Generator) -> Tensor:
    """Turn hues by up to 15 degrees, scale saturation by 0.7 to 1.3 and darkness by 0.8 to 1.2; white stays white."""
    count = len(x)
    angle = _uniform(count, -15.0, 15.0, generator) * (math.pi / 180.0)
    saturation, strength = (_uniform(count, *bounds, generator) for bounds in ((0.7, 1.3), (0.8, 1.2)))
    turn = torch.zeros(count, 3, 3)
    turn[:, 0, 0] = 1.0
    turn[:, 1, 1] = turn[:, 2, 2] = angle.cos() * saturation
    turn[:, 2, 1] = angle.sin() * saturation
    turn[:, 1, 2] = -turn[:, 2, 1]
    matrix = torch.linalg.inv(YIQ) @ turn @ YIQ * strength[:, None, None]
    return torch.einsum("nij,njhw->nihw", matrix, x).clamp(0.0, 1.0)


def cut_out(x: Tensor, generator: Generator) -> Tensor:
    """Fill a rectangle of up to 0.4 of either side with white or one colour."""
    count, side = len(x), x.shape[-1]
    places = torch.arange(side)
    masks = []
    for _ in range(2):
        length = (_uniform(count, 0.1, 0.4, generator) * side)[:, None]
        start = (_uniform(count, -0.1, 0.9, generator) * side)[:, None]
        masks.append((places >= start) & (places < start + length))
    mask = masks[0][:, None, :, None] & masks[1][:, None, None, :]
    colour = torch.rand(count, 3, 1, 1, generator=generator)
    colour *= (torch.rand(count, 1, 1, 1, generator=generator) < 0.5).float()
    return torch.where(mask, colour, x)


def soften(x: Tensor, generator: Generator) -> Tensor:
    """Blur by down-scaling to 16 to 48 pixels and back, each half of the pictures by a size of its own."""
    side, parts = x.shape[-1], []
    for part in x.chunk(2):
        size = int(torch.randint(side // 4, 3 * side // 4 + 1, (), generator=generator))
        small = F.interpolate(part, (size, size), mode="bilinear", antialias=True)
        parts.append(F.interpolate(small, (side, side), mode="bilinear"))
    return torch.cat(parts)


def compress(x: Tensor, generator: Generator) -> Tensor:
    """Round the cosine coefficients of 8 x 8 blocks, high frequencies more coarsely, as JPEG does."""
    place = torch.arange(BLOCK)
    basis = torch.cos(math.pi / BLOCK * (place[None, :] + 0.5) * place[:, None]) * math.sqrt(2.0 / BLOCK)
    basis[0] /= math.sqrt(2.0)
    coarseness = (1.0 + place[:, None] + place[None, :])[:, None, :]  # (u, 1, v)
    step = _uniform(len(x), 0.02, 0.12, generator)[:, None, None, None, None, None] * coarseness
    count, channels, side, _ = x.shape
    blocks = x.reshape(count, channels, side // BLOCK, BLOCK, side // BLOCK, BLOCK)
    waves = torch.einsum("ua,nciajb,vb->nciujv", basis, blocks, basis)
    waves = (waves / step).round() * step
    return torch.einsum("ua,nciujv,vb->nciajb", basis, waves, basis).reshape(x.shape).clamp(0.0, 1.0)


def add_noise(x: Tensor, generator: Generator) -> Tensor:
    """Add normal noise of a deviation of up to 0.08 of the range."""
    deviation = _uniform(len(x), 0.0, 0.08, generator)[:, None, None, None]
    return x + deviation * torch.randn(x.shape, generator=generator)


def _sometimes(change, x: Tensor, prob: float, generator: Generator) -> Tensor:
    chosen = torch.rand(len(x), generator=generator) < prob
    if not chosen.any():
        return x
    changed = x.clone()
    changed[chosen] = change(x[chosen], generator)
    return changed


def _uniform(count: int, low: float, high: float, generator: Generator) -> Tensor:
    return low + (high - low) * torch.rand(count, generator=generator)
