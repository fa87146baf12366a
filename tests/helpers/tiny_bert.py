"""A sentence encoder of random weights in the files of sentence-transformers, as `transformers` writes them."""

import json
from pathlib import Path

import tokenizers
import torch
from tokenizers import models, normalizers, pre_tokenizers
from transformers import BertConfig, BertModel

from unclip.runtime import forked_random_state

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS), "cat"]


def write_tiny_bert(folder: Path, **changes: object) -> BertModel:
    """Write the encoder; returns the network."""
    config = BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=64, layer_norm_eps=1e-3,
    )  # fmt: skip
    with forked_random_state(0):
        bert = BertModel(config).eval()
        with torch.no_grad():
            # transformers begins with zeros and ones, which would hide a swapped bias or norm.
            for parameter in bert.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.2)
    bert.save_pretrained(folder)
    vocab = {word: row for row, word in enumerate(VOCABULARY)}
    backend = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    backend.save(str(folder / "tokenizer.json"))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    if changes:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return bert
