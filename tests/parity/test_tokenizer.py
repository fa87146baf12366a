"""Our tokenizer equals `transformers`', on a small vocabulary and on OpenAI's, and reads what it writes."""

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from unclip.clip import Tokenizer
from unclip.clip.tokenizer import END, START, VOCABULARY
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


def odd_strings(count: int) -> list[str]:
    """Pieces of `ODD` and characters of every kind but surrogates, which are not text, joined in odd ways."""
    draw = random.Random(0)
    pieces = [
        *ODD,
        "<br/>&nbsp;",
        "\u200d",
        "\ufe0f",
        "👩🏽‍❤️‍💋‍👨🏿",
        "🏴󠁧󠁢󠁳󠁣󠁴󠁿",
        "漢字かな交じり文",
        "ﷺ",
        "c\u0327\u0301",
        "'",
        "’s",
        "it'S",
    ]
    ranges = [(0, 0x20), (0x20, 0x7F), (0x7F, 0x250), (0x250, 0x3000), (0x3000, 0xD800), (0xE000, 0x11_0000)]
    ranges += [(0x1F300, 0x1FB00), (0x2000, 0x2070), (0x300, 0x370)]

    def some(low: int, high: int) -> str:
        return "".join(chr(draw.randrange(low, high)) for _ in range(draw.randint(1, 12)))

    found = set(pieces)
    while len(found) < count:
        parts = [draw.choice(pieces) if draw.random() < 0.5 else some(*draw.choice(ranges)) for _ in range(6)]
        found.add(draw.choice(["", " ", "\n", "\u3000", "-"]).join(parts[: draw.randint(1, 6)]))
    return sorted(found)


@pytest.fixture(scope="module")
def openai_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """OpenAI's vocabulary as the two files of `transformers`, written without help of our tokenizer."""
    folder = tmp_path_factory.mktemp("openai")
    lines = gzip.decompress(VOCABULARY.read_bytes()).decode().splitlines()[1:]
    # Bytes that print stand for themselves; the others follow as the characters from 256 on.
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = [chr(code) for code in [*printed, *range(256, 512 - len(printed))]]
    tokens = [
        *symbols,
        *(f"{symbol}</w>" for symbol in symbols),
        *(line.replace(" ", "") for line in lines),
        START,
        END,
    ]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *lines]) + "\n")
    return folder


def their_rows(tokenizer: Callable[..., dict[str, list[list[int]]]], texts: list[str]) -> list[list[int]]:
    rows = tokenizer(texts, truncation=True, max_length=77)["input_ids"]
    return [row + [0] * (77 - len(row)) for row in rows]


def our_rows(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    return tokenizer.encode(texts, 77).ids.tolist()


def test_the_shipped_vocabulary_is_openais() -> None:
    tokenizer = Tokenizer.openai()
    assert (tokenizer.vocab_size, tokenizer.start_token, tokenizer.end_token) == (49408, 49406, 49407)
    # Ids that OpenAI's SimpleTokenizer gives.
    expected = {
        "a photo of a cat": [320, 1125, 539, 320, 2368],
        "a corgi wearing a party hat": [320, 31320, 3309, 320, 1580, 3801],
        "": [],
        "Hello, World!": [3306, 267, 1002, 256],
        "it's 2024, naïve façade 😀 斑马": [585, 568, 273, 271, 273, 275, 267, 1097, 35689, 563, 778, 10067, 1928, 7334,
                                         29032, 239, 165, 102, 361],
    }  # fmt: skip
    batch = tokenizer.encode(list(expected), 77)
    rows = [ids[mask].tolist() for ids, mask in zip(batch.ids, batch.mask, strict=True)]
    assert rows == [[49406, *ids, 49407] for ids in expected.values()]


def test_a_thousand_odd_strings_on_openais_vocabulary(openai_files: Path) -> None:
    texts = odd_strings(1000)
    assert len(texts) == 1000
    theirs = transformers.CLIPTokenizer(str(openai_files / "vocab.json"), str(openai_files / "merges.txt"))
    expected = their_rows(theirs, texts)
    assert our_rows(Tokenizer.openai(), texts) == expected
    assert our_rows(Tokenizer.from_folder(openai_files), texts) == expected
    theirs.save_pretrained(openai_files / "saved")
    assert (openai_files / "saved" / "tokenizer.json").exists()
    assert our_rows(Tokenizer.from_folder(openai_files / "saved"), texts) == expected


@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json"])
@pytest.mark.parametrize("padding", ["!", {"content": "!", "lstrip": False}])
def test_a_padding_token_is_special_wherever_it_stands(
    openai_files: Path, tmp_path: Path, name: str, padding: object
) -> None:
    for file in ("vocab.json", "merges.txt"):
        (tmp_path / file).write_bytes((openai_files / file).read_bytes())
    (tmp_path / name).write_text(json.dumps({"pad_token": padding}))
    theirs = transformers.CLIPTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"), pad_token="!")
    texts = ["a cat!", "!!! what?!", "no mark"]
    rows = our_rows(Tokenizer.from_folder(tmp_path), texts)
    assert rows == their_rows(theirs, texts)
    assert rows != our_rows(Tokenizer.openai(), texts)


def test_a_file_that_is_no_vocabulary_is_named(tmp_path: Path) -> None:
    whole = VOCABULARY.read_bytes()
    for content in (whole[:1000], b"not gzip", gzip.compress(b"a b c"), gzip.compress(b"\xff")):
        (tmp_path / "bpe.txt.gz").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"bpe\.txt\.gz does not hold a tokenizer \(.+\); fetch it again"):
            Tokenizer.openai(tmp_path / "bpe.txt.gz")
    with pytest.raises(CheckpointError, match=r"vocab\.json cannot be read \(No such file"):
        Tokenizer.from_folder(tmp_path)
