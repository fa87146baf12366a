"""A network on disk, whoever wrote it: what it is, and tensors that are read when they are needed. Knows no network."""

from collections.abc import Mapping
from dataclasses import dataclass

from unclip.checkpoint.streaming import LazyTensor
from unclip.config import Config

__all__ = ["NetworkWeights"]


@dataclass(frozen=True, eq=False)
class NetworkWeights:
    """All that is needed to build a network, in our names; none of its tensors has been read."""

    network: str
    """Name of the class that it is an instance of."""
    config: Config
    """What to build it with."""
    tensors: Mapping[str, LazyTensor]
    """Its state dict, whole, in the types that are stored."""
    source: str
    """Where it comes from, for messages."""
