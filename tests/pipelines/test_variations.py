"""Variations of pictures: CLIP's embedding is what the decoder draws, and bad pictures are refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from unclip.diffusion import ddim, invert, slerp, time_grid
from unclip.errors import InputError
from unclip.images import cover, cut, from_pil
from unclip.pipelines import Condition, Model, UnClip
from unclip.pipelines.inversion import INVERTIBLE, INVERTIBLE_UPSAMPLER
from unclip.runtime import NoiseSource
from unclip_pipelines import unclip_pipeline


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3))


def test_it_is_the_stages_by_hand(pipe: UnClip, model: Model, picture: Image.Image) -> None:
    result = pipe.image_variations(picture, seed=3, output_type="pt")
    seen, text = pipe.clip.encode_pictures([picture]), pipe.clip.encode_text([""])
    noise = NoiseSource.from_seeds([3])
    small = model.need_decoder.sample(seen, Condition(text, text), noise)
    large = model.need_upsampler.sample(small, noise).clamp(-1.0, 1.0)
    torch.testing.assert_close(result.images[0], large[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(result.image_embeddings, seen)
    assert result.prompts == result.cut == [""]


def test_a_variation_depends_on_its_picture_and_seed_alone(pipe: UnClip, picture: Image.Image, tmp_path: Path) -> None:
    other = picture.rotate(180)
    other.save(tmp_path / "other.png")
    both = pipe.image_variations([picture, tmp_path / "other.png"], num_images=2, seed=3, output_type="np")
    assert both.seeds == [3, 4, 3, 4]
    for index, (image, seed) in enumerate([(picture, 3), (picture, 4), (other, 3), (other, 4)]):
        alone = pipe.image_variations(image, seed=seed, output_type="np")
        assert np.array_equal(both.images[index], alone.images[0])
    assert not np.allclose(both.images[0], both.images[1], atol=0.1)


def test_what_is_no_picture_is_refused(pipe: UnClip, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(InputError, match=r"text\.png is not a picture that can be read"):
        pipe.image_variations(tmp_path / "text.png")
    with pytest.raises(InputError, match=r"nowhere\.png cannot be read"):
        pipe.image_variations(tmp_path / "nowhere.png")
    with pytest.raises(InputError, match="no picture was given"):
        pipe.image_variations([])


def drawn(pipe: UnClip, picture: Image.Image, num_images: int = 1, **options: Any) -> torch.Tensor:
    """Variations at the decoder's size unless told otherwise."""
    options = {"seed": 3, "output_type": "pt", "image_size": 16, **options}
    return torch.stack(pipe.image_variations(picture, num_images, **options).images)


def test_eta_0_is_inversion_and_ddim_by_hand(pipe: UnClip, model: Model, picture: Image.Image) -> None:
    square = cut(picture, (1, 1))
    text, seen = pipe.clip.encode_text([""]), pipe.clip.encode_pictures([square])
    settings = model.need_decoder.defaults.replace(**INVERTIBLE)
    denoiser = model.need_decoder.denoiser(seen, Condition(text, text), settings)
    times = time_grid(model.need_decoder.schedule, 6, sigma_min=0.3)
    *_, climbed = invert(denoiser, from_pil([cover(square, (16, 16))]), times)
    *_, back = ddim(denoiser, climbed.x_t, times)
    torch.testing.assert_close(
        drawn(pipe, picture, eta=0.0, num_steps=6)[0], back.x_t.clamp(-1, 1)[0], atol=1e-4, rtol=1e-4
    )


def test_exact_begins_every_stage_at_its_noise_and_no_seed_matters(
    pipe: UnClip, model: Model, picture: Image.Image
) -> None:
    options: dict[str, Any] = {"eta": 0.0, "image_size": 32, "num_steps": 4}
    exact, other = (drawn(pipe, picture, exact=True, seed=seed, **options) for seed in (3, 4))
    assert torch.equal(exact, other)
    small = drawn(pipe, picture, eta=0.0, num_steps=4)
    near, real = (from_pil([cover(cut(picture, (1, 1)), (side, side))]) for side in (16, 32))
    settings = model.need_upsampler.defaults.replace(**{**INVERTIBLE_UPSAMPLER, "num_steps": 4})
    times = time_grid(model.need_upsampler.schedule, 4, sigma_min=0.1)
    *_, climbed = invert(model.need_upsampler.tiled_denoiser(near, (32, 32), settings), real, times, 1)
    *_, back = ddim(model.need_upsampler.tiled_denoiser(small, (32, 32), settings), climbed.x_t, times)
    torch.testing.assert_close(exact, back.x_t.clamp(-1, 1), atol=1e-4, rtol=1e-4)


