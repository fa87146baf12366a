"""Image to image: full strength is generation, little strength the picture, in between SDEdit by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from unclip.diffusion import add_noise, get_sampler, times_from
from unclip.errors import InputError
from unclip.images import cover, from_pil
from unclip.pipelines import Condition, Model, UnClip, run_to_end
from unclip.pipelines.stage import stage_times
from unclip.runtime import NoiseSource


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    """A gradient, wider than high."""
    y, x = np.mgrid[:40, :60]
    return Image.fromarray(np.stack([4 * x, 6 * y, 255 - 2 * x - y], axis=-1).astype(np.uint8))


def drawn(pipe: UnClip, picture: Image.Image, prompt: str | None = None, **options: Any) -> torch.Tensor:
    return torch.stack(pipe.image_to_image(picture, prompt, output_type="pt", **{"seed": 7, **options}).images)


def test_full_strength_is_generation(pipe: UnClip, picture: Image.Image) -> None:
    generated = pipe.text_to_image("a cat", seed=7, negative_prompt="a tree", output_type="pt")
    assert torch.equal(drawn(pipe, picture, "a cat", strength=1.0, negative_prompt="a tree")[0], generated.images[0])
    varied = pipe.image_variations(picture, seed=7, output_type="pt")
    assert torch.equal(drawn(pipe, picture, strength=1)[0], varied.images[0])


def test_the_less_strength_the_nearer_the_picture(pipe: UnClip, picture: Image.Image) -> None:
    """The network's error enters times sigma / alpha of the time that sampling begins at, which falls with strength."""
    seen = from_pil([cover(picture, (16, 16))])[0]
    options: dict[str, Any] = {"image_size": 16, "num_steps": 20, "sampler": "ddim", "guidance_scale": 1.0}
    distances = [
        float((drawn(pipe, picture, strength=strength, **options)[0] - seen).abs().mean())
        for strength in (0.001, 0.2, 0.4, 0.7, 1.0)
    ]
    assert distances == sorted(distances)
    assert 0.0 < distances[0] < 0.02
    assert distances[-1] > 0.2


def test_it_is_sdedit_by_hand(pipe: UnClip, model: Model, picture: Image.Image) -> None:
    """Algorithm 1: forward process to t_0, then the sampler down its grid from there; the upsampler as ever."""
    result = pipe.image_to_image(picture, "a cat", strength=0.6, seed=7, num_steps={"decoder": 5}, output_type="pt")
    noise, text, null = (
        NoiseSource.from_seeds([7]),
        model.need_clip.encode_text(["a cat"]),
        model.need_clip.encode_text([""]),
    )
    z = model.need_prior.sample(text, null, noise, num_candidates=2)
    stage, settings = model.need_decoder, model.need_decoder.defaults.replace(num_steps=5)
    times = times_from(stage_times(stage.schedule, settings), 0.6)
    assert len(times) == 4
    x_t = add_noise(stage.schedule, from_pil([cover(picture, (16, 16))]), noise((3, 16, 16)), times[0])
    denoiser = stage.denoiser(z, Condition(text, null), settings)
    small = run_to_end(get_sampler(settings.sampler).sample(denoiser, x_t, times, lambda: noise((3, 16, 16))))
    large = model.need_upsampler.sample(small.clamp(-1.0, 1.0), noise).clamp(-1.0, 1.0)
    torch.testing.assert_close(result.images[0], large[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(result.image_embeddings, z)


def test_a_picture_depends_on_its_own_and_its_seed_alone(pipe: UnClip, picture: Image.Image, tmp_path: Path) -> None:
    other = picture.rotate(180)
    other.save(tmp_path / "other.png")
    both = pipe.image_to_image([picture, tmp_path / "other.png"], "a cat", 2, seed=3, output_type="pt")
    assert (both.seeds, both.prompts) == ([3, 4, 3, 4], ["a cat"] * 4)
    assert torch.equal(both.images[1], drawn(pipe, picture, "a cat", seed=4)[0])
    assert torch.equal(both.images[2], drawn(pipe, other, "a cat", seed=3)[0])
    together = pipe.image_to_image([picture, other], "a cat", 2, seed=3, output_type="pt", batch_size=3)
    torch.testing.assert_close(torch.stack(together.images), torch.stack(both.images), atol=1e-3, rtol=1e-3)


def test_it_is_cut_to_the_shape_and_told_in_the_settings(pipe: UnClip, picture: Image.Image) -> None:
    seen: list[tuple[str, int, int]] = []
    result = pipe.image_to_image(
        picture, strength=0.5, seed=7, image_size=(48, 32), progress=lambda *step: seen.append(step)
    )
    assert result.images[0].size == (48, 32)
    assert (result.settings["strength"], result.settings["image_size"]) == (0.5, [48, 32])
    assert (result.prompts, result.cut, "prior" in result.settings) == ([""], [""], False)
    assert seen == [("decoder", 1, 2), ("decoder", 2, 2), ("upsampler_32", 1, 2), ("upsampler_32", 2, 2)]


@pytest.mark.parametrize("strength", [0.0, -0.5, 1.5, float("nan"), True])
def test_a_strength_outside_is_refused_before_anything_is_drawn(
    pipe: UnClip, picture: Image.Image, strength: Any
) -> None:
    seen: list[str] = []
    with pytest.raises(InputError, match=r"strength=.* is not possible; give a number above 0 and up to 1"):
        pipe.image_to_image(picture, strength=strength, progress=lambda stage, done, total: seen.append(stage))
    with pytest.raises(InputError, match="the prompt is empty"):
        pipe.image_to_image(picture, " ", progress=lambda stage, done, total: seen.append(stage))
    assert seen == []
