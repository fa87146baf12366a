"""Interpolation: the ends are what they give alone, the way between them is the great circle, noise is shared."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from unclip.diffusion import slerp
from unclip.errors import InputError
from unclip.pipelines import Condition, Model, Result, UnClip
from unclip.pipelines.features import encode
from unclip.pipelines.inputs import read_input
from unclip.pipelines.inversion import INVERTIBLE, invert_pictures, starts_from_noise
from unclip.pipelines.job import begin
from unclip.runtime import NoiseSource

A, B = "a red apple", "an old house near the yellow sun"


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3))


@pytest.fixture
def other(picture: Image.Image) -> Image.Image:
    return Image.fromarray(255 - np.asarray(picture)).rotate(90)


def way(pipe: UnClip, a: Any, b: Any, frames: int = 3, **options: Any) -> torch.Tensor:
    return torch.stack(pipe.interpolate(a, b, frames, **{"seed": 7, "output_type": "pt", **options}).images)


def reconstructed(model: Model, picture: Image.Image, **options: Any) -> Result:
    """A picture inverted and drawn again, alone."""
    job = begin(model, {"seed": 7, "output_type": "pt", **options}, defaults={"decoder": INVERTIBLE})
    with torch.inference_mode():
        features = encode(model, [""], [picture])
        x_T = {"decoder": invert_pictures(job, [picture], features.pictures, features.condition)}
        embeddings = [features.pictures]
        images = job.draw(embeddings, features.condition, starts_from_noise(job, x_T))
        return job.result(images, embeddings, features.cut)


@pytest.mark.parametrize(
    "options",
    [{}, {"num_steps": 2, "sampler": "ddim"}, {"seed": 9, "guidance_scale": 1.0}, {"num_candidates": 1}],
)
def test_texts_end_in_what_text_to_image_draws_bit_for_bit(pipe: UnClip, options: dict[str, Any]) -> None:
    first, middle, last = way(pipe, A, B, **options)
    ends = pipe.text_to_image(A, **{"seed": 7, "output_type": "pt", **options}).images
    ends += pipe.text_to_image(B, **{"seed": 7, "output_type": "pt", **options}).images
    assert torch.equal(first, ends[0])
    assert torch.equal(last, ends[1])
    assert not torch.allclose(middle, first, atol=0.05)
    assert not torch.allclose(middle, last, atol=0.05)


def test_pictures_end_in_their_reconstructions_bit_for_bit(
    pipe: UnClip, model: Model, picture: Image.Image, other: Image.Image
) -> None:
    frames = way(pipe, picture, other, num_steps={"decoder": 2})
    for frame, end in ((frames[0], picture), (frames[-1], other)):
        assert torch.equal(frame, reconstructed(model, end, num_steps={"decoder": 2}).images[0])


def test_a_text_and_a_picture_end_in_both(pipe: UnClip, model: Model, picture: Image.Image) -> None:
    """The text's end is text_to_image with the settings of inversion; the picture's shares its upsampler noise."""
    settings = model.need_decoder.defaults.replace(**INVERTIBLE)
    same = replace(model, stages={**model.stages, "decoder": replace(model.need_decoder, defaults=settings)})
    options: dict[str, Any] = {"num_steps": {"decoder": 2}}
    there, back = way(pipe, A, picture, **options), way(pipe, picture, A, 2, **options)
    assert torch.equal(there[0], same.text_to_image(A, seed=7, output_type="pt", **options).images[0])
    assert torch.equal(there[[0, 2]], back[[1, 0]])
    small = way(pipe, A, picture, 2, image_size=16, **options)
    assert torch.equal(small[-1], reconstructed(model, picture, image_size=16, **options).images[0])


def test_the_way_is_the_great_circle(pipe: UnClip, model: Model, picture: Image.Image) -> None:
    """A frame by hand: both ends' embeddings and first noise, a third of the way by slerp, then the stages."""
    result = pipe.interpolate(A, B, 4, seed=7, sampler="ddim", output_type="pt")
    noise = NoiseSource.from_seeds([7])
    text, null = (pipe.clip.encode_text(prompts) for prompts in ([A, B], [""]))
    told = [type(text)(*(value[row : row + 1] for value in text)) for row in (0, 1)]
    settings = model.need_prior.defaults.replace(sampler="ddim")
    a = model.need_prior.sample(told[0], null, noise.copy(), settings, num_candidates=2)
    b = model.need_prior.sample(told[1], null, noise, settings, num_candidates=2)
    torch.testing.assert_close(result.image_embeddings, torch.cat([slerp(a, b, f / 3) for f in range(4)]))
    small = model.need_decoder.sample(
        slerp(a, b, 1 / 3), Condition(told[0], null), noise, model.need_decoder.defaults.replace(sampler="ddim")
    )
    large = model.need_upsampler.sample(small, noise).clamp(-1.0, 1.0)
    torch.testing.assert_close(result.images[1], large[0], atol=1e-4, rtol=1e-4)
    assert result.seeds == [7] * 4
    assert result.prompts == [A, A, B, B]
    assert result.settings["between"] == [A, B]
    assert result.settings["frames"] == 4


