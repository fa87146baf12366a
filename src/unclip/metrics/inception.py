"""The Inception v3 network that the FID is defined by: TensorFlow's graph of 2015-12-05.

Parameters carry the names of the published PyTorch weights, so a state dict of that file loads as it is. What differs
from the network of the paper (Szegedy et al. 2015, arXiv 1512.00567) follows the graph: averages leave padding out, the
last block pools by maximum, pictures are resized by the rule of TensorFlow 1.
"""

from functools import cached_property

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn
from torch.nn import functional as F

from unclip.checkpoint import state_hash
from unclip.metrics.features import FeatureRows, Pictures, check_pictures
from unclip.shapes import Images

Maps = Float[Tensor, "batch _channels _height _width"]
IMAGE_SIZE = 299
FEATURE_DIM = 2048
NUM_CLASSES = 1008
NORM_EPS = 1e-3


# `resize_bilinear` of TensorFlow 1 without aligned corners: output i samples input i * (in / out), pixels being points.
def resize_like_tensorflow(
    images: Float32[Tensor, "batch channels height width"], size: int
) -> Float32[Tensor, "batch channels size size"]:
    """Resize to a square, bilinear without antialiasing, on TensorFlow 1's grid, half a pixel off the usual one."""
    for dim in (3, 2):
        length = images.shape[dim]
        # The two neighbours of each output place, and the weight of the second: in float32, as in the graph.
        places = torch.arange(size, dtype=torch.float32) * (length / size)
        first = places.long().clamp(max=length - 1)
        weight, neighbours = (places - first).to(images.device), (first, (first + 1).clamp(max=length - 1))
        low, high = (images.index_select(dim, place.to(images.device)) for place in neighbours)
        images = low + (high - low) * (weight if dim == 3 else weight[:, None])
    return images


class FixedNorm(nn.Module):
    """Batch normalisation by stored statistics, without a counter of batches: it never learns."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Images) -> Images:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=NORM_EPS)


class Conv(nn.Module):
    """Convolution, stored normalisation, ReLU."""

    def __init__(
        self, channels: int, out: int, size: int | tuple[int, int] = 1, stride: int = 1, padding: int | str = "same"
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, size, stride, padding, bias=False)
        self.bn = FixedNorm(out)

    def forward(self, x: Maps) -> Maps:
        return F.relu(self.bn(self.conv(x)))


def average_3x3(x: Images) -> Images:
    """Compute the mean of the neighbours that exist."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class BlockA(nn.Module):
    """Block on maps of 35 x 35: 1x1, 5x5, double 3x3 and pooled branches."""

    def __init__(self, channels: int, pool: int) -> None:
        super().__init__()
        self.branch1x1 = Conv(channels, 64)
        self.branch5x5_1 = Conv(channels, 48)
        self.branch5x5_2 = Conv(48, 64, 5)
        self.branch3x3dbl_1 = Conv(channels, 64)
        self.branch3x3dbl_2 = Conv(64, 96, 3)
        self.branch3x3dbl_3 = Conv(96, 96, 3)
        self.branch_pool = Conv(channels, pool)

    def forward(self, x: Maps) -> Maps:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        pooled = self.branch_pool(average_3x3(x))
        return torch.cat([self.branch1x1(x), self.branch5x5_2(self.branch5x5_1(x)), double, pooled], dim=1)


class BlockB(nn.Module):
    """Block from 35 x 35 to 17 x 17."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch3x3 = Conv(channels, 384, 3, stride=2, padding=0)
        self.branch3x3dbl_1 = Conv(channels, 64)
        self.branch3x3dbl_2 = Conv(64, 96, 3)
        self.branch3x3dbl_3 = Conv(96, 96, 3, stride=2, padding=0)

    def forward(self, x: Maps) -> Maps:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, stride=2)], dim=1)


class BlockC(nn.Module):
    """Block on maps of 17 x 17: 7x7 as rows and columns, `width` channels inside."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        row, column = (1, 7), (7, 1)
        self.branch1x1 = Conv(channels, 192)
        self.branch7x7_1 = Conv(channels, width)
        self.branch7x7_2 = Conv(width, width, row)
        self.branch7x7_3 = Conv(width, 192, column)
        self.branch7x7dbl_1 = Conv(channels, width)
        self.branch7x7dbl_2 = Conv(width, width, column)
        self.branch7x7dbl_3 = Conv(width, width, row)
        self.branch7x7dbl_4 = Conv(width, width, column)
        self.branch7x7dbl_5 = Conv(width, 192, row)
        self.branch_pool = Conv(channels, 192)

    def forward(self, x: Maps) -> Maps:
        single = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), single, double, self.branch_pool(average_3x3(x))], dim=1)


