"""Our tokenizer equals `transformers`', on a small vocabulary and on OpenAI's, and reads what it writes."""

import json
import random
from pathlib import Path

import pytest
import torch

from unclip.clip import Tokenizer
from unclip.clip.tokenizer import END, START
from unclip.errors import CheckpointError

transformers = pytest.importorskip("transformers")

CORPUS = [
    "a red apple, noto style",
    "the quick brown foxes weren't jumping over the lazy dogs' 12 beds",
    "woman running: medium-dark skin tone, it's she'd we'll they've I'm you're",
    "grinning face with big eyes 😀, zebra, zèbre, 斑马",
] * 4
ODD = [
    "",
    " ",
    "\n\t  \r\n",
    "a",
    "A RED APPLE",
    "a  red\tapple\n",
    " leading and trailing ",
    "it's we'll they've I'm you're she'd don't",
    "IT'S WE'LL",
    "'s't're",
    "rock'n'roll 'quoted' \"double\"",
    "don’t — “curly” quotes…",
    "1234567890",
    "3.14 1,000 ½ ² ① Ⅳ ٣",
    "a1b2c3",
    "!!! ??? ...",
    "!@#$%^&*()_+-=[]{}|;:,./<>?`~",
    "hello,world!how are you?",
    "https://example.org/a?b=c&d=%20",
    "&amp; &lt;b&gt; &#39; &quot;",
    "<b>bold</b>",
    "<|startoftext|>",
    "<|endoftext|>",
    "a <|endoftext|> b <|startoftext|> c",
    "<|ENDOFTEXT|> <|endoftext",
    "< | endoftext | >",
    "</w> a</w>",
    "😀",
    "😀😀😀 zebra😀zebra",
    "👩🏿‍🚀 👨‍👩‍👧‍👦 🏳️‍🌈 🇩🇪",
    "☺️ ❤️ ✨",
    "斑马",
    "日本語 テキスト ひらがな",
    "한국어 텍스트",
    "한국어",
    "العربية نص",
    "עברית",
    "ελληνικά ΣΊΣΥΦΟΣ ς",
    "русский Ёжик",
    "ไทย ภาษา",
    "हिन्दी",
    "İstanbul ISPARTA ıi",
    "Straße STRASSE ẞ",
    "café cafe\u0301 CAFÉ",
    "ﬁ ﬂ Å Å Ω",
    "naïve façade",
    "x\u00a0y\u2003z\u200bw\ufeffv",
    "a\u0000b\u0007c",
    "\u2028\u2029",
    "𝒜𝓑𝕮 𝟙𝟚𝟛",
    "🜁𐍈𒀀",
    "\U0010ffff",
    "ǅ ǆ Ǆ",
    "ſ K",
    "zebra" * 40,
    "a red apple " * 40,
    "1 " * 100,
    "z" * 300,
    "斑" * 80,
    "😀" * 50,
    "_under_score_ snake_case CamelCase kebab-case",
    "C++ C# .NET \\backslash\\",
    "x²+y²=z² ∑∫√∞ ≠ ≤",
    "e\u0301\u0301\u0323",
]


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, object]:
    """One vocabulary in OpenAI's two files, read by us and by them."""
    folder = tmp_path_factory.mktemp("tokenizer")
    Tokenizer.train(CORPUS, 620).save(folder / "tokenizer.json")
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    lines = ["#version: 0.2", *(" ".join(merge) for merge in model["merges"])]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    ours = Tokenizer.from_vocab_and_merges(folder / "vocab.json", folder / "merges.txt")
    return ours, transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))


@pytest.mark.parametrize("context_length", [8, 77])
def test_tokenizer_equals_theirs_on_odd_strings(tokenizers: tuple[Tokenizer, object], context_length: int) -> None:
    ours, theirs = tokenizers
    assert len(set(ODD)) == len(ODD) >= 60
    batch = ours.encode(ODD, context_length)
    for row, text in enumerate(ODD):
        expected = theirs(text, truncation=True, max_length=context_length)["input_ids"]
        padded = expected + [0] * (context_length - len(expected))
        assert batch.ids[row].tolist() == padded, text


def test_both_ways_of_loading_agree(tokenizers: tuple[Tokenizer, object], tmp_path: Path) -> None:
    ours, _ = tokenizers
    ours.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert torch.equal(loaded.encode(ODD, 77).ids, ours.encode(ODD, 77).ids)


def test_their_library_reads_our_tokenizer_file(tokenizers: tuple[Tokenizer, object], tmp_path: Path) -> None:
    ours, _ = tokenizers
    ours.save(tmp_path / "tokenizer.json")
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    ids = ours.encode(["zebra, it's 12"], 77)
    assert theirs("zebra, it's 12")["input_ids"] == ids.ids[ids.mask].tolist()