def test_frames_do_not_depend_on_their_number_or_on_batches(pipe: UnClip) -> None:
    three, five = way(pipe, A, B, 3), way(pipe, A, B, 5)
    assert torch.equal(five[::2], three)
    # Without the upsampler, whose random weights make a lot of a little rounding.
    together, alone = (way(pipe, A, B, 5, image_size=16, seed=9, batch_size=size) for size in (3, 1))
    torch.testing.assert_close(together, alone, atol=1e-3, rtol=1e-3)
    still = way(pipe, A, A, image_size=16)
    assert torch.equal(still, still[:1].expand(3, -1, -1, -1))


def test_progress_counts_two_ends_and_all_frames_and_can_stop(pipe: UnClip, picture: Image.Image) -> None:
    seen: dict[str, int] = {}
    options: dict[str, Any] = {"num_steps": {"decoder": 2}}
    way(pipe, picture, A, progress=lambda stage, done, total: seen.__setitem__(stage, total), **options)
    assert seen == {"prior": 3, "inversion": 2, "decoder": 6, "upsampler_32": 6}

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "inversion":
            raise KeyboardInterrupt

    before = way(pipe, picture, A, **options)
    with pytest.raises(KeyboardInterrupt):
        way(pipe, picture, A, progress=stop, **options)
    assert torch.equal(way(pipe, picture, A, **options), before)


@pytest.mark.parametrize(
    ("a", "frames", "options", "message"),
    [
        (A, 1, {}, "frames=1 is not possible"),
        ("", 3, {}, "the prompt is empty"),
        ("nowhere.PNG", 3, {}, r"nowhere\.PNG is named like a picture, but there is no such file"),
        (Path("nowhere"), 3, {}, "nowhere cannot be read"),
        (A, 3, {"num_images": 2}, "there is no option 'num_images'"),
        (A, 3, {"num_candidates": 0}, "num_candidates=0"),
        (A, 3, {"seed": [1, 2, 3]}, r"seed=\[1, 2, 3\] cannot be used"),
        (A, 3, {"num_steps": {"decoder": 0}}, "num_steps of decoder=0"),
    ],
)
def test_bad_input_is_refused_before_anything_is_drawn(
    pipe: UnClip, a: Any, frames: Any, options: dict[str, Any], message: str
) -> None:
    seen: list[str] = []
    with pytest.raises(InputError, match=message):
        pipe.interpolate(a, B, frames, progress=lambda stage, done, total: seen.append(stage), **options)
    assert seen == []


@pytest.mark.parametrize("sampler", ["ddpm", "heun", "dpm++", {"decoder": "dpm++sde"}])
def test_a_sampler_that_does_not_lead_back_to_a_picture_is_refused(
    pipe: UnClip, model: Model, picture: Image.Image, sampler: Any
) -> None:
    seen: list[str] = []
    for a, b in ((picture, A), (A, picture), (picture, picture)):
        with pytest.raises(InputError, match=r"sampler of decoder='.*' does not lead back to a picture.*use ddim"):
            pipe.interpolate(a, b, 3, sampler=sampler, progress=lambda stage, done, total: seen.append(stage))
    with pytest.raises(InputError, match="does not lead back"):
        reconstructed(model, picture, sampler=sampler)
    assert seen == []
    assert len(pipe.interpolate(A, B, 2, sampler=sampler).images) == 2


def test_what_is_a_picture_and_what_a_text(
    picture: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    picture.save("a.png")
    for given, name in ((picture, "a picture"), (tmp_path / "a.png", "a.png"), ("a.png", "a.png")):
        found = read_input(given)
        assert (found.name, found.text) == (name, "")
        assert found.picture is not None
        assert found.picture.size == (30, 20)
    for text in ("a cat", "x" * 5000, "a cat.\0png?", "a fox.pn"):
        assert read_input(text) == (text, None)
    Path("a cat").write_text("no picture")
    with pytest.raises(InputError, match="a cat is not a picture that can be read"):
        read_input("a cat")
