"""Results: a sequence of pictures that is saved, tabled and shown."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unclip import __version__
from unclip.errors import InputError
from unclip.pipelines import Result, UnClip

PROMPTS = ["a red apple", "a cat"]


@pytest.fixture(scope="module")
def result(pipe: UnClip) -> Result:
    return pipe(PROMPTS, 2, seed=7)


def test_a_result_is_a_sequence_of_its_pictures(result: Result) -> None:
    assert len(result) == 4
    assert list(result) == result.images
    assert result[-1] is result.images[3]
    part = result[1:3]
    assert (part.prompts, part.seeds, part.images) == (["a red apple", "a cat"], [8, 7], result.images[1:3])
    assert torch.equal(part.image_embeddings, result.image_embeddings[1:3])


def test_scores_go_with_their_pictures(pipe: UnClip) -> None:
    best = pipe("a cat", 2, best_of=3, seed=7)
    assert best[1:].settings["scores"] == best.settings["scores"][1:]
    assert [row["score"] for row in best.rows()] == best.settings["scores"]


@pytest.mark.parametrize("kind", ["pil", "np", "pt"])
@pytest.mark.parametrize("suffix", ["png", "webp", "jpg"])
def test_a_folder_gets_a_file_each_with_its_metadata(pipe: UnClip, tmp_path: Path, kind: str, suffix: str) -> None:
    drawn = pipe(PROMPTS, 2, seed=7, output_type=kind)
    paths = drawn.save(tmp_path / "out", format=suffix)
    names = ["a-red-apple-7", "a-red-apple-8", "a-cat-7", "a-cat-8"]
    assert paths == [tmp_path / "out" / f"{name}.{suffix}" for name in names]
    with Image.open(paths[2]) as image:
        if suffix == "png":
            assert image.tobytes() == pipe("a cat", seed=7)[0].tobytes()
            assert image.text["prompt"] == "a cat"
            assert (image.text["seed"], image.text["model"], image.text["version"]) == ("7", "tiny", __version__)
            assert json.loads(image.text["settings"]) == drawn.settings
        else:
            assert b"a cat" in image.info["exif"]


def test_a_folder_loses_no_file_and_a_named_file_is_replaced(result: Result, tmp_path: Path) -> None:
    first, second = result[:1].save(tmp_path), result[:1].save(tmp_path)
    assert [path.name for path in first + second] == ["a-red-apple-7.png", "a-red-apple-7-2.png"]
    (named,) = result[:1].save(tmp_path / "x.png")
    assert result[3:].save(str(named)) == [named]
    with Image.open(named) as image:
        assert image.tobytes() == result[3].tobytes()


def test_a_named_file_of_several_is_numbered_or_an_animation(result: Result, tmp_path: Path) -> None:
    assert [path.name for path in result.save(tmp_path / "x.png")] == ["x-1.png", "x-2.png", "x-3.png", "x-4.png"]
    assert [path.name for path in result[:2].save(tmp_path / "x.png")] == ["x-5.png", "x-6.png"]
    (animation,) = result.save(tmp_path / "x.gif")
    with Image.open(animation) as image:
        assert image.n_frames == 4


def test_pictures_without_words_have_names_of_their_own(result: Result, tmp_path: Path) -> None:
    without_text = replace(result, prompts=["", "", "\U0001f600", "\U0001f988"], seeds=[1, 1, 1, 1])
    names = [path.name for path in without_text.save(tmp_path)]
    assert names == ["image-1.png", "image-1-2.png", "grinning-face-1.png", "shark-1.png"]


def test_what_cannot_be_written_is_refused_and_leaves_nothing(result: Result, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not written as \.bmp; use \.png, \.jpg or \.webp"):
        result.save(tmp_path / "x.bmp")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        result.save(tmp_path / "file" / "x.png")
    with pytest.raises(InputError, match="no pictures"):
        result[:0].save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_grid_holds_every_picture(result: Result) -> None:
    sheet = result.grid()
    assert sheet.size == (66, 66)
    assert sheet.crop((34, 34, 66, 66)).tobytes() == result[3].tobytes()
    assert result.grid(4, gap=0).size == (128, 32)
    with pytest.raises(InputError, match="columns=0"):
        result.grid(0)


def test_a_notebook_shows_the_grid(result: Result) -> None:
    shown = Image.open(io.BytesIO(result._repr_png_() or b""))
    assert np.array_equal(np.asarray(shown), np.asarray(result.grid()))
    assert result[:0]._repr_png_() is None


def test_rows_are_flat(result: Result) -> None:
    rows = result.rows()
    assert [(row["prompt"], row["seed"], row["width"], row["height"]) for row in rows] == [
        ("a red apple", 7, 32, 32), ("a red apple", 8, 32, 32), ("a cat", 7, 32, 32), ("a cat", 8, 32, 32),
    ]  # fmt: skip
    assert rows[0]["decoder.num_steps"] == result.settings["decoder"]["num_steps"]
    assert rows[0]["model"] == "tiny"
    assert all(isinstance(value, str | int | float) for row in rows for value in row.values())
    assert "decoder.eta" not in rows[0]


def test_a_changed_setting_is_in_the_rows(pipe: UnClip) -> None:
    (row,) = pipe.image_variations(pipe("a cat", seed=1)[0], eta=0.5, seed=1).rows()
    assert row["decoder.eta"] == 0.5


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (slice(None), "<Result: 4 pictures of 32x32 by 'tiny': 'a red apple' seeds 7 to 8; 'a cat' seeds 7 to 8>"),
        (slice(1), "<Result: 1 picture of 32x32 by 'tiny': 'a red apple' seed 7>"),
    ],
)
def test_what_is_printed_is_one_line(result: Result, part: slice, text: str) -> None:
    assert repr(result[part]) == text


def test_many_prompts_are_printed_short(pipe: UnClip) -> None:
    many = pipe(
        ["a cat", "the sun", "a house", "a tree", "a heart"], seed=[5, 9, 1, 1, 1], image_size=16, output_type="np"
    )
    assert repr(many) == (
        "<Result: 5 arrays of 16x16 by 'tiny': 'a cat' seed 5; 'the sun' seed 9; 'a house' seed 1 and 2 more>"
    )


def test_an_enlarged_picture_knows_its_model(pipe: UnClip, tmp_path: Path) -> None:
    result = pipe.upscale(pipe("a cat", seed=1)[0], 48, seed=2)
    assert repr(result) == "<Result: 1 picture of 48x48 by 'tiny': seed 2>"
    assert result.save(tmp_path)[0].name == "image-2.png"
