"""Pictures with a coverage: every task of a model of 4 channels, on every background."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from task_calls import EVERY, PROMPT, TASKS, mask, picture
from unclip.errors import CheckpointError, InputError
from unclip.images import from_pil, to_pil
from unclip.pipelines import Draft, Result, UnClip
from unclip.testing import tiny_pipeline

CLEAR = "transparent"
# The tasks that put backgrounds behind their pictures each in its own way; all others leave it to the job.
OWN_WAYS = ("text_to_image", "inpaint", "outpaint", "upscale")


@pytest.fixture(scope="module")
def alpha() -> UnClip:
    return tiny_pipeline(channels=4)


@pytest.fixture(scope="module", params=[False, True], ids=["pixels", "latents"])
def either(request: pytest.FixtureRequest) -> UnClip:
    return tiny_pipeline(channels=4, latents=request.param)


def cut_out(side: int = 32) -> Image.Image:
    """A picture whose alpha rises from left to right, from 0 on."""
    clear = picture(side).convert("RGBA")
    clear.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, side).round().astype(np.uint8), (side, 1))))
    return clear


def draw(pipe: UnClip, task: str, **options: Any) -> Result:
    return TASKS[task](pipe, seed=7, **options)


def pixels(result: Result) -> np.ndarray:
    return np.stack([np.asarray(image) for image in result.images])


@pytest.mark.parametrize("task", EVERY)
def test_every_background_shows_the_same_picture(either: UnClip, task: str) -> None:
    """A transparent picture laid on a colour is the picture on that colour, to the rounding of two 8-bit numbers."""
    white, clear, gold = (draw(either, task, background=ground) for ground in ("white", CLEAR, "#ffcc00"))
    assert {image.mode for image in white.images} == {image.mode for image in gold.images} == {"RGB"}
    assert {image.mode for image in clear.images} == {"RGBA"}
    assert [one.settings["background"] for one in (white, clear, gold)] == ["white", "transparent", "#ffcc00"]
    # Random networks draw colours and coverages that do not fit each other: there colours are clamped.
    alphas = pixels(clear)[..., 3:] / 255
    fits = (pixels(white) / 255 >= 1 - alphas + 1 / 255) & (alphas > 1 / 255)
    assert fits.mean() > 0.02
    for result, colour in ((white, (255, 255, 255)), (gold, (255, 204, 0))):
        laid = alphas * pixels(clear)[..., :3] + (1 - alphas) * np.array(colour)
        np.testing.assert_allclose(np.where(fits, laid, 0), np.where(fits, pixels(result), 0), atol=2.01)


@pytest.mark.parametrize("task", OWN_WAYS)
@pytest.mark.parametrize(("background", "channels"), [("white", 3), ("10, 20,30", 3), (CLEAR, 4)])
def test_arrays_and_tensors_have_the_channels_of_the_background(
    alpha: UnClip, task: str, background: str, channels: int
) -> None:
    pil, array, tensor = (draw(alpha, task, background=background, output_type=form) for form in ("pil", "np", "pt"))
    assert {one.shape[-1] for one in array.images} == {one.shape[0] for one in tensor.images} == {channels}
    np.testing.assert_allclose(np.rint(pixels(array) * 255), pixels(pil), atol=1)
    # A tensor is RGB on white and the coverage: read back, it is the picture again.
    again = np.stack([np.asarray(image) for image in tensor.pictures()])
    is_seen = pixels(pil)[..., 3:] > 25 if channels == 4 else np.ones_like(again[..., :1], dtype=bool)
    np.testing.assert_allclose(np.where(is_seen, again, 0), np.where(is_seen, pixels(pil), 0), atol=8)
    assert tensor.images[0].min() >= -1.0
    assert tensor.images[0].max() <= 1.0


@pytest.mark.parametrize("task", EVERY)
def test_another_background_is_refused_by_models_without_alpha(pipe: UnClip, task: str) -> None:
    with pytest.raises(InputError, match="background='gold' needs pictures with transparency, and 'tiny' draws opaque"):
        draw(pipe, task, background="gold")


def test_white_is_what_is_drawn_anyway(pipe: UnClip, alpha: UnClip) -> None:
    for model in (pipe, alpha):
        plain, white = (draw(model, "text_to_image", **options) for options in ({}, {"background": "white"}))
        assert np.array_equal(pixels(plain), pixels(white))
        assert ("background" in plain.settings) == (model is alpha)


@pytest.mark.parametrize("text", ["goldish", "#12", "1,2", "1,2,256", "#11223344", "", "rgb(1,2)", 5])
def test_what_is_no_background_is_refused(alpha: UnClip, text: Any) -> None:
    with pytest.raises(InputError, match=r"is no background; give white, transparent"):
        alpha.text_to_image(PROMPT, background=text)


def test_colours_are_read_in_every_form(alpha: UnClip) -> None:
    forms = ("gold", "#ffd700", "255,215,0", "rgb(255, 215, 0)")
    results = [alpha.text_to_image(PROMPT, seed=1, background=form) for form in forms]
    assert [one.settings["background"] for one in results] == ["#ffd700"] * 4
    assert all(np.array_equal(pixels(results[0]), pixels(one)) for one in results)


# Inputs.


def test_alpha_of_a_picture_is_read(alpha: UnClip) -> None:
    """At eta 0 the picture comes back: what is transparent in it is transparent again, what is opaque opaque."""
    clear = alpha.image_to_image(cut_out(), strength=0.01, seed=1, image_size=16, background=CLEAR, num_steps=500)
    opaque = alpha.image_to_image(picture(), strength=0.01, seed=1, image_size=16, background=CLEAR, num_steps=500)
    expected = np.asarray(cut_out().getchannel("A").resize((16, 16), Image.Resampling.BICUBIC), dtype=float)
    np.testing.assert_allclose(pixels(clear)[0, ..., 3].mean(0), expected.mean(0), atol=30)
    assert pixels(opaque)[0, ..., 3].mean() > 225


def test_clip_sees_pictures_on_white(alpha: UnClip) -> None:
    on_white = to_pil(from_pil([cut_out()]))[0]
    tensor = from_pil([cut_out()], 4)[0]
    seen = [alpha.embed(one) for one in (cut_out(), on_white, tensor, from_pil([on_white])[0])]
    assert all(torch.equal(seen[0], one) for one in seen)
    ranked = alpha.text_to_image(PROMPT, 1, best_of=3, seed=1, background=CLEAR, image_size=16)
    same = alpha.text_to_image(PROMPT, 1, best_of=3, seed=1, image_size=16)
    assert ranked.settings["scores"] == same.settings["scores"]


def test_a_bound_upsampler_reads_coverage(alpha: UnClip) -> None:
    upsampler = alpha.upsamplers[32]
    clear = upsampler.sample(from_pil([cut_out(16)], 4), seed=1)
    assert clear.shape == (1, 4, 32, 32)
    assert torch.equal(clear, upsampler.sample(cut_out(16), seed=1))
    opaque = upsampler.sample(from_pil([picture(16)]), seed=1)
    assert torch.equal(opaque, upsampler.sample(from_pil([picture(16)], 4), seed=1))
    with pytest.raises(InputError, match=r"or 4 channels: RGB on white and its coverage\); found \(1, 2, 16, 16\)"):
        upsampler.sample(torch.zeros(1, 2, 16, 16))


# Painting.


@pytest.mark.parametrize("background", ["white", "gold", CLEAR])
@pytest.mark.parametrize("kind", ["RGBA", "RGB", "LA", "L", "P", "CMYK", "I;16"])
def test_inpaint_keeps_every_pixel_outside_the_mask(either: UnClip, kind: str, background: str) -> None:
    source = cut_out(48) if kind in ("RGBA", "LA") else picture(48)
    source = source.convert("I" if kind == "I;16" else kind)
    if kind == "I;16":
        source = Image.fromarray((np.asarray(source) * 257).astype(np.uint16))
    result = either.inpaint(source, mask(48), PROMPT, seed=3, background=background)
    (drawn,) = result.images
    outside = np.asarray(mask(48)) == 0
    has_own = background != CLEAR or kind in ("RGBA", "LA")
    assert drawn.mode == {"P": "RGB"}.get(kind, kind) if has_own else drawn.mode in ("LA", "RGBA")
    if drawn.mode in ("RGBA", "LA") and kind in ("RGBA", "LA"):
        assert np.array_equal(np.asarray(drawn)[outside], np.asarray(source)[outside])
    elif has_own:
        expected = source.convert(drawn.mode) if kind == "P" else source
        assert np.array_equal(np.asarray(drawn)[outside], np.asarray(expected)[outside])
    elif kind in ("RGB", "L", "P"):
        wider = np.asarray(source.convert(drawn.mode))
        assert np.array_equal(np.asarray(drawn)[outside], wider[outside])
        assert (np.asarray(drawn)[outside][:, -1] == 255).all()
    inside = np.asarray(drawn)[~outside]
    assert np.std(inside.astype(float)) > 1
    if drawn.mode in ("RGBA", "LA"):
        assert (inside[:, -1] < 255).any() == (background == CLEAR)


@pytest.mark.parametrize("form", ["pil", "np", "pt"])
def test_inpaint_keeps_alpha_in_every_form(either: UnClip, form: str) -> None:
    (drawn,) = either.inpaint(cut_out(), mask(), PROMPT, seed=3, background=CLEAR, output_type=form).images
    outside = np.asarray(mask()) == 0
    if form == "pt":
        assert torch.equal(drawn[:, outside], from_pil([cut_out()], 4)[0][:, outside])
    else:
        scale = 255 if form == "np" else 1
        assert np.array_equal((np.asarray(drawn) * scale)[outside], np.asarray(cut_out()).astype(float)[outside])


@pytest.mark.parametrize("form", ["pil", "np", "pt"])
def test_a_mask_of_nothing_gives_the_clear_picture_back(alpha: UnClip, form: str) -> None:
    nothing = Image.new("L", (32, 32))
    (drawn,) = alpha.inpaint(cut_out(), nothing, PROMPT, background=CLEAR, output_type=form).images
    expected = {"pil": np.asarray(cut_out()), "np": np.asarray(cut_out(), dtype=np.float32) / 255}
    if form == "pt":
        assert torch.equal(drawn, from_pil([cut_out()], 4)[0])
    else:
        assert np.array_equal(np.asarray(drawn), expected[form])


@pytest.mark.parametrize("background", ["white", "gold", CLEAR])
@pytest.mark.parametrize("form", ["pil", "np"])
def test_outpaint_keeps_the_picture(either: UnClip, background: str, form: str) -> None:
    (drawn,) = either.outpaint(cut_out(), PROMPT, left=8, seed=3, background=background, output_type=form).images
    kept = np.asarray(drawn)[:, 8:] * (255 if form == "np" else 1)
    if form == "pil" or background == CLEAR:
        assert np.array_equal(kept, np.asarray(cut_out()).astype(float))
    else:
        ground = Image.new("RGBA", (32, 32), background)
        expected = np.asarray(Image.alpha_composite(ground, cut_out()).convert("RGB"), dtype=float)
        np.testing.assert_allclose(kept, expected, atol=1.5)
    if form == "pil":
        assert (np.asarray(drawn)[:, :8, 3] < 255).any() == (background == CLEAR)


def test_a_mask_of_everything_draws_what_the_prompt_alone_draws(alpha: UnClip) -> None:
    whole = Image.new("L", (32, 32), 255)
    for ground in ("white", CLEAR):
        painted = alpha.inpaint(cut_out(), whole, PROMPT, seed=5, background=ground)
        alone = alpha.text_to_image(PROMPT, seed=5, background=ground)
        assert np.array_equal(pixels(painted)[..., :3] if ground == "white" else pixels(painted), pixels(alone))


def test_upscaling_in_blocks_keeps_alpha(alpha: UnClip, monkeypatch: pytest.MonkeyPatch) -> None:
    from unclip.pipelines.tasks import upscale

    whole = alpha.upscale(cut_out(24), seed=1, background=CLEAR)
    assert whole.images[0].mode == "RGBA"
    assert whole.images[0].size == (48, 48)
    monkeypatch.setattr(upscale, "BLOCK", 7)
    strips = upscale._join([picture(24), cut_out(24).getchannel("A")], CLEAR)
    monkeypatch.setattr(upscale, "BLOCK", 1024)
    assert np.array_equal(strips, upscale._join([picture(24), cut_out(24).getchannel("A")], CLEAR))


# Drafts, files and fit.


def test_a_draft_keeps_coverage_and_background(alpha: UnClip, pipe: UnClip, tmp_path: Path) -> None:
    expected = alpha.text_to_image(PROMPT, seed=4, background=CLEAR)
    for stage in ("prior", "decoder"):
        alpha.draft(PROMPT, seed=4, stop_after=stage, background=CLEAR).save(tmp_path / "draft.safetensors")
        begun = Draft.load(tmp_path / "draft.safetensors")
        assert begun.background == CLEAR
        assert np.array_equal(pixels(alpha.finish(begun)), pixels(expected))
        gold = alpha.finish(begun, background="gold")
        assert np.array_equal(pixels(gold), pixels(alpha.text_to_image(PROMPT, seed=4, background="gold")))
    on_white = alpha.draft(PROMPT, seed=4, stop_after="decoder")
    with pytest.raises(InputError, match=r"the draft's pictures have 4 channels .* but the stages of 'tiny' have 3"):
        pipe.finish(on_white)
    assert alpha.advance(
        alpha.draft(PROMPT, stop_after="prior", background=CLEAR), stop_after="decoder"
    ).background == (CLEAR)


def test_files_keep_alpha_or_refuse_it(alpha: UnClip, tmp_path: Path) -> None:
    result = alpha.text_to_image(PROMPT, 2, seed=4, background=CLEAR)
    (png, _), (webp, _) = result.save(tmp_path), result.save(tmp_path, "webp")
    with Image.open(png) as found:
        assert np.array_equal(np.asarray(found), np.asarray(result[0]))
    with Image.open(webp) as found:
        assert found.mode == "RGBA"
    assert result.grid().mode == "RGBA"
    for name in ("a.jpg", "a.jpeg", "a.gif"):
        with pytest.raises(InputError, match="has no place in a"):
            result.save(tmp_path / name)
    with pytest.raises(InputError, match=r"no place in a \.jpg file"):
        result.save(tmp_path, "jpg")
    assert len(list(tmp_path.iterdir())) == 4
    assert alpha.text_to_image(PROMPT, seed=4, background="gold").save(tmp_path / "a.jpg")[0].exists()


@pytest.mark.parametrize("latents", [False, True])
def test_a_folder_draws_the_same(tmp_path: Path, latents: bool) -> None:
    made = tiny_pipeline(channels=4, latents=latents)
    made.save(tmp_path / "model")
    read = UnClip.load(tmp_path / "model", "cpu", torch.float32)
    assert read.channels == 4
    clear = {"background": CLEAR}
    first, second = (
        one.text_to_image(PROMPT, seed=2, image_size=16, output_type="pt", **clear) for one in (made, read)
    )
    # Weights from files lie in memory with their channels last, and such kernels round differently.
    torch.testing.assert_close(first.images[0], second.images[0], rtol=0, atol=1e-4)


def test_stages_of_other_channels_are_refused(alpha: UnClip, pipe: UnClip) -> None:
    message = r"disagree on the channels of pictures \(3, or 4 with alpha\): decoder 4, upsampler_32 3"
    with pytest.raises(CheckpointError, match=message):
        alpha.replace(upsamplers=pipe)
    latents = tiny_pipeline(channels=3, latents=True)
    with pytest.raises(CheckpointError, match="autoencoder 3, upsampler_32 4"):
        latents.replace(upsamplers=alpha)
