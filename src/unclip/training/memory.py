"""The blocks that networks repeat: computed again instead of kept, and what a sharded run shards. Knows no loop."""

from collections.abc import Iterator

from torch import nn

from unclip.nn import Block


def sharded_blocks(network: nn.Module) -> list[Block]:
    """The residual, attention and transformer blocks of a network in its order, none inside another.

    They hold most of its weights and activations: the units that FSDP2 shards, and that `checkpoint_activations` sets.
    """
    return list(_blocks(network))


def checkpoint_activations(network: nn.Module) -> None:
    """From now on, compute each block's activations again on the way back instead of keeping them.

    A change in place: names, losses and gradients, also under dropout, stay what they were; evaluation is not touched.
    """
    for block in sharded_blocks(network):
        block.recompute = True


def _blocks(module: nn.Module) -> Iterator[Block]:
    if isinstance(module, Block):
        yield module
        return
    for child in module.children():
        yield from _blocks(child)
