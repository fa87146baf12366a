"""Blocks that networks repeat: the units of sharding and of activation checkpointing."""

from torch import nn

from unclip.nn import Block


def sharded_blocks(network: nn.Module) -> list[Block]:
    """Return the residual, attention and transformer blocks of a network in its order, none inside another.

    They hold most of its weights and activations: the units that FSDP2 shards, and that `checkpoint_activations` sets.
    """
    if isinstance(network, Block):
        return [network]
    return [block for child in network.children() for block in sharded_blocks(child)]


def checkpoint_activations(network: nn.Module) -> None:
    """Compute each block's activations again in the backward pass instead of keeping them, from now on.

    Changes the network in place: names, losses and gradients, also under dropout, stay the same; evaluation too.
    """
    for block in sharded_blocks(network):
        block.recompute = True
