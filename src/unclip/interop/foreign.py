"""What importers hand over: a foreign model in our terms, not read yet. Knows no library and no pipeline."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from unclip.checkpoint import NetworkWeights
from unclip.clip import MultilingualTokenizer, Tokenizer

__all__ = ["ForeignModel", "ForeignNetwork"]


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
