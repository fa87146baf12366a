"""The levels of DALLE2-pytorch's U-Net: residual blocks, attention, change of size. They know no conditioning."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unclip.models.dalle2_pytorch.blocks import NewImages, ResBlock
from unclip.models.dalle2_pytorch.fmap_attention import attend
from unclip.shapes import Embeddings, Images

__all__ = ["DownStage", "MakeBlock", "Middle", "UpStage"]

# Makes a residual block from its input and output channels; the flag is whether it attends to conditioning tokens.
MakeBlock = Callable[[int, int, bool], ResBlock]
Context = Float[Tensor, "batch length context_dim"]


class DownStage(nn.Module):
    """`pre`, a residual block without and `num_blocks` with cross-attention (if `cross`), attention, `post`."""

    def __init__(
        self,
        width: int,
        num_blocks: int,
        make_block: MakeBlock,
        *,
        cross: bool,
        attention: nn.Module,
        pre: nn.Module,
        post: nn.Module,
    ) -> None:
        super().__init__()
        self.pre = pre
        self.init = make_block(width, width, False)
        self.blocks = nn.ModuleList(make_block(width, width, cross) for _ in range(num_blocks))
        self.attention = attention
        self.post = post

    def forward(self, x: Images, time: Embeddings, context: Context) -> tuple[NewImages, list[Tensor]]:
        """The map for the next level, and those that the way up reads: after each block and after the attention."""
        x = self.init(self.pre(x), time, context)
        skips = []
        for block in self.blocks:
            x = block(x, time, context)
            skips.append(x)
        x = attend(self.attention, x)
        return self.post(x), [*skips, x]


class Middle(nn.Module):
    """A residual block, attention and a residual block at the smallest size."""

    def __init__(self, width: int, make_block: MakeBlock, attention: nn.Module) -> None:
        super().__init__()
        self.block1 = make_block(width, width, True)
        self.attention = attention
        self.block2 = make_block(width, width, True)

    def forward(self, x: Images, time: Embeddings, context: Context) -> Images:
        """Transform a feature map."""
        x = attend(self.attention, self.block1(x, time, context))
        return self.block2(x, time, context)


class UpStage(nn.Module):
    """One residual block for each map of the way down, with cross-attention if `cross`; attention; `upsample`."""

    def __init__(
        self,
        width: int,
        skip_width: int,
        num_blocks: int,
        make_block: MakeBlock,
        *,
        cross: bool,
        attention: nn.Module,
        upsample: nn.Module,
    ) -> None:
        super().__init__()
        self.init = make_block(width + skip_width, width, cross)
        self.blocks = nn.ModuleList(make_block(width + skip_width, width, cross) for _ in range(num_blocks))
        self.attention = attention
        self.upsample = upsample

    def forward(self, x: Images, skips: list[Tensor], time: Embeddings, context: Context) -> NewImages:
        """The map for the next level; takes its maps of the way down off the end of `skips`."""
        for block in (self.init, *self.blocks):
            x = block(torch.cat([x, skips.pop()], dim=1), time, context)
        out: Tensor = self.upsample(attend(self.attention, x))
        return out
