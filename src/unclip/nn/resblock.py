"""The residual block of ADM's U-Net."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from unclip.nn.block import Block
from unclip.nn.init import zeroed
from unclip.nn.linear import Linear
from unclip.nn.norms import Norm, make_norm
from unclip.shapes import Embeddings, Images

Resample = Literal["none", "down", "up"]
TimeConditioning = Literal["adaptive", "additive"]


def resample(x: Images, how: Resample) -> Float[Tensor, "batch channels new_height new_width"]:
    """Halve by averaging 2 x 2 pixels, double by repeating them, or leave as is."""
    if how == "down":
        return F.avg_pool2d(x, 2)
    if how == "up":
        return F.interpolate(x, scale_factor=2.0, mode="nearest")
    return x


class ResBlock(Block):
    """norm-SiLU-conv twice beside a skip connection (ADM, appendix A), optionally changing size inside.

    The embedding enters between the two, "adaptive": h = norm(h) (1 + scale) + shift, or "additive": norm(h + shift).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        embedding_dim: int,
        *,
        conditioning: TimeConditioning,
        resample: Resample = "none",
        dropout: float = 0.0,
        norm: Norm = "group",
    ) -> None:
        super().__init__()
        self.adaptive = conditioning == "adaptive"
        self.resample: Resample = resample
        self.norm_1 = make_norm(norm, in_channels)
        self.conv_1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.embedding = Linear(embedding_dim, 2 * out_channels if self.adaptive else out_channels)
        self.norm_2 = make_norm(norm, out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv_2 = zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1))  # It starts as its skip connection.
        self.skip = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Images, activated: Embeddings) -> Float[Tensor, "batch out_channels new_height new_width"]:
        """Transform a feature map; `activated` is the embedding after its SiLU, which all blocks share."""
        h = self.conv_1(resample(F.silu(self.norm_1(x)), self.resample))
        modulation = self.embedding(activated)[:, :, None, None]
        if self.adaptive:
            scale, shift = modulation.chunk(2, dim=1)
            h = torch.addcmul(shift, self.norm_2(h), 1 + scale)
        else:
            h = self.norm_2(h + modulation)
        h = self.conv_2(self.dropout(F.silu(h)))
        skip: Tensor = self.skip(resample(x, self.resample))
        return skip + h
