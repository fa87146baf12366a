"""What importers hand over: a foreign model in our terms, not read yet. Knows no library and no pipeline."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor, nn

from unclip.checkpoint import LazyTensor, NetworkWeights
from unclip.clip import MultilingualTokenizer, Tokenizer
from unclip.config import Config
from unclip.interop.rules import Names, to_ours

__all__ = ["ForeignModel", "ForeignNetwork", "foreign_network"]


class ForeignNetwork(NamedTuple):
    """A network that another library wrote."""

    weights: NetworkWeights
    """What it is in our terms."""
    dropped: Mapping[str, str]
    """Its tensors and options that we have no place for, each with the reason."""


@dataclass(frozen=True, eq=False)
class ForeignModel:
    """Stages of a model, or of a part of one, that another library wrote."""

    description: str
    """What was recognised, in one line."""
    stages: Mapping[str, NetworkWeights]
    """By our names: clip, prior, decoder, autoencoder, text_encoder, upsampler_256, upsampler_256_last."""
    tokenizers: Mapping[str, Tokenizer | MultilingualTokenizer] = field(default_factory=dict)
    """By the stage that reads their ids."""
    sampling: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Fields of the sampling settings, by stage: those by which the other library draws."""
    dropped: Mapping[str, str] = field(default_factory=dict)
    """Tensors and options that we have no place for, each with the reason."""

    @classmethod
    def of(
        cls,
        description: str,
        networks: Mapping[str, ForeignNetwork],
        tokenizers: Mapping[str, Tokenizer | MultilingualTokenizer],
        sampling: Mapping[str, Mapping[str, Any]],
        dropped: Mapping[str, str] | None = None,
    ) -> "ForeignModel":
        """A model of networks by stage; what was dropped is named after its stage, `dropped` as it is."""
        left = {f"{stage}: {name}": why for stage, network in networks.items() for name, why in network.dropped.items()}
        stages = {stage: network.weights for stage, network in networks.items()}
        return cls(description, stages, tokenizers, sampling, left | dict(dropped or {}))


def foreign_network(
    cls: type[nn.Module],
    config: Config,
    tensors: Mapping[str, LazyTensor],
    names: Names,
    source: str,
    *,
    constants: Mapping[str, Tensor] | None = None,
    dropped: Mapping[str, str] | None = None,
) -> ForeignNetwork:
    """The network of ours that `tensors` make by a table of names; see `to_ours`."""
    found = to_ours(tensors, lambda: cls(config), names, source, constants=constants, dropped=dropped)
    return ForeignNetwork(NetworkWeights(cls.__name__, config, found.tensors, source), found.dropped)
