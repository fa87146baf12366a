"""Text diffs: theta 0 is the reconstruction, the way is the great circle, the x_T is held."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from unclip.diffusion import slerp
from unclip.errors import InputError
from unclip.images import cut
from unclip.pipelines import Result, UnClip
from unclip.pipelines.tasks.text_diff import angle, default_theta

SOURCE, TARGET = "a red apple", "an old house near the yellow sun"


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3))


def moved(pipe: UnClip, picture: Image.Image, source: str = SOURCE, target: str = TARGET, **options: Any) -> Result:
    options = {"seed": 7, "num_steps": {"decoder": 5}, "output_type": "pt", **options}
    return pipe.text_diff(picture, source, target, **options)


@pytest.mark.parametrize("options", [{}, {"image_size": 16}, {"guidance_scale": 2.0}, {"image_size": (48, 32)}])
def test_theta_0_is_the_reconstruction_bit_for_bit(pipe: UnClip, picture: Image.Image, options: dict[str, Any]) -> None:
    told: dict[str, Any] = {"seed": 7, "num_steps": {"decoder": 5}, "output_type": "pt", **options}
    still = pipe.image_variations(picture, eta=0.0, **told)
    result = moved(pipe, picture, theta=0, **options)
    assert torch.equal(result.images[0], still.images[0])
    assert torch.equal(result.image_embeddings, still.image_embeddings)
    assert not torch.allclose(moved(pipe, picture, theta=0.5, **options).images[0], still.images[0], atol=0.05)


def test_the_embedding_goes_along_the_great_circle_to_the_difference(pipe: UnClip, picture: Image.Image) -> None:
    z_i = pipe.clip.encode_pictures([cut(picture, (1, 1))])
    before, after = F.normalize(pipe.clip.encode_text([SOURCE, TARGET]).embedding, dim=-1)
    d = F.normalize(after - before, dim=0)[None] * z_i.norm()
    found = moved(pipe, picture, theta=[0.0, 0.3, 1.0], image_size=16).image_embeddings
    torch.testing.assert_close(found, torch.cat([z_i, slerp(z_i, d, 0.3), d]))
    torch.testing.assert_close(found.norm(dim=-1), z_i.norm().expand(3))


def test_a_dial_is_its_pictures_one_by_one(pipe: UnClip, picture: Image.Image) -> None:
    dial = moved(pipe, picture, theta=(0.0, 0.2, 0.6))
    assert (dial.prompts, dial.seeds) == ([TARGET] * 3, [7] * 3)
    assert (dial.settings["source"], dial.settings["theta"]) == (SOURCE, [0.0, 0.2, 0.6])
    for theta, image in zip((0.0, 0.2, 0.6), dial.images, strict=True):
        assert torch.equal(image, moved(pipe, picture, theta=theta).images[0])


def test_the_default_goes_by_the_angle_between_the_texts(pipe: UnClip, picture: Image.Image) -> None:
    z_i = pipe.clip.encode_pictures([cut(picture, (1, 1))])[0]
    before, after = F.normalize(pipe.clip.encode_text([SOURCE, TARGET]).embedding, dim=-1)
    texts, way = (
        math.acos(float(F.cosine_similarity(a, b, dim=0))) for a, b in ((before, after), (z_i, after - before))
    )
    (theta,) = moved(pipe, picture).settings["theta"]
    assert theta == pytest.approx(0.8 * texts / way, rel=1e-4)


def test_a_picture_that_is_the_difference_already_stays() -> None:
    assert default_theta(0.5, 0.0) == 1.0
    assert default_theta(0.5, 0.2) == 1.0
    assert default_theta(0.5, 0.8) == pytest.approx(0.5)
    z = torch.randn(1, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(slerp(z, z, default_theta(0.5, angle(z, z))), z)


def test_only_upsamplers_hear_the_seed(pipe: UnClip, picture: Image.Image) -> None:
    small, large = (
        [moved(pipe, picture, theta=0.4, seed=seed, image_size=size).images[0] for seed in (1, 2)] for size in (16, 32)
    )
    assert torch.equal(*small)
    assert not torch.equal(*large)


def test_no_source_is_the_empty_prompt(pipe: UnClip, picture: Image.Image) -> None:
    z_i = pipe.clip.encode_pictures([cut(picture, (1, 1))])
    before, after = F.normalize(pipe.clip.encode_text(["", TARGET]).embedding, dim=-1)
    found = moved(pipe, picture, "", theta=1.0, image_size=16).image_embeddings
    torch.testing.assert_close(found, F.normalize(after - before, dim=0)[None] * z_i.norm())


@pytest.mark.parametrize(
    ("source", "target", "options", "message"),
    [
        ("a cat", "a cat", {}, "source and target say the same to CLIP"),
        ("a cat", "", {}, "the prompt is empty"),
        (" ", "a cat", {}, "the prompt is empty"),
        ("a cat", "a dog", {"theta": 1.2}, "theta=1.2 is not possible; give a number from 0 to 1"),
        ("a cat", "a dog", {"theta": [0.2, -0.1]}, "theta=-0.1 is not possible"),
        ("a cat", "a dog", {"theta": []}, "theta is empty"),
        ("a cat", "a dog", {"sampler": "heun"}, "sampler of decoder='heun' does not lead back to a picture"),
        ("a cat", "a dog", {"num_images": 2}, "there is no option 'num_images'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_drawn(
    pipe: UnClip, picture: Image.Image, source: str, target: str, options: dict[str, Any], message: str
) -> None:
    seen: list[str] = []
    with pytest.raises(InputError, match=message):
        pipe.text_diff(picture, source, target, progress=lambda *step: seen.append(step[0]), **options)
    assert seen == []
