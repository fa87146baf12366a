"""Kandinsky 2.1's text encoder against diffusers' and transformers' classes, its tokenizer against transformers'."""

from pathlib import Path

import pytest
import tokenizers
import torch
from diffusers.pipelines.kandinsky.text_encoder import MCLIPConfig, MultilingualCLIP
from torch import Tensor
from transformers import XLMRobertaTokenizer

from networks import close, fill, translate
from unclip.clip import (
    MultilingualClip,
    MultilingualConfig,
    MultilingualEncoder,
    MultilingualTokenizer,
    multilingual_preset,
)
from unclip.errors import CheckpointError, ConfigError, InputError
from unclip.interop.kandinsky import multilingual_names
from unclip.models import count_parameters

POOLER = {"transformer.pooler.": "unused"}
TINY: MultilingualConfig = multilingual_preset("tiny")
OTHER = MultilingualConfig(
    embedding_dim=24, width=48, depth=1, num_heads=3, ff_dim=40, vocab_size=50, pad_token=3, num_positions=30,
    context_length=20,
)  # fmt: skip
PROMPTS = [
    "a red cat",
    "",
    "кот, 猫 & a <mask>; ①ﬁ",
    "  spaces \n and\ttabs  ",
    "a cat " * 60,
    "<s> a </s><pad> cat",
    "zqx!",
]


def published(config: MultilingualConfig) -> MultilingualCLIP:
    """diffusers' text encoder of the same shape."""
    return MultilingualCLIP(
        MCLIPConfig(
            transformerDimSize=config.width,
            imageDimSize=config.embedding_dim,
            hidden_size=config.width,
            num_hidden_layers=config.depth,
            num_attention_heads=config.num_heads,
            intermediate_size=config.ff_dim,
            vocab_size=config.vocab_size,
            max_position_embeddings=config.num_positions,
            pad_token_id=config.pad_token,
            type_vocab_size=1,
            layer_norm_eps=1e-5,
        )
    ).eval()


def tokens(config: MultilingualConfig, lengths: list[int]) -> tuple[Tensor, Tensor]:
    mask = torch.arange(config.context_length) < torch.tensor(lengths)[:, None]
    ids = torch.randint(config.pad_token + 1, config.vocab_size, mask.shape)
    return torch.where(mask, ids, config.pad_token), mask


@torch.no_grad()
@pytest.mark.parametrize("config", [TINY, OTHER], ids=["tiny", "other"])
def test_it_equals_the_published_class(config: MultilingualConfig) -> None:
    theirs, ours = published(config), MultilingualClip(config).eval()
    fill(theirs)
    translate(ours, theirs.state_dict(), multilingual_names(config), dropped=POOLER)
    ids, mask = tokens(config, [config.context_length, 2, 7])
    embedding, hidden = theirs(ids, mask.long())
    features = ours(ids, mask)
    close(features.embedding, embedding)
    close(features.hidden, hidden)  # Also where there is padding: Kandinsky's decoder looks at it.
    assert torch.equal(features.mask, mask)
    ids[0, 4] = config.pad_token  # A prompt may say "<pad>": it is looked at, but counts as no position.
    close(ours(ids, mask).embedding, theirs(ids, mask.long())[0])


def test_the_published_encoder_has_its_published_tensors() -> None:
    config = multilingual_preset("kandinsky-2.1")
    with torch.device("meta"):
        theirs, ours = published(config), MultilingualClip(config)
    pooler = theirs.transformer.pooler
    assert count_parameters(ours) == count_parameters(theirs) - count_parameters(pooler) == 559_628_032


@torch.no_grad()
def test_bfloat16_stays_near_float32() -> None:
    network = MultilingualClip(TINY).eval()
    fill(network)
    given = tokens(TINY, [16, 5])
    expected = network(*given)
    actual = network.bfloat16()(*given)
    for half, exact in zip(actual[:2], expected[:2], strict=True):
        assert half.dtype == torch.float32
        assert (half - exact).square().mean() < 1e-3 * exact.square().mean()


def published_tokenizer() -> XLMRobertaTokenizer:
    """One with a vocabulary of a few words, and all the rules."""
    pieces = [
        "▁",
        "▁a",
        "▁cat",
        "▁red",
        "c",
        "a",
        "t",
        "r",
        "e",
        "d",
        "s",
        "к",
        "о",
        "т",
        "猫",
        ",",
        "fi",
        "1",
        "▁tabs",
    ]
    specials = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    vocab = specials + [(piece, -1.0 - index / 10) for index, piece in enumerate(pieces)]
    return XLMRobertaTokenizer(vocab=vocab)


@pytest.fixture
def tokenizer_file(tmp_path: Path) -> Path:
    published_tokenizer().backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


@pytest.mark.parametrize("length", [77, 12])
def test_the_tokenizer_equals_that_of_transformers(tokenizer_file: Path, length: int) -> None:
    batch = MultilingualTokenizer.load(tokenizer_file).encode(PROMPTS, length)
    expected = published_tokenizer()(
        PROMPTS, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    )
    assert torch.equal(batch.ids, expected.input_ids)
    assert torch.equal(batch.mask, expected.attention_mask.bool())
    assert 3 in batch.ids  # Something is unknown,
    assert batch.ids[2].max() > 4  # and something is not.


@pytest.fixture
def encoder(tokenizer_file: Path) -> MultilingualEncoder:
    tokenizer = MultilingualTokenizer.load(tokenizer_file)
    network = MultilingualClip(TINY.replace(vocab_size=tokenizer.vocab_size))
    fill(network)
    return MultilingualEncoder(network, tokenizer)


def test_prompts_are_encoded_and_what_is_cut_is_named(encoder: MultilingualEncoder) -> None:
    features = encoder.encode_text(PROMPTS)
    batch = encoder.tokenizer.encode(PROMPTS, 16)
    assert torch.equal(features.embedding, encoder.network(batch.ids, batch.mask).embedding)
    assert features.hidden.shape == (len(PROMPTS), 16, 32)
    assert not features.embedding.requires_grad
    assert encoder.cut_text(["a red cat", "a red cat " * 5]) == ["", "cat"]
    with pytest.raises(InputError, match="list of texts"):
        encoder.encode_text("a cat")


def test_what_does_not_fit_is_refused(encoder: MultilingualEncoder) -> None:
    with pytest.raises(ConfigError, match=r"has 24 tokens and pads with 1, but .* 64 and 1; use"):
        MultilingualEncoder(MultilingualClip(TINY), encoder.tokenizer)
    with pytest.raises(CheckpointError, match=r"not XLM-RoBERTa's tokenizer"):
        MultilingualTokenizer(tokenizers.Tokenizer(tokenizers.models.BPE()))
    with pytest.raises(ConfigError, match=r"^width=32 is not divisible by num_heads=5\.$"):
        TINY.replace(num_heads=5)
    with pytest.raises(ConfigError, match=r"^context_length=31 exceeds the 30 positions of the table\.$"):
        TINY.replace(context_length=31)
    with pytest.raises(InputError, match=r"no multilingual preset 'tinny'; did you mean 'tiny'\?"):
        multilingual_preset("tinny")