class BlockD(nn.Module):
    """Block from 17 x 17 to 8 x 8."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch3x3_1 = Conv(channels, 192)
        self.branch3x3_2 = Conv(192, 320, 3, stride=2, padding=0)
        self.branch7x7x3_1 = Conv(channels, 192)
        self.branch7x7x3_2 = Conv(192, 192, (1, 7))
        self.branch7x7x3_3 = Conv(192, 192, (7, 1))
        self.branch7x7x3_4 = Conv(192, 192, 3, stride=2, padding=0)

    def forward(self, x: Maps) -> Maps:
        wide = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), wide, F.max_pool2d(x, 3, stride=2)], dim=1)


class BlockE(nn.Module):
    """Block on maps of 8 x 8: 3x3 as rows beside columns. The last block pools by maximum, the one before by mean."""

    def __init__(self, channels: int, *, pools_by_maximum: bool) -> None:
        super().__init__()
        self.pools_by_maximum = pools_by_maximum
        row, column = (1, 3), (3, 1)
        self.branch1x1 = Conv(channels, 320)
        self.branch3x3_1 = Conv(channels, 384)
        self.branch3x3_2a = Conv(384, 384, row)
        self.branch3x3_2b = Conv(384, 384, column)
        self.branch3x3dbl_1 = Conv(channels, 448)
        self.branch3x3dbl_2 = Conv(448, 384, 3)
        self.branch3x3dbl_3a = Conv(384, 384, row)
        self.branch3x3dbl_3b = Conv(384, 384, column)
        self.branch_pool = Conv(channels, 192)

    def forward(self, x: Maps) -> Maps:
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = F.max_pool2d(x, 3, stride=1, padding=1) if self.pools_by_maximum else average_3x3(x)
        parts = [self.branch3x3_2a(single), self.branch3x3_2b(single)]
        parts += [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double), self.branch_pool(pooled)]
        return torch.cat([self.branch1x1(x), *parts], dim=1)


class Inception(nn.Module):
    """Inception v3 as the graph has it; pixels are (x - 128) / 128 of 8-bit ones."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, 3, stride=2, padding=0)
        self.Conv2d_2a_3x3 = Conv(32, 32, 3, padding=0)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3)
        self.Conv2d_3b_1x1 = Conv(64, 80)
        self.Conv2d_4a_3x3 = Conv(80, 192, 3, padding=0)
        self.Mixed_5b = BlockA(192, 32)
        self.Mixed_5c = BlockA(256, 64)
        self.Mixed_5d = BlockA(288, 64)
        self.Mixed_6a = BlockB(288)
        self.Mixed_6b = BlockC(768, 128)
        self.Mixed_6c = BlockC(768, 160)
        self.Mixed_6d = BlockC(768, 160)
        self.Mixed_6e = BlockC(768, 192)
        self.Mixed_7a = BlockD(768)
        self.Mixed_7b = BlockE(1280, pools_by_maximum=False)
        self.Mixed_7c = BlockE(2048, pools_by_maximum=True)
        self.fc = nn.Linear(FEATURE_DIM, NUM_CLASSES)

    def forward(self, pixels: Images) -> tuple[Float[Tensor, "batch 2048"], Float[Tensor, "batch 1008"]]:
        """Compute features, which FID and KID compare, and logits of pixels in [-1, 1), of 75 x 75 or more.

        The published weights are for 299 x 299. Logits are without the bias of the last layer, as the inception score
        was always computed from this graph.
        """
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(pixels)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, stride=2)))
        x = F.max_pool2d(x, 3, stride=2)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))  # (N, 288, 35, 35)
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))  # (N, 768, 17, 17)
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))  # (N, 2048, 8, 8)
        features = x.mean(dim=(2, 3))
        return features, features @ self.fc.weight.T


class InceptionFeatures:
    """Makes "inception" for FID, KID and precision, and "inception_logits" for the inception score."""

    PREPARATION = "inception 1: bilinear of TensorFlow 1 to 299, (x - 128) / 128, unbiased logits"
    kinds = ("inception", "inception_logits")

    def __init__(self, network: Inception) -> None:
        self.network = network.eval()
        self.name = "inception"

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.network.fc.weight.device

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of weights and preparation."""
        return state_hash(self.PREPARATION, self.network.state_dict())

    @torch.no_grad()
    def __call__(self, images: Pictures) -> FeatureRows:
        """Compute {"inception": (batch, 2048), "inception_logits": (batch, 1008)}."""
        check_pictures(images)
        pixels = resize_like_tensorflow(images.to(self.device).float(), IMAGE_SIZE)
        features, logits = self.network((pixels - 128.0) / 128.0)
        return {"inception": features.float(), "inception_logits": logits.float()}