def test_eta_varies_by_the_seed_alone(pipe: UnClip, picture: Image.Image) -> None:
    still, (first, second) = (
        drawn(pipe, picture, num_steps=4, **o) for o in ({"eta": 0.0}, {"num_images": 2, "eta": 0.7})
    )
    assert torch.equal(drawn(pipe, picture, 2, eta=0.0, num_steps=4), still.expand(2, -1, -1, -1))
    assert torch.equal(drawn(pipe, picture, eta=0.7, seed=4, num_steps=4)[0], second)
    assert min(float((a - b).abs().max()) for a, b in ((first, second), (first, still[0]), (second, still[0]))) > 0.05


def test_clip_and_inversion_see_the_same_cut(pipe: UnClip, picture: Image.Image) -> None:
    for shape in ((16, 16), (24, 8)):
        whole = drawn(pipe, picture, eta=0.0, image_size=shape, num_steps=5)
        assert torch.equal(whole, drawn(pipe, cut(picture, shape), eta=0.0, image_size=shape, num_steps=5))
        assert whole.shape[2:] == shape[::-1]


def test_a_text_takes_part_by_its_weight(pipe: UnClip, picture: Image.Image) -> None:
    told: dict[str, Any] = {"seed": 3, "output_type": "pt"}
    text, alone = pipe.text_to_image("a cat", **told), pipe.image_variations(picture, **told)
    at = {
        weight: pipe.image_variations(picture, prompt="a cat", text_weight=weight, **told) for weight in (0.0, 0.5, 1.0)
    }
    assert torch.equal(at[1.0].images[0], text.images[0])
    assert torch.equal(at[0.0].image_embeddings, alone.image_embeddings)
    torch.testing.assert_close(at[0.5].image_embeddings, slerp(alone.image_embeddings, text.image_embeddings, 0.5))
    assert (at[0.5].prompts, at[0.5].settings["text_weight"]) == (["a cat"], 0.5)
    both = pipe.image_variations(picture, eta=0.0, prompt="a cat", num_steps={"decoder": 2}, **told)
    assert torch.equal(
        both.image_embeddings[0],
        pipe.image_variations(cut(picture, (1, 1)), prompt="a cat", **told).image_embeddings[0],
    )


def test_progress_counts_the_inversions(pipe: UnClip, picture: Image.Image) -> None:
    totals: dict[str, int] = {}
    pipe.image_variations(
        [picture, picture], 2, eta=0.0, exact=True, seed=3, num_steps=4,
        progress=lambda stage, done, total: totals.__setitem__(stage, total),
    )  # fmt: skip
    assert totals == {"inversion": 8, "inversion of upsampler_32": 8, "decoder": 16, "upsampler_32": 16}


def test_a_published_layout_inverts_too(tmp_path: Path, picture: Image.Image) -> None:
    """Predicted noise, learned variance, and another network for the upsampler's last step."""
    unclip_pipeline(tmp_path, variation=True).save_pretrained(tmp_path / "karlo")
    pipe = UnClip.load(tmp_path / "karlo", "cpu", torch.float32)
    options: dict[str, Any] = {"eta": 0.0, "exact": True, "num_steps": 3, "image_size": None}
    first, second = (drawn(pipe, picture, seed=seed, **options) for seed in (3, 4))
    assert torch.equal(first, second)
    assert float(first.std()) > 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eta": 1.5}, "eta=1.5 is not possible; give a number from 0 to 1"),
        ({"eta": True}, "eta=True is not possible"),
        ({"exact": True}, "exact=True goes back to the noise of the picture, so it needs eta"),
        ({"eta": 0.0, "sampler": {"decoder": "dpm++"}}, "sampler of decoder='dpm\\+\\+' does not lead back"),
        ({"eta": 0.0, "exact": True, "sampler": {"upsampler_32": "ddpm"}}, "sampler of upsampler_32='ddpm'"),
        ({"prompt": "a cat", "text_weight": float("nan")}, "text_weight=nan is not possible"),
        ({"prompt": " "}, "the prompt is empty"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_drawn(
    pipe: UnClip, picture: Image.Image, options: dict[str, Any], message: str
) -> None:
    seen: list[str] = []
    with pytest.raises(InputError, match=message):
        pipe.image_variations(picture, progress=lambda stage, done, total: seen.append(stage), **options)
    assert seen == []
