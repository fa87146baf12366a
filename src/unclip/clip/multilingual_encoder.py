"""The multilingual text encoder with its tokenizer, for use: prompts in, features out. Knows no stage."""

from collections.abc import Sequence
from pathlib import Path

import tokenizers
import torch

from unclip.clip.model import TextFeatures
from unclip.clip.multilingual import MultilingualClip
from unclip.clip.tokenizer import Specials, TokenBatch, encode_prompts, read_backend
from unclip.errors import CheckpointError, ConfigError
from unclip.files import atomic_write

__all__ = ["MultilingualEncoder", "MultilingualTokenizer"]

START, END, PAD = "<s>", "</s>", "<pad>"


class MultilingualTokenizer:
    """Text to token ids by XLM-RoBERTa's SentencePiece vocabulary."""

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        """Wrap a `tokenizers.Tokenizer`; raises `CheckpointError` when it lacks XLM-RoBERTa's special tokens."""
        start, end, pad = (backend.token_to_id(token) for token in (START, END, PAD))
        if start is None or end is None or pad is None:
            raise CheckpointError(f"this is not XLM-RoBERTa's tokenizer: {START}, {END} or {PAD} is missing.")
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self._specials = Specials(start, end, pad)
        self.pad_token = self._specials.pad
        self.vocab_size = backend.get_vocab_size()

    @classmethod
    def load(cls, path: str | Path) -> "MultilingualTokenizer":
        """Read a `tokenizer.json`; raises `CheckpointError` when it is missing or is not one."""
        return cls(read_backend(path))

    def save(self, path: str | Path) -> None:
        """Write a `tokenizer.json` atomically."""
        atomic_write(path, self._backend.to_str(pretty=True))

    def encode(self, prompts: Sequence[str], context_length: int) -> TokenBatch:
        """Ids of the prompts, each cut to `context_length` tokens with start and end, then padded."""
        return encode_prompts(self._backend, prompts, context_length, self._specials)


class MultilingualEncoder:
    """A `MultilingualClip` with its tokenizer; it gives no gradients. `compute_dtype` is as for `TextImageEncoder`."""

    def __init__(
        self,
        network: MultilingualClip,
        tokenizer: MultilingualTokenizer,
        compute_dtype: torch.dtype | None = None,
    ) -> None:
        """Join both; raises `ConfigError` when the tokenizer's ids do not fit the network's vocabulary."""
        found, wanted = ((part.vocab_size, part.pad_token) for part in (tokenizer, network.config))
        if found != wanted:
            raise ConfigError(
                f"the tokenizer has {found[0]} tokens and pads with {found[1]}, but the text encoder was made for "
                f"{wanted[0]} and {wanted[1]}; use the tokenizer it was trained with."
            )
        self.network = network
        self.tokenizer = tokenizer
        self.compute_dtype = compute_dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.network.type_embedding.device

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "MultilingualEncoder":
        """Move the weights, and change their number format if one is given."""
        self.network.to(device=device, dtype=dtype)
        return self

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[str]) -> TextFeatures:
        """Features of the prompts, padded to the context length; what does not fit is left out (see `cut_text`)."""
        ids, mask, _ = self._tokenize(prompts)
        return self.network(ids.to(self.device), mask.to(self.device), self.compute_dtype)

    def cut_text(self, prompts: Sequence[str]) -> list[str]:
        """The end of each prompt that the context has no room for; "" where all of it fits."""
        return self._tokenize(prompts).cut

    def _tokenize(self, prompts: Sequence[str]) -> TokenBatch:
        return self.tokenizer.encode(prompts, self.network.config.context_length)
