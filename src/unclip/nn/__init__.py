"""Building blocks of the networks."""

from unclip.nn.attention import Context, SpatialAttention, attention, split_heads
from unclip.nn.block import Block
from unclip.nn.embeddings import TimeEmbedding, timestep_embedding
from unclip.nn.init import zeroed
from unclip.nn.linear import Linear, exact_type
from unclip.nn.norms import GroupNorm32, LayerNorm32, Norm, PixelNorm32, make_norm
from unclip.nn.resblock import Resample, ResBlock, TimeConditioning, resample
from unclip.nn.transformer import ACTIVATIONS, Activation, KeysValues, TransformerBlock

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "Block",
    "Context",
    "GroupNorm32",
    "KeysValues",
    "LayerNorm32",
    "Linear",
    "Norm",
    "PixelNorm32",
    "ResBlock",
    "Resample",
    "SpatialAttention",
    "TimeConditioning",
    "TimeEmbedding",
    "TransformerBlock",
    "attention",
    "exact_type",
    "make_norm",
    "resample",
    "split_heads",
    "timestep_embedding",
    "zeroed",
]
