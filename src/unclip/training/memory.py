"""The blocks that networks repeat: computed again instead of kept, and what a sharded run shards. Knows no loop."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from unclip.models.dalle2_pytorch.attention import Attention
from unclip.models.dalle2_pytorch.blocks import ResBlock as Dalle2ResBlock
from unclip.models.dalle2_pytorch.fmap_attention import LinearAttention
from unclip.models.dalle2_pytorch.transformer import FeedForward
from unclip.nn import ResBlock, SpatialAttention, TransformerBlock

__all__ = ["checkpoint_activations", "sharded_blocks"]

BLOCKS = (ResBlock, SpatialAttention, TransformerBlock, Dalle2ResBlock, Attention, LinearAttention, FeedForward)


def sharded_blocks(network: nn.Module) -> list[nn.Module]:
    """The residual, attention and transformer blocks of a network in its order, none inside another.

    They hold most of its weights and activations: the units that FSDP2 shards, and that `checkpoint_activations` wraps.
    """
    return list(_blocks(network))


def checkpoint_activations(network: nn.Module) -> None:
    """From now on, compute each block's activations again on the way back instead of keeping them (Chen et al. 2016).

    A change in place: names, losses and gradients, also under dropout, stay what they were; evaluation is not touched.
    Before FSDP2 and `torch.compile`, whose hooks then stand around it. A second call changes nothing.
    """
    for block in sharded_blocks(network):
        # On the object, where calls look first; as a submodule it would change the names of the state.
        vars(block)["forward"] = partial(_recompute, type(block).forward, block)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    if isinstance(module, BLOCKS):
        yield module
        return
    for child in module.children():
        yield from _blocks(child)


def _recompute(forward: Callable[..., Any], block: nn.Module, *inputs: Any) -> Any:
    if block.training and torch.is_grad_enabled():
        return checkpoint(forward, block, *inputs, use_reentrant=False)
    return forward(block, *inputs)
