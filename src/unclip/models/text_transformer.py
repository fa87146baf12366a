"""A decoder's own text transformer, which reads CLIP's text tokens. Knows no diffusion and no pictures."""

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from unclip.config import Config
from unclip.errors import InputError
from unclip.nn import TransformerBlock
from unclip.shapes import Hidden, TokenMask


class TextTransformerConfig(Config):
    """Shape of a text transformer; it is as wide as the context tokens that it makes."""

    num_text_tokens: PositiveInt
    """Longest text, in tokens."""
    depth: PositiveInt
    """Transformer blocks."""
    num_heads: PositiveInt
    """Attention heads; they divide the width."""


class TextTransformer(nn.Module):
    """GLIDE's text encoder (arXiv 2112.10741, section 3): learned positions and blocks that look both ways.

    GLIDE's, and so the paper's, embeds token ids of a vocabulary of its own; this one is given CLIP's hidden states,
    projected, so that one tokenizer serves all stages. The caller normalises what comes out.
    """

    def __init__(self, config: TextTransformerConfig, width: int) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.empty(config.num_text_tokens, width))
        nn.init.normal_(self.positions, std=0.02)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, config.num_heads, depth=config.depth) for _ in range(config.depth)
        )

    def forward(self, x: Hidden, mask: TokenMask | None = None) -> Hidden:
        """Transform tokens; `mask` is True for real ones, of which every text has one, and others change nothing.

        Raises `InputError` for texts that are too long.
        """
        length, longest = x.shape[1], len(self.positions)
        if length > longest:
            raise InputError(f"text_hidden has {length} tokens; this decoder takes {longest}.")
        visible = None if mask is None else mask[:, None, None].expand(-1, 1, length, length)  # (N, 1, queries, keys)
        x = x + self.positions[:length]
        for block in self.blocks:
            x, _ = block(x, visible)
        return x


def last_token(x: Hidden, mask: TokenMask | None = None) -> Float[Tensor, "batch width"]:
    """The last real token of each text (None: all are real)."""
    if mask is None:
        return x[:, -1]
    places = torch.arange(mask.shape[1], device=x.device)
    return x[torch.arange(len(x), device=x.device), (places * mask).amax(dim=1)]
