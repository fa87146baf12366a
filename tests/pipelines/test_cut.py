"""Texts that are too long: every one that an encoder read is named with its end, by every task and every encoder."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from PIL import Image

from unclip.clip import MultilingualClip, MultilingualConfig, MultilingualEncoder, MultilingualTokenizer
from unclip.pipelines import Draft, Model, Result, UnClip
from unclip.pipelines.features import cut_texts, join_cut
from unclip.runtime import forked_random_state

SHORT = "a cat"
LONG = "a red apple and a blue heart and a green tree and an old house near the yellow sun with a cat"
OTHER = "an old house near the yellow sun and a red apple with sunglasses and a cat and a blue heart and a tree"
QUICK: dict[str, Any] = {"seed": 7, "image_size": 16, "num_steps": 1}


def picture(value: int = 90) -> Image.Image:
    return Image.fromarray(np.full((16, 16, 3), value, np.uint8))


def mask() -> Image.Image:
    white = Image.new("L", (16, 16))
    white.paste(255, (4, 4, 12, 12))
    return white


TASKS: dict[str, tuple[Callable[[UnClip], Result], set[str]]] = {
    "negative": (lambda pipe: pipe.text_to_image(SHORT, negative_prompt=LONG, **QUICK), {LONG}),
    "both": (lambda pipe: pipe.text_to_image([LONG, SHORT], negative_prompt=OTHER, **QUICK), {LONG, OTHER}),
    "image_to_image": (
        lambda pipe: pipe.image_to_image(picture(), LONG, negative_prompt=OTHER, **QUICK),
        {LONG, OTHER},
    ),
    "seen": (lambda pipe: pipe.image_to_image(picture(), negative_prompt=OTHER, **QUICK), {OTHER}),
    "variations": (lambda pipe: pipe.image_variations(picture(), prompt=LONG, **QUICK), {LONG}),
    "mix": (
        lambda pipe: pipe.mix([(SHORT, 0.6), (LONG, 0.3), (picture(), 0.2), (OTHER, -0.1)], **QUICK),
        {LONG, OTHER},
    ),
    "interpolate": (lambda pipe: pipe.interpolate(LONG, OTHER, 2, **QUICK), {LONG, OTHER}),
    "source": (lambda pipe: pipe.text_diff(picture(), LONG, SHORT, **QUICK), {LONG}),
    "target": (lambda pipe: pipe.text_diff(picture(), SHORT, LONG, **QUICK), {LONG}),
    "inpaint": (lambda pipe: pipe.inpaint(picture(), mask(), LONG, **QUICK), {LONG}),
    "outpaint": (lambda pipe: pipe.outpaint(picture(), LONG, left=4, **QUICK), {LONG}),
    "finish": (
        lambda pipe: pipe.finish(pipe.draft(SHORT, stop_after="prior", negative_prompt=LONG, **QUICK)),
        {LONG},
    ),
}


@pytest.mark.parametrize("task", sorted(TASKS))
def test_every_text_that_was_cut_is_named_with_its_end(pipe: UnClip, task: str) -> None:
    draw, expected = TASKS[task]
    result = draw(pipe)
    ends = dict(zip([LONG, OTHER], pipe.clip.cut_text([LONG, OTHER]), strict=True))
    assert all(ends.values())
    assert result.settings["cut"] == {text: ends[text] for text in expected}
    assert result.cut == [ends.get(prompt, "") for prompt in result.prompts]


def test_nothing_is_said_where_all_was_read(pipe: UnClip) -> None:
    result = pipe.text_to_image(SHORT, negative_prompt="a tree", **QUICK)
    assert "cut" not in result.settings
    assert result.cut == [""]


@pytest.mark.parametrize("stage", ["prior", "decoder"])
def test_a_draft_says_what_was_cut_and_so_do_those_that_go_on(pipe: UnClip, tmp_path: Path, stage: str) -> None:
    options: dict[str, Any] = {"seed": 7, "num_steps": 1}
    draft = pipe.draft([SHORT, LONG], stop_after=stage, negative_prompt=OTHER, **options)
    assert set(draft.cut) == {LONG, OTHER}
    draft.save(tmp_path / "d.safetensors")
    again = Draft.load(tmp_path / "d.safetensors")
    assert again.cut == draft.cut
    assert set(again.pick([0]).cut) == {OTHER}
    if stage == "prior":
        again = pipe.advance(again, stop_after="decoder")
    assert again.cut == draft.cut
    result = pipe.finish(again)
    assert result.settings["cut"] == draft.cut
    assert result.cut == ["", draft.cut[LONG]]


def with_second_encoder(model: Model, context_length: int) -> Model:
    """The tiny model whose decoder reads a text encoder of letters."""
    clip = model.need_clip.clip.config
    words = ["<s>", "<pad>", "</s>", "<unk>", *"abcdefghijklmnopqrstuvwxyz "]
    backend = tokenizers.Tokenizer(tokenizers.models.Unigram([(word, -1.0) for word in words], unk_id=3))
    config = MultilingualConfig(
        embedding_dim=clip.embedding_dim, width=clip.text_width, depth=1, num_heads=2, ff_dim=32, vocab_size=len(words),
        num_positions=context_length + 2, context_length=context_length,
    )  # fmt: skip
    with forked_random_state(0):
        encoder = MultilingualEncoder(MultilingualClip(config).eval(), MultilingualTokenizer(backend))
    return dataclasses.replace(model, encoders={**model.encoders, "text_encoder": encoder})


@pytest.mark.parametrize("context_length", [12, 60, 400])
def test_of_two_encoders_the_longer_end_is_named(model: Model, context_length: int) -> None:
    """One token a letter, two of them start and end: 12 have room for 10 letters, 400 for all."""
    two = with_second_encoder(model, context_length)
    words = "a cat with a hat"  # CLIP reads all of it
    found = cut_texts(two, [words, LONG, words])
    by_clip, by_second = model.need_clip.cut_text([LONG])[0], two.encoders["text_encoder"].cut_text([LONG])[0]
    assert by_second == LONG[context_length - 2 :].strip()
    expected = {LONG: max(by_clip, by_second, key=len)}
    assert found == expected | ({words: "a hat"} if context_length == 12 else {})


def test_what_the_second_encoder_cuts_is_told_of_a_drawing(model: Model) -> None:
    pipe = with_second_encoder(model, 12)
    result = pipe.text_to_image("a red apple", negative_prompt="a blue heart", **QUICK)
    assert result.settings["cut"] == {"a red apple": "e", "a blue heart": "rt"}
    assert result.cut == ["e"]


def test_longest_ends_are_joined() -> None:
    assert join_cut() == {}
    assert join_cut({"a b": "b", "c": ""}, {"a b": "a b", "d": ""}, {"a b": ""}) == {"a b": "a b"}
