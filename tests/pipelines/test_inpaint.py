"""Inpainting on the tiny model: what stays, what is generation, what reaches the samplers, and refusals."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from unclip.errors import InputError
from unclip.images import from_pil, resize
from unclip.models import Autoencoder, KandinskyDecoder, autoencoder_preset, kandinsky_decoder_preset
from unclip.pipelines import Condition, DecoderStage, Model, Start, UnClip, run_to_end
from unclip.runtime import NoiseSource, forked_random_state

PROMPT = "a red apple"
SIZES = [(32, 32), (50, 37), (1, 1), (300, 8)]


def noisy(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def mask_of(white: np.ndarray) -> Image.Image:
    return Image.fromarray(white.astype(np.uint8) * 255)


def masks(width: int, height: int) -> dict[str, np.ndarray]:
    """Masks that are white somewhere, by name."""
    rows, columns = np.indices((height, width))
    return {
        "pixel": (rows == height // 2) & (columns == width // 3),
        "border": columns < (width + 2) // 3,
        "checkerboard": (rows + columns) % 2 == 0,
        "all": rows >= 0,
    }


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return noisy(32, 32)


@pytest.fixture(scope="module")
def half() -> Image.Image:
    return mask_of(masks(32, 32)["border"])


@pytest.mark.parametrize("mask", ["pixel", "border", "checkerboard", "all"])
@pytest.mark.parametrize("size", SIZES)
def test_black_stays_to_the_bit_and_white_changes(pipe: UnClip, size: tuple[int, int], mask: str) -> None:
    picture, white = noisy(*size), masks(*size)[mask]
    (result,) = pipe.inpaint(picture, mask_of(white), PROMPT, seed=3).images
    before, after = np.asarray(picture), np.asarray(result)
    assert (result.mode, result.size) == ("RGB", size)
    assert np.array_equal(after[~white], before[~white])
    assert np.mean((after != before)[white]) > 0.8


@pytest.mark.parametrize("kind", ["np", "pt"])
@pytest.mark.parametrize("size", [(32, 32), (50, 37), (8, 50)])
def test_output_types_show_the_same_picture(pipe: UnClip, size: tuple[int, int], kind: Any) -> None:
    picture, white = noisy(*size), masks(*size)["border"]
    eight_bits, other = (
        pipe.inpaint(picture, mask_of(white), PROMPT, seed=3, output_type=type_).images[0] for type_ in ("pil", kind)
    )
    pixels = other if kind == "np" else (other.permute(1, 2, 0).numpy() + 1) / 2
    assert np.array_equal(np.rint(pixels * 255), np.asarray(eight_bits))


@pytest.mark.parametrize(("size", "kind"), [(16, "pil"), (32, "pt"), ((48, 32), "np")])
def test_all_white_is_generation(pipe: UnClip, size: Any, kind: Any) -> None:
    picture = noisy(*(size if isinstance(size, tuple) else (size, size)))
    white = mask_of(np.ones((picture.height, picture.width), bool))
    options: Any = {"seed": 3, "image_size": size, "output_type": kind}
    painted = pipe.inpaint(picture, white, PROMPT, 2, num_resamples=3, **options)
    drawn = pipe.text_to_image(PROMPT, 2, **options)
    varied = pipe.image_variations(picture, 2, **options)
    without = pipe.inpaint(picture, white, None, 2, num_resamples=3, **options)
    for one, other in ((painted, drawn), (without, varied)):
        assert all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(one.images, other.images, strict=True))
        assert torch.equal(one.image_embeddings, other.image_embeddings)
        assert (one.seeds, one.prompts, one.cut) == (other.seeds, other.prompts, other.cut)


@pytest.mark.parametrize("prompt", [None, PROMPT])
def test_all_black_gives_the_picture_back_and_draws_nothing(pipe: UnClip, prompt: str | None) -> None:
    seen: list[str] = []
    picture = noisy(50, 37)
    result = pipe.inpaint(
        picture, Image.new("L", (50, 37)), prompt, 2, seed=3, progress=lambda stage, *_: seen.append(stage)
    )
    assert seen == []
    assert [image.tobytes() for image in result.images] == [picture.tobytes()] * 2
    assert result.images[0] is not picture
    assert result.seeds == [3, 4]


def test_it_is_the_stages_by_hand(pipe: UnClip, model: Model, picture: Image.Image, half: Image.Image) -> None:
    """The known part of the picture at each stage's size, the noise of one generator in the order of generation."""
    result = pipe.inpaint(picture, half, seed=3, num_resamples=2, feather=0, output_type="pt")
    seen, text = pipe.clip.encode_pictures([picture]), pipe.clip.encode_text([""])
    noise, white = NoiseSource.from_seeds([3]), torch.from_numpy(np.asarray(half) > 127).float()[None, None]
    known, small_white = from_pil([picture]), white[..., ::2, ::2].clone()
    # 11 white columns of 32: the sixth of 16 is half known, so it is painted.
    small_white[..., 5] = 1.0
    small_known = resize(known * (1 - white), 16) / resize(1 - white, 16).clamp(min=0.1)
    start = Start(picture=small_known.clamp(-1.0, 1.0), mask=small_white, num_resamples=2)
    decoder, upsampler = model.need_decoder, model.need_upsampler
    small = decoder.finish(run_to_end(decoder.steps(seen, Condition(text, text), noise, decoder.defaults, start=start)))
    start = Start(picture=known, mask=white)
    large = run_to_end(upsampler.steps(small, noise, upsampler.defaults, start=start)).clamp(-1.0, 1.0)
    torch.testing.assert_close(result.images[0], torch.where(white == 0, known, large)[0], atol=1e-5, rtol=1e-5)


