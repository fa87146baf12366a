"""CLIP's two towers (arXiv 2103.00020), over pixels in [-1, 1] and token ids, and its loss."""

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from unclip.clip.config import ClipConfig
from unclip.errors import InputError
from unclip.images import resize
from unclip.nn import ACTIVATIONS, Activation, Block, LayerNorm32, Linear, TransformerBlock
from unclip.shapes import Embeddings, Hidden, Images, TokenIds, TokenMask

PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
"""Mean of OpenAI's training pictures per channel, for pixels in [0, 1]."""
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)
"""Their standard deviation."""


class TextFeatures(NamedTuple):
    """Features of prompts; float32 whatever the weights' dtype."""

    embedding: Embeddings
    """(batch, embedding_dim), not normalised."""
    hidden: Hidden
    """(batch, length, text_width) after the final layer norm; meaningless where mask is False."""
    mask: TokenMask
    """(batch, length), True from the start token to the first end token."""


def normalize_pixels(images: Images) -> Images:
    """Bring pixels from [-1, 1] to the zero mean and unit variance that CLIP was trained on."""
    mean, std = (torch.tensor(values, device=images.device).view(3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
    return (images.float() - (2 * mean - 1)) / (2 * std)


def first_end(ids: TokenIds, end_token: int) -> Tensor:
    """Return the (batch,) index of each row's first end token; 0 without one."""
    return (ids == end_token).int().argmax(dim=-1)


def token_mask(ids: TokenIds, end_token: int) -> TokenMask:
    """Mark the tokens from the start token to the first end token; False on the padding after it."""
    positions = torch.arange(ids.shape[1], device=ids.device)
    return positions <= first_end(ids, end_token)[:, None]


def normal_parameter(*shape: int, std: float) -> nn.Parameter:
    """Draw a parameter from a normal distribution of standard deviation `std`."""
    return nn.Parameter(nn.init.normal_(torch.empty(*shape), std=std))


def projection(width: int, embedding_dim: int) -> Linear:
    """Make the projection from a tower's width to the shared space."""
    layer = Linear(width, embedding_dim, bias=False)
    nn.init.normal_(layer.weight, std=width**-0.5)
    return layer


class Blocks(nn.ModuleList):
    """Transformer blocks, applied in sequence."""

    def forward(self, x: Hidden) -> Hidden:
        """Transform (batch, length, width)."""
        for block in self:
            x, _ = block(x)
        return x


class WidenedConv(nn.Conv2d):
    """A convolution whose weights are widened to the type of its input."""

    def forward(self, input: Images) -> Float[Tensor, "batch _ _ _"]:
        """Convolve (batch, channels, height, width)."""
        bias = None if self.bias is None else self.bias.to(input.dtype)
        return F.conv2d(input, self.weight.to(input.dtype), bias, self.stride, self.padding)


class StemBlock(Block):
    """x + conv(activation(conv(x))), two 3 × 3 convolutions without norms; starts as the identity."""

    def __init__(self, channels: int, activation: Activation) -> None:
        super().__init__()
        self.conv_1 = WidenedConv(channels, channels, 3, padding=1)
        self.conv_2 = WidenedConv(channels, channels, 3, padding=1)
        for parameter in self.conv_2.parameters():
            nn.init.zeros_(parameter)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Images) -> Images:
        """Transform (batch, channels, height, width)."""
        return x + self.conv_2(self.activation(self.conv_1(x)))


# Early convolutions, arXiv 2106.14881: small sets of pictures are learned in far fewer steps than from bare patches.
class ConvStem(nn.Module):
    """Pictures to one vector a patch: pixels are folded into channels, then each level halves the grid."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        fold = config.patch_size // 2 ** len(config.stem)
        self.fold = nn.PixelUnshuffle(fold)
        self.first = WidenedConv(3 * fold**2, config.stem[0], 3, padding=1)
        self.blocks = nn.ModuleList(StemBlock(channels, config.activation) for channels in config.stem)
        widths = [*config.stem, config.vision_width]
        self.halve = nn.ModuleList(WidenedConv(before, after, 2, stride=2) for before, after in pairwise(widths))

    def forward(self, pixels: Images) -> Float[Tensor, "batch _ _ _"]:
        """Return (batch, vision_width, rows, columns)."""
        x = self.first(self.fold(pixels).contiguous(memory_format=torch.channels_last))
        for block, halve in zip(self.blocks, self.halve, strict=True):
            x = halve(block(x))
        return x


class VisionTower(nn.Module):
    """A ViT whose class token becomes the image embedding."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        width, depth = config.vision_width, config.vision_layers
        num_patches = (config.image_size // config.patch_size) ** 2
        self.patch_embedding = (
            ConvStem(config)
            if config.stem
            else WidenedConv(3, width, config.patch_size, stride=config.patch_size, bias=False)
        )
        self.class_embedding = normal_parameter(width, std=width**-0.5)
        self.position_embedding = normal_parameter(num_patches + 1, width, std=width**-0.5)
        self.pre_norm = LayerNorm32(width)
        self.blocks = Blocks(
            TransformerBlock(
                width, config.vision_heads, depth=depth, ff_dim=config.vision_ff_dim, activation=config.activation
            )
            for _ in range(depth)
        )
        self.final_norm = LayerNorm32(width)
        self.projection = projection(width, config.embedding_dim)

    def forward(self, pixels: Images) -> Embeddings:
        """Encode pictures that already have the tower's size and statistics."""
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)  # (B, L - 1, W)
        first = self.class_embedding.expand(len(patches), 1, -1)
        x = self.pre_norm(torch.cat([first, patches], dim=1) + self.position_embedding)  # (B, L, W)
        return self.projection(self.final_norm(self.blocks(x)[:, 0]))


class TextTower(nn.Module):
    """A causal transformer over tokens."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        width, heads, depth = config.text_width, config.text_heads, config.text_layers
        self.token_embedding = nn.Embedding(config.vocab_size, width)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        self.position_embedding = normal_parameter(config.context_length, width, std=0.01)
        self.blocks = Blocks(
            TransformerBlock(
                width, heads, depth=depth, ff_dim=config.text_ff_dim, activation=config.activation, causal=True
            )
            for _ in range(depth)
        )
        self.final_norm = LayerNorm32(width)
        self.projection = projection(width, config.embedding_dim)

    def forward(self, ids: TokenIds, dtype: torch.dtype | None = None) -> Hidden:
        """Return hidden states after the final norm, computed in `dtype`; None is that of the weights."""
        x = self.token_embedding(ids) + self.position_embedding[: ids.shape[1]]
        return self.final_norm(self.blocks(x if dtype is None else x.to(dtype)))


class Clip(nn.Module):
    """Images and texts in one space.

    Embeddings are not normalised. `logit_scale` is the logarithm of the inverse temperature.
    """

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.config = config
        self.vision = VisionTower(config) if config.vision_layers else None
        self.text = TextTower(config)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, images: Images, *ids: Int64[Tensor, "batch _"]) -> tuple[Embeddings, ...]:
        """Embed images, and each batch of texts: both towers at once, for training."""
        return self.encode_pixels(images), *(self.encode_tokens(texts).embedding for texts in ids)

    def encode_pixels(self, images: Images, dtype: torch.dtype | None = None) -> Embeddings:
        """Encode pixels in [-1, 1] of any size and shape, resized to a square: float32 (batch, embedding_dim).

        They are computed in `dtype`; None is that of the weights.
        """
        vision = self.need_vision()
        pixels = normalize_pixels(resize(images, self.config.image_size))
        return vision(pixels.to(dtype or vision.class_embedding.dtype)).float()

    def need_vision(self) -> VisionTower:
        """Return the vision tower; raises InputError if there is none."""
        if self.vision is None:
            raise InputError(
                "this CLIP has no vision tower, so it reads no pictures; use a model with an image encoder."
            )
        return self.vision

    def encode_tokens(self, ids: TokenIds, dtype: torch.dtype | None = None) -> TextFeatures:
        """Encode token ids (batch, length <= context_length); every row must hold an end token.

        Being causal, a row's features do not depend on its padding, so `ids` may be cut to the longest prompt. They are
        float32, computed in `dtype`; None is that of the weights.
        """
        hidden = self.text(ids, dtype)
        end = first_end(ids, self.config.end_token)
        pooled = hidden[torch.arange(len(ids), device=ids.device), end]
        mask = token_mask(ids, self.config.end_token)
        return TextFeatures(self.text.projection(pooled).float(), hidden.float(), mask)


MAX_LOGIT_SCALE = math.log(100.0)


# Symmetric cross-entropy over cosine similarities, CLIP (arXiv 2103.00020) fig. 3. With groups, several positives:
# SupCon (arXiv 2004.11362) eq. 2, between pictures and texts as in UniCL (arXiv 2204.03610).
def contrastive_loss(
    image_embeddings: Embeddings,
    text_embeddings: Embeddings,
    logit_scale: Float[Tensor, ""],
    groups: Int64[Tensor, " batch"] | None = None,
) -> Float[Tensor, ""]:
    """Return the mean loss of finding each image's text, and each text's image, in the batch.

    Row i of both belongs together; neither needs to be normalised. Rows of equal `groups` belong together too: the
    target is spread evenly over all of them. None: every row is a group of its own. `logit_scale` is a logarithm, held
    at log 100 at most. Computed in float32 even under autocast: bfloat16 logits near 100 would be rounded to steps of
    0.5.
    """
    with torch.autocast(image_embeddings.device.type, enabled=False):
        images = F.normalize(image_embeddings.float(), dim=-1)
        texts = F.normalize(text_embeddings.float(), dim=-1)
        logits = logit_scale.float().clamp(max=MAX_LOGIT_SCALE).exp() * images @ texts.T  # (N, N)
        if groups is None:
            pairs = torch.arange(len(logits), device=logits.device)
        else:
            positives = (groups[:, None] == groups).float()
            pairs = positives / positives.sum(dim=1, keepdim=True)  # (N, N), symmetric
        return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2
