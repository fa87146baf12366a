"""CLIP as OpenAI published it, tiny and random, and what comparing ours with it and with others takes."""

from collections import OrderedDict
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn

from networks import fill
from unclip.checkpoint import LazyTensor, NetworkWeights, load_weights
from unclip.clip import Clip, ClipConfig, clip_preset
from unclip.errors import UnclipError


class QuickGelu(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    def __init__(self, width: int, heads: int, ff_dim: int, act: nn.Module) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        parts = [("c_fc", nn.Linear(width, ff_dim)), ("act", act), ("c_proj", nn.Linear(ff_dim, width))]
        self.mlp = nn.Sequential(OrderedDict(parts))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    def __init__(self, width: int, heads: int, ff_dim: int, layers: int, act: nn.Module) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads, ff_dim, act) for _ in range(layers))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for block in self.resblocks:
            x = block(x, mask)
        return x


class Visual(nn.Module):
    def __init__(self, config: ClipConfig, act: nn.Module) -> None:
        super().__init__()
        width, size = config.vision_width, config.patch_size
        self.conv1 = nn.Conv2d(3, width, size, size, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width))
        self.positional_embedding = nn.Parameter(torch.randn((config.image_size // size) ** 2 + 1, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        ff_dim = config.vision_ff_dim or 4 * width
        self.transformer = Transformer(width, config.vision_heads, ff_dim, config.vision_layers, act)
        self.proj = nn.Parameter(torch.randn(width, config.embedding_dim))

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.conv1(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], dim=1) + self.positional_embedding
        return self.ln_post(self.transformer(self.ln_pre(x))[:, 0]) @ self.proj


class OpenAI(nn.Module):
    """CLIP as OpenAI published it: arXiv 2103.00020, with their names."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        act = QuickGelu() if config.activation == "quick_gelu" else nn.GELU()
        width = config.text_width
        self.visual = Visual(config, act)
        self.token_embedding = nn.Embedding(config.vocab_size, width)
        self.positional_embedding = nn.Parameter(torch.randn(config.context_length, width))
        ff_dim = config.text_ff_dim or 4 * width
        self.transformer = Transformer(width, config.text_heads, ff_dim, config.text_layers, act)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.randn(width, config.embedding_dim))
        self.logit_scale = nn.Parameter(torch.tensor(4.6))

    def encode_text(self, ids: Tensor) -> Tensor:
        mask = torch.full((ids.shape[1], ids.shape[1]), float("-inf")).triu(1)
        x = self.transformer(self.token_embedding(ids) + self.positional_embedding[: ids.shape[1]], mask)
        return self.ln_final(x)[torch.arange(len(ids)), ids.argmax(dim=-1)] @ self.text_projection

    def state(self) -> dict[str, LazyTensor]:
        return {name: LazyTensor.of(value) for name, value in self.state_dict().items()}


SMALL = clip_preset("tiny").replace(
    vision_width=128, vision_heads=2, text_width=64, text_heads=1, embedding_dim=24, resize="crop"
)
HUGE = ClipConfig(
    embedding_dim=20, image_size=28, patch_size=14, vision_width=52, vision_layers=3, vision_heads=2, vision_ff_dim=256,
    text_width=32, text_layers=2, text_heads=4, vocab_size=300, context_length=12, activation="gelu", resize="crop",
)  # fmt: skip


def reference(config: ClipConfig) -> OpenAI:
    """A random one."""
    model = OpenAI(config)
    fill(model)
    return model


def load(weights: NetworkWeights) -> Clip:
    """Ours, ready to be compared."""
    assert isinstance(weights.config, ClipConfig)
    clip = Clip(weights.config).eval()
    load_weights(clip, {name: value.read() for name, value in weights.tensors.items()}, weights.source)
    return clip


def prompts(config: ClipConfig) -> Tensor:
    """Ids that end early, late and at the last place."""
    ids = torch.randint(1, config.end_token - 1, (4, config.context_length))
    for row, end in enumerate((1, 3, 7, config.context_length - 1)):
        ids[row, end], ids[row, end + 1 :] = config.end_token, 0
    return ids


def refused(error: type[Exception], message: str, call: Callable[[], object]) -> None:
    """The call fails so, in one line."""
    with pytest.raises(error, match=message) as caught:
        call()
    assert isinstance(caught.value, UnclipError)
    assert "\n" not in str(caught.value)


def equal(found: Mapping[str, LazyTensor], expected: Mapping[str, LazyTensor]) -> None:
    """The same names, and under each the same type, shape and bits."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name].shape, found[name].dtype) == (value.shape, value.dtype)
        assert torch.equal(found[name].read(), value.read()), name