def test_what_the_mask_hides_never_shows(pipe: UnClip) -> None:
    """With a prompt; without one, CLIP looks at the whole picture."""
    picture, white = noisy(50, 37), masks(50, 37)["border"]
    other = Image.fromarray(np.where(white[..., None], 255 - np.asarray(picture), np.asarray(picture)))
    assert other.tobytes() != picture.tobytes()
    one, two = (pipe.inpaint(image, mask_of(white), PROMPT, seed=3) for image in (picture, other))
    assert one.images[0].tobytes() == two.images[0].tobytes()


def test_what_is_known_matters(pipe: UnClip, picture: Image.Image, half: Image.Image) -> None:
    other = Image.new("RGB", picture.size, "navy")
    one, two = (np.asarray(pipe.inpaint(image, half, PROMPT, seed=3).images[0]) for image in (picture, other))
    white = np.asarray(half) > 0
    assert np.abs(one[white].astype(float) - two[white]).mean() > 1


def test_the_transparent_part_is_the_mask(
    pipe: UnClip, picture: Image.Image, half: Image.Image, tmp_path: Path
) -> None:
    cutout = picture.copy()
    cutout.putalpha(half.point(lambda value: 255 - value))
    cutout.save(tmp_path / "cutout.png")
    by_alpha = pipe.inpaint(tmp_path / "cutout.png", prompt=PROMPT, seed=3)
    by_mask = pipe.inpaint(picture, half, PROMPT, seed=3)
    # What was painted is opaque, and so is all else here.
    assert by_alpha.images[0].mode == "RGBA"
    assert by_alpha.images[0].getchannel("A").getextrema() == (255, 255)
    assert by_alpha.images[0].convert("RGB").tobytes() == by_mask.images[0].tobytes()
    assert (by_alpha.settings["mask_kind"], by_mask.settings["mask_kind"]) == ("alpha", "white")


def test_a_hole_in_a_mask_is_painted_and_the_rest_stays(pipe: UnClip, picture: Image.Image, half: Image.Image) -> None:
    """OpenAI's masks: black, or white, or the picture itself, clear where to paint."""
    opaque = half.point(lambda value: 255 - value)
    expected = pipe.inpaint(picture, half, PROMPT, seed=3)
    for colours in (Image.new("RGB", picture.size), Image.new("RGB", picture.size, "white"), picture):
        hole = colours.copy()
        hole.putalpha(opaque)
        found = pipe.inpaint(picture, hole, PROMPT, seed=3)
        assert found.images[0].tobytes() == expected.images[0].tobytes()
        assert found.settings == expected.settings | {"mask_kind": "alpha"}
    reversed_ = pipe.inpaint(picture, opaque, PROMPT, seed=3)
    white = Image.new("RGBA", picture.size, "white")
    white.putalpha(opaque)
    assert pipe.inpaint(picture, white, PROMPT, seed=3, mask_kind="white").images[0].tobytes() == (
        reversed_.images[0].tobytes()
    )


@pytest.mark.parametrize(("name", "share"), [("pixel", 1 / 1024), ("border", 11 / 32), ("all", 1.0), ("none", 0.0)])
def test_the_result_says_how_much_was_painted(pipe: UnClip, picture: Image.Image, name: str, share: float) -> None:
    white = masks(32, 32).get(name, np.zeros((32, 32), bool))
    settings = pipe.inpaint(picture, mask_of(white), PROMPT, seed=3, num_steps=1, image_size=16).settings
    assert settings["painted"] == share


def test_seeds_and_batches(pipe: UnClip, picture: Image.Image, half: Image.Image) -> None:
    three = pipe.inpaint(picture, half, PROMPT, 3, seed=3, num_resamples=2)
    assert three.seeds == [3, 4, 5]
    for image, seed in zip(three.images, three.seeds, strict=True):
        alone = pipe.inpaint(picture, half, PROMPT, seed=seed, num_resamples=2)
        assert alone.images[0].tobytes() == image.tobytes()
    assert len({image.tobytes() for image in three.images}) == 3
    together = pipe.inpaint(picture, half, PROMPT, 3, seed=3, num_resamples=2, batch_size=2)
    for one, other in zip(together.images, three.images, strict=True):
        np.testing.assert_allclose(np.asarray(one, float), np.asarray(other, float), atol=1)


