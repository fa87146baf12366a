"""DINOv2, a vision transformer trained without labels (Oquab et al. 2023, arXiv 2304.07193).

Parameters carry the names of the published weights, so a state dict of those files loads as it is. The variant with
register tokens is not read.
"""

from collections import OrderedDict
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from unclip.checkpoint import state_hash
from unclip.config import Config
from unclip.errors import ConfigError, did_you_mean
from unclip.images import resize
from unclip.metrics.features import FeatureRows, Pictures, as_pixels
from unclip.nn import LayerNorm32, attention, split_heads
from unclip.shapes import Embeddings, Hidden, Images

NORM_EPS = 1e-6
PIXEL_MEAN, PIXEL_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Statistics of ImageNet, for pixels in [0, 1]."""


class DinoConfig(Config):
    """Sizes of a DINOv2."""

    width: int
    """Channels of a token and of a feature."""
    depth: int
    """Blocks."""
    num_heads: int
    """Heads of attention; they divide the width."""
    feed_forward: Literal["mlp", "swiglu"] = "mlp"
    """"swiglu" is gated, and two thirds as wide."""
    patch_size: int = 14
    """Side of a patch in pixels."""
    grid_size: int = 37
    """Patches a side that positions were trained for; 37 of 14 pixels are 518."""
    grid_offset: float = 0.1
    """Added to the patches a side when positions are resampled: the published code does so, and it shifts them."""
    image_size: int = 224
    """Side, in pixels, at which features are taken."""


DINOV2_CONFIGS = {
    "dinov2-vits14": DinoConfig(width=384, depth=12, num_heads=6),
    "dinov2-vitb14": DinoConfig(width=768, depth=12, num_heads=12),
    "dinov2-vitl14": DinoConfig(width=1024, depth=24, num_heads=16),
    "dinov2-vitg14": DinoConfig(width=1536, depth=40, num_heads=24, feed_forward="swiglu"),
}


def dino_config(name: str) -> DinoConfig:
    """Return the sizes of a published network, such as "dinov2-vitl14"; raises `ConfigError` for an unknown name."""
    if name not in DINOV2_CONFIGS:
        raise ConfigError(f"there is no DINOv2 {name!r}; {did_you_mean(name, DINOV2_CONFIGS)}")
    return DINOV2_CONFIGS[name]


class DinoAttention(nn.Module):
    """Self-attention of all tokens."""

    def __init__(self, config: DinoConfig) -> None:
        super().__init__()
        self.head_dim = config.width // config.num_heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.proj = nn.Linear(config.width, config.width)

    def forward(self, x: Hidden) -> Hidden:
        q, k, v = split_heads(self.qkv(x), 3, self.head_dim)
        return self.proj(attention(q, k, v).transpose(1, 2).flatten(2))


class DinoSwiGlu(nn.Module):
    """SwiGLU, Shazeer 2020: SiLU of one half gates the other; the width is a multiple of 8."""

    def __init__(self, config: DinoConfig) -> None:
        super().__init__()
        width = (4 * config.width * 2 // 3 + 7) // 8 * 8
        self.w12 = nn.Linear(config.width, 2 * width)
        self.w3 = nn.Linear(width, config.width)

    def forward(self, x: Hidden) -> Hidden:
        gate, value = self.w12(x).chunk(2, dim=-1)
        return self.w3(F.silu(gate) * value)


class LayerScale(nn.Module):
    """A learned factor for each channel of a residual branch (Touvron et al. 2021, arXiv 2103.17239)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Hidden) -> Hidden:
        return x * self.gamma


class DinoBlock(nn.Module):
    """x + scaled attention(norm(x)), then x + scaled feed-forward(norm(x))."""

    def __init__(self, config: DinoConfig) -> None:
        super().__init__()
        width = config.width
        self.norm1 = LayerNorm32(width, eps=NORM_EPS)
        self.attn = DinoAttention(config)
        self.ls1 = LayerScale(width)
        self.norm2 = LayerNorm32(width, eps=NORM_EPS)
        layers = {"fc1": nn.Linear(width, 4 * width), "gelu": nn.GELU(), "fc2": nn.Linear(4 * width, width)}
        self.mlp = DinoSwiGlu(config) if config.feed_forward == "swiglu" else nn.Sequential(OrderedDict(layers))
        self.ls2 = LayerScale(width)

    def forward(self, x: Hidden) -> Hidden:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class DinoV2(nn.Module):
    """Maps pixels in the statistics of ImageNet to the normalised class token (batch, width)."""

    def __init__(self, config: DinoConfig) -> None:
        super().__init__()
        self.config = config
        self.cls_token = nn.Parameter(torch.randn(1, 1, config.width) * 0.02)
        self.pos_embed = nn.Parameter(torch.randn(1, config.grid_size**2 + 1, config.width) * 0.02)
        self.mask_token = nn.Parameter(torch.zeros(1, config.width))  # of training, where it stands for hidden patches
        patches = nn.Conv2d(3, config.width, config.patch_size, stride=config.patch_size)
        self.patch_embed = nn.Sequential(OrderedDict(proj=patches))
        self.blocks = nn.Sequential(*(DinoBlock(config) for _ in range(config.depth)))
        self.norm = LayerNorm32(config.width, eps=NORM_EPS)

    def forward(self, pixels: Images) -> Embeddings:
        """Compute the class token of pictures whose sides are multiples of the patch size."""
        rows, columns = (side // self.config.patch_size for side in pixels.shape[-2:])
        first = self.cls_token.expand(len(pixels), 1, -1)
        patches = self.patch_embed(pixels).flatten(2).transpose(1, 2)  # (N, L, width), row by row
        x = torch.cat([first, patches], dim=1) + self.positions(rows, columns)
        return self.norm(self.blocks(x)[:, 0])

    def positions(self, rows: int, columns: int) -> Float[Tensor, "1 length width"]:
        """Return position embeddings of the class token and of a grid, resampled if it is not of the trained size."""
        trained, offset = self.config.grid_size, self.config.grid_offset
        if (rows, columns) == (trained, trained):
            return self.pos_embed
        grid = self.pos_embed[:, 1:].unflatten(1, (trained, trained)).permute(0, 3, 1, 2)
        scale = ((rows + offset) / trained, (columns + offset) / trained)
        resampled = F.interpolate(grid.float(), scale_factor=scale, mode="bicubic", align_corners=False)
        assert resampled.shape[-2:] == (rows, columns), (resampled.shape, rows, columns)
        return torch.cat([self.pos_embed[:, :1], resampled.flatten(2).transpose(1, 2).to(grid.dtype)], dim=1)


class DinoFeatures:
    """Makes "dinov2" for FD-DINOv2 (Stein et al. 2023, arXiv 2306.04675): the class token at 224 pixels."""

    PREPARATION = "dinov2 1: bicubic with antialiasing, statistics of ImageNet, class token"
    kinds = ("dinov2",)

    def __init__(self, network: DinoV2, name: str = "dinov2") -> None:
        self.network = network.eval()
        self.name = name

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.network.cls_token.device

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of weights, configuration and preparation."""
        description = f"{self.PREPARATION} {self.network.config.model_dump_json()}"
        return state_hash(description, self.network.state_dict())

    @torch.no_grad()
    def __call__(self, images: Pictures) -> FeatureRows:
        """Compute {"dinov2": (batch, width)}."""
        mean, std = (torch.tensor(values, device=self.device).view(3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
        pixels = resize(as_pixels(images, self.device), self.network.config.image_size)
        return {"dinov2": self.network((pixels - (2 * mean - 1)) / (2 * std)).float()}
