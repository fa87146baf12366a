"""The text that a sample is shown with: which caption, as tokens for a frozen CLIP or as its stored features.

Knows captions and their features; no picture and no network under training.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from unclip.clip import TextFeatures, TextImageEncoder, Tokenizer
from unclip.data import EmbeddingSet
from unclip.training.task import Batch, Request

NUM_GROUPS = 4
NO_CAPTION = -1


@runtime_checkable
class Texts(Protocol):
    """Turns the chosen captions of some samples into tensors."""

    def __call__(
        self, indices: Sequence[int], captions: Sequence[Sequence[str]], chosen: Sequence[int]
    ) -> dict[str, Tensor]:
        """`chosen` numbers a caption of each sample, -1 is the empty prompt."""
        ...


@dataclass(frozen=True)
class Tokens:
    """Captions as token ids, which a frozen CLIP reads in the loss."""

    tokenizer: Tokenizer
    context_length: int

    def __call__(
        self, indices: Sequence[int], captions: Sequence[Sequence[str]], chosen: Sequence[int]
    ) -> dict[str, Tensor]:
        prompts = [
            "" if number == NO_CAPTION else texts[number] for texts, number in zip(captions, chosen, strict=True)
        ]
        tokens = self.tokenizer.encode(prompts, self.context_length)
        return {"text_ids": tokens.ids, "text_length": tokens.mask.sum(dim=1)}


@dataclass(frozen=True)
class StoredTexts:
    """Captions as the features that `unclip embed` kept of them."""

    embeddings: EmbeddingSet
    rows: np.ndarray | None = None
    """The set's number of each sample, where it has another order."""

    def __call__(
        self, indices: Sequence[int], captions: Sequence[Sequence[str]], chosen: Sequence[int]
    ) -> dict[str, Tensor]:
        numbers = indices if self.rows is None else self.rows[np.asarray(indices)].tolist()
        rows = self.embeddings.text(list(zip(numbers, chosen, strict=True)))
        if rows.hidden is None or rows.mask is None:
            return {"text_embedding": rows.embedding}
        return {
            "text_embedding": rows.embedding,
            "text_hidden": rows.hidden,
            "text_mask": rows.mask,
            "text_length": rows.mask.sum(dim=1),
        }


def choose_captions(captions: Sequence[Sequence[str]], request: Request, drop_prob: float) -> list[int]:
    """One of each sample's captions, or the empty prompt with `drop_prob`."""
    chosen = []
    for texts, generator in zip(captions, request.generators, strict=True):
        number = int(torch.randint(len(texts), (), generator=generator))
        is_dropped = float(torch.rand((), generator=generator)) < drop_prob
        chosen.append(NO_CAPTION if is_dropped else number)
    return chosen


def text_features(batch: Batch, encoder: TextImageEncoder | None) -> TextFeatures:
    """The text of a batch: stored features, or what the frozen CLIP makes of its tokens."""
    if "text_ids" in batch.tensors:
        assert encoder is not None, "tokens need a CLIP that reads them"
        with torch.no_grad():
            return encoder.clip.encode_tokens(batch["text_ids"])
    embedding = batch["text_embedding"]
    if "text_hidden" in batch.tensors:
        return TextFeatures(embedding, batch["text_hidden"], batch["text_mask"])
    nothing = embedding.new_zeros(len(embedding), 0, 1)
    return TextFeatures(embedding, nothing, nothing[..., 0].bool())


def split_by_length(batch: Batch, num_rows: int) -> list[Batch]:
    """Parts of texts of similar length, each cut to its longest: captions vary from 3 tokens to the context."""
    if "text_length" not in batch.tensors:
        return batch.split(num_rows)
    lengths = batch["text_length"]
    num_parts = max(-(-len(batch) // num_rows), min(NUM_GROUPS, len(batch)))
    order = lengths.argsort(stable=True)
    return [_cut(batch.rows(rows), int(lengths[rows].max())) for rows in order.tensor_split(num_parts)]


def _cut(batch: Batch, length: int) -> Batch:
    """Leave out the padding that all texts of the batch share."""
    padded = {"text_ids", "text_hidden", "text_mask"} & batch.tensors.keys()
    return Batch({**batch.tensors, **{name: batch[name][:, :length] for name in padded}})