def test_resampling_draws_every_step_again(pipe: UnClip, picture: Image.Image, half: Image.Image) -> None:
    """3 steps of the decoder: the two that do not end at t = 0 are made 4 times each."""
    seen: list[tuple[str, int, int]] = []
    pipe.inpaint(picture, half, PROMPT, seed=3, num_resamples=4, progress=lambda *step: seen.append(step))
    assert [step for step in seen if step[0] == "decoder"] == [("decoder", done, 9) for done in range(1, 10)]
    assert seen[-1] == ("upsampler_32", 2, 2)


def test_the_result_says_how_to_draw_it_again(pipe: UnClip) -> None:
    picture, white = noisy(50, 37), masks(50, 37)["border"]
    result = pipe.inpaint(picture, mask_of(white), PROMPT, seed=3, image_size=16, feather=2, num_resamples=3)
    settings = result.settings
    assert {name: settings[name] for name in ("image_size", "drawn_size", "feather", "num_resamples")} == {
        "image_size": [50, 37],
        "drawn_size": 16,
        "feather": 2,
        "num_resamples": 3,
    }
    assert settings["num_candidates"] == 2
    assert settings.keys() >= {"prior", "decoder"}
    assert result.prompts == [PROMPT]


def test_stopping_leaves_nothing(pipe: UnClip, picture: Image.Image, half: Image.Image) -> None:
    before = picture.tobytes()

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "upsampler_32":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipe.inpaint(picture, half, PROMPT, seed=3, progress=stop)
    assert picture.tobytes() == before


def test_one_stage_at_a_time_is_in_memory(tiny_folder: Path, picture: Image.Image, half: Image.Image) -> None:
    lean, whole = (UnClip.load(tiny_folder, "cpu", torch.float32, low_memory=low) for low in (True, False))
    one, two = (pipe.inpaint(picture, half, PROMPT, seed=3).images[0] for pipe in (lean, whole))
    assert one.tobytes() == two.tobytes()
    assert all(parameter.is_meta for parameter in lean.decoder.network.parameters())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mask": None}, "there is no mask, and nothing in the picture is transparent"),
        (
            {"mask": None, "mask_kind": "white"},
            r"mask_kind='white' \(--mask-is\) is how to read a mask, and none was given",
        ),
        ({"mask_kind": "alpha"}, "the mask has nothing transparent"),
        ({"mask": Image.new("L", (32, 31))}, "the mask is 32 x 31 pixels and the picture 32 x 32; resize the mask"),
        ({"mask": Image.new("L", (32, 32), 128)}, "looks like a picture"),
        ({"mask": "nowhere.png"}, r"nowhere\.png cannot be read"),
        ({"image": "nowhere.png"}, r"nowhere\.png cannot be read"),
        ({"prompt": " "}, "the prompt is empty"),
        ({"feather": -1}, "feather=-1 is not possible; give a whole number of at least 0"),
        ({"num_resamples": 0}, "num_resamples=0 is not possible; give a whole number of at least 1"),
        ({"num_images": 0}, "num_images=0"),
        ({"image_size": 24}, "image_size=24 is not one that the model"),
        ({"negative": "red"}, "there is no option 'negative'"),
    ],
)
def test_bad_input_is_refused_before_anything_is_drawn(
    pipe: UnClip, picture: Image.Image, half: Image.Image, arguments: dict[str, Any], message: str
) -> None:
    seen: list[str] = []
    given = {"image": picture, "mask": half, "prompt": PROMPT} | arguments
    with pytest.raises(InputError, match=message):
        pipe.inpaint(**given, progress=lambda stage, *_: seen.append(stage))
    assert seen == []


def latent_model(model: Model) -> UnClip:
    """The tiny model with a decoder that draws latents, and no upsampler."""
    with forked_random_state(0):
        network = KandinskyDecoder(
            kandinsky_decoder_preset("tiny").replace(embedding_dim=model.need_clip.embedding_dim, num_image_tokens=4)
        )
        autoencoder = Autoencoder(autoencoder_preset("tiny"))
    stage = DecoderStage(network.eval(), model.need_decoder.defaults, autoencoder.eval())
    return UnClip("latent", model.encoders, {"prior": model.need_prior, "decoder": stage})


def test_a_decoder_of_latents_paints_too(model: Model) -> None:
    pipe = latent_model(model)
    side, factor = pipe.decoder.image_size, pipe.decoder.stage.downsampling
    assert factor > 1
    picture, white = noisy(side, side), np.zeros((side, side), bool)
    white[:, side // 2 + 1 :] = True
    result = pipe.inpaint(picture, mask_of(white), PROMPT, seed=3)
    before, after = np.asarray(picture), np.asarray(result.images[0])
    assert np.array_equal(after[~white], before[~white])
    assert not np.array_equal(after, before)
    everything = pipe.inpaint(picture, mask_of(np.ones_like(white)), PROMPT, seed=3)
    assert everything.images[0].tobytes() == pipe.text_to_image(PROMPT, seed=3).images[0].tobytes()
