"""Training, encoding, cutting and files of the tokenizer."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from unclip.clip import Tokenizer
from unclip.errors import CheckpointError, InputError

TEXTS = ["a red apple, noto style", "a cat with sunglasses", "a blue heart and a green tree", "the zebra's 12 stripes"]
SPECIALS = ("<|startoftext|>", "<|endoftext|>")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(TEXTS, 560)


def test_ids_are_laid_out_as_openai_does(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "tokenizer.json")
    vocab = json.loads((tmp_path / "tokenizer.json").read_text())["model"]["vocab"]
    # OpenAI's vocabulary: "!" is 0, "a" is 64, the space's symbol "Ġ" 220, the same at a word's end 256 later.
    assert (vocab["!"], vocab["a"], vocab["Ġ"], vocab["!</w>"], vocab["a</w>"]) == (0, 64, 220, 256, 320)
    assert (tokenizer.vocab_size, tokenizer.start_token, tokenizer.end_token) == (560, 558, 559)
    assert sorted(vocab.values()) == list(range(560))


def test_the_largest_vocabulary_can_be_trained_and_no_larger_one() -> None:
    texts = ["a red apple", "an old red house"]
    size = Tokenizer.largest_vocab_size(texts, 4096)
    assert Tokenizer.train(texts, size).vocab_size == size
    with pytest.raises(InputError, match=f"use at most {size}"):
        Tokenizer.train(texts, size + 1)
    assert Tokenizer.largest_vocab_size(texts, 520) == 520


def test_training_twice_gives_the_same_file(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "first.json")
    Tokenizer.train(TEXTS, 560).save(tmp_path / "second.json")
    assert (tmp_path / "first.json").read_bytes() == (tmp_path / "second.json").read_bytes()


def test_merges_shorten_what_was_trained_on(tokenizer: Tokenizer) -> None:
    smallest = Tokenizer.train(TEXTS, 514)
    lengths = [batch.mask.sum().item() for batch in (tokenizer.encode(TEXTS, 77), smallest.encode(TEXTS, 77))]
    letters = sum(len(text.replace(" ", "")) for text in TEXTS)
    assert lengths[1] == letters + 2 * len(TEXTS)
    assert lengths[0] < lengths[1]


def test_encoding_frames_and_pads(tokenizer: Tokenizer) -> None:
    batch = tokenizer.encode(["!", ""], 5)
    assert batch.ids.tolist() == [[558, 256, 559, 0, 0], [558, 559, 0, 0, 0]]
    assert batch.mask.tolist() == [[True, True, True, False, False], [True, True, False, False, False]]
    assert batch.ids.dtype == torch.int64
    assert batch.cut == ["", ""]


def test_no_prompts_make_an_empty_batch(tokenizer: Tokenizer) -> None:
    batch = tokenizer.encode([], 8)
    assert batch.ids.shape == batch.mask.shape == (0, 8)


def test_case_and_white_space_do_not_matter(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(["A Red\n\tAPPLE ", "a red apple"], 16).ids
    assert torch.equal(ids[0], ids[1])


@pytest.mark.parametrize(
    ("prompt", "cut"),
    [
        ("!!!!", ""),
        ("! ! ! !", ""),
        ("! ! ! ! Q", "Q"),
        ("! ! ! ! Two  WORDS left ", "Two  WORDS left"),
        ("!  !\n! ! 漢字", "漢字"),
        ("! ! ! 漢字", "漢字"),
        ("! " * 50, ("! " * 46).strip()),
    ],
)
def test_what_does_not_fit_is_named(tokenizer: Tokenizer, prompt: str, cut: str) -> None:
    batch = tokenizer.encode([prompt], 6)
    assert batch.cut == [cut]
    assert batch.ids[0, int(batch.mask.sum()) - 1] == tokenizer.end_token


@given(st.text(max_size=40))
@example("\ud800 alone")
@example("\x00\x07")
@example("😀" * 30)
def test_any_string_can_be_encoded(tokenizer: Tokenizer, text: str) -> None:
    batch = tokenizer.encode([text], 400)
    # The end token also stands for unknown bytes: there must be one, at the end.
    if not any(special in text.lower() for special in SPECIALS):
        assert (batch.ids[0] == tokenizer.end_token).sum() == 1
        assert batch.cut == [""]
    assert batch.ids[0, 0] == tokenizer.start_token


@given(st.text(max_size=60), st.integers(3, 12))
def test_cut_and_kept_make_the_prompt(tokenizer: Tokenizer, text: str, context_length: int) -> None:
    short, long = tokenizer.encode([text], context_length), tokenizer.encode([text], 600)
    assert bool(short.cut[0]) == (int(long.mask.sum()) > context_length) or any(s in text for s in SPECIALS)
    kept = int(short.mask.sum()) - 1
    assert torch.equal(short.ids[0, :kept], long.ids[0, :kept])


def test_a_text_instead_of_a_list_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match=r"give \['a cat'\]"):
        tokenizer.encode("a cat", 8)


@pytest.mark.parametrize("vocab_size", [-1, 513])
def test_a_vocabulary_without_room_for_bytes_is_refused(vocab_size: int) -> None:
    with pytest.raises(InputError, match=f"vocab_size={vocab_size} is too small: .* 514"):
        Tokenizer.train(TEXTS, vocab_size)


def test_a_vocabulary_larger_than_the_texts_yield_names_the_largest() -> None:
    with pytest.raises(InputError, match="vocab_size=10000 is more than these texts yield; use at most") as caught:
        Tokenizer.train(TEXTS, 10_000)
    largest = int(str(caught.value).rstrip(".").split()[-1])
    assert Tokenizer.train(TEXTS, largest).vocab_size == largest
    with pytest.raises(InputError, match=f"use at most {largest}"):
        Tokenizer.train(TEXTS, largest + 1)


@pytest.mark.parametrize("content", ["", "{", "{}", "[1, 2]", '{"model": {"type": "BPE"}}'])
def test_a_broken_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json") as caught:
        Tokenizer.load(path)
    assert "\n" not in str(caught.value)


def test_a_missing_or_binary_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"tokenizer\.json cannot be read"):
        Tokenizer.load(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json does not hold a tokenizer"):
        Tokenizer.load(tmp_path / "tokenizer.json")


def test_a_tokenizer_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text('{"a": 0, "b": 1}')
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(CheckpointError, match="not a CLIP tokenizer"):
        Tokenizer.from_vocab_and_merges(tmp_path / "vocab.json", tmp_path / "merges.txt")


def test_merges_that_contradict_the_vocabulary_are_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text('{"a": 0, "b": 1}')
    (tmp_path / "merges.txt").write_text("#version: 0.2\na c\n")
    with pytest.raises(CheckpointError, match=r"merges\.txt does not hold"):
        Tokenizer.from_vocab_and_merges(tmp_path / "vocab.json", tmp_path / "merges.txt")
