"""Mixing: one part alone is itself, weights are those of directions, and noise is that of each text alone."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from unclip.diffusion import slerp
from unclip.errors import InputError
from unclip.pipelines import UnClip

A, B = "a red apple", "an old house near the yellow sun"


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3))


def mixed(pipe: UnClip, parts: list[tuple[Any, float]], num_images: int = 1, **options: Any) -> torch.Tensor:
    return torch.stack(pipe.mix(parts, num_images, **{"seed": 7, "output_type": "pt", **options}).images)


def test_a_text_alone_is_text_to_image_bit_for_bit(pipe: UnClip) -> None:
    alone = pipe.text_to_image(A, 2, seed=7, output_type="pt")
    assert torch.equal(mixed(pipe, [(A, 1)], 2), torch.stack(alone.images))
    assert torch.equal(mixed(pipe, [(A, 0.3), (B, 0.0)], 2), torch.stack(alone.images))


def test_a_picture_alone_is_its_variation_bit_for_bit(pipe: UnClip, picture: Image.Image) -> None:
    alone = pipe.image_variations(picture, 2, seed=7, output_type="pt")
    assert torch.equal(mixed(pipe, [(picture, 1.0)], 2), torch.stack(alone.images))


def test_the_embedding_is_the_weighted_mean_of_what_each_part_is_alone(pipe: UnClip, picture: Image.Image) -> None:
    result = pipe.mix([(A, 0.5), (picture, 0.3), (B, -0.2)], 3, seed=7)
    parts = [pipe.text_to_image(text, 3, seed=7).image_embeddings for text in (A, B)]
    parts.insert(1, pipe.image_variations(picture, 3, seed=7).image_embeddings)
    direction = sum(weight * F.normalize(part, dim=-1) for weight, part in zip((0.5, 0.3, -0.2), parts, strict=True))
    norm = sum(weight * part.norm(dim=-1) for weight, part in zip((0.5, 0.3, 0.2), parts, strict=True))
    expected = F.normalize(direction, dim=-1) * norm[:, None]
    torch.testing.assert_close(result.image_embeddings, expected, atol=1e-5, rtol=1e-5)
    assert result.prompts == [A] * 3
    assert result.seeds == [7, 8, 9]
    assert result.settings["parts"] == [[A, 0.5], ["a picture", 0.3], [B, -0.2]]


def test_halves_are_the_middle_of_the_interpolation(pipe: UnClip) -> None:
    """Of two directions the mean is half way along the great circle, and both tasks draw the same noise."""
    a, b = (pipe.text_to_image(text, seed=7).image_embeddings for text in (A, B))
    half = pipe.mix([(A, 1), (B, 1)], seed=7)
    torch.testing.assert_close(half.image_embeddings, slerp(a, b, 0.5), atol=1e-5, rtol=1e-5)
    between = pipe.interpolate(A, B, 3, seed=7, output_type="pt", image_size=16).images[1]
    torch.testing.assert_close(mixed(pipe, [(A, 1), (B, 1)], image_size=16)[0], between, atol=1e-3, rtol=1e-3)


def test_a_part_leads_to_itself_and_below_zero_away(pipe: UnClip) -> None:
    a, b = (F.normalize(pipe.text_to_image(text, seed=7).image_embeddings, dim=-1) for text in (A, B))

    def likeness(weight: float) -> float:
        return float(F.cosine_similarity(pipe.mix([(A, 1), (B, weight)], seed=7).image_embeddings, b))

    assert likeness(-0.5) < likeness(0.0) < likeness(0.5) < likeness(2.0)
    assert likeness(0.0) == pytest.approx(float((a * b).sum()), abs=1e-5)


def test_picture_k_has_seed_plus_k_in_any_batch(pipe: UnClip, picture: Image.Image) -> None:
    parts: list[tuple[Any, float]] = [(picture, 1), (A, 1), (B, 1)]
    three = mixed(pipe, parts, 3)
    assert torch.equal(three[2:], mixed(pipe, parts, seed=9))
    together, alone = (mixed(pipe, parts, 3, batch_size=size, image_size=16) for size in (2, 1))
    torch.testing.assert_close(together, alone, atol=1e-3, rtol=1e-3)


def test_progress_counts_every_text_of_every_picture(pipe: UnClip, picture: Image.Image) -> None:
    seen: dict[str, int] = {}
    mixed(pipe, [(A, 1), (picture, 1), (B, 1)], 2, progress=lambda stage, done, total: seen.__setitem__(stage, total))
    assert seen == {"prior": 12, "decoder": 6, "upsampler_32": 4}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "nothing to mix"),
        ([(A, 0), (B, 0.0)], "all weights are 0"),
        ([(A, float("inf"))], "the weight of a red apple=inf"),
        ([("", 1)], "the prompt is empty"),
        ([("a.webp", 1)], r"a\.webp is named like a picture"),
    ],
)
def test_bad_parts_are_refused_before_anything_is_drawn(pipe: UnClip, parts: Any, message: str) -> None:
    seen: list[str] = []
    with pytest.raises(InputError, match=message):
        pipe.mix(parts, progress=lambda stage, done, total: seen.append(stage))
    assert seen == []


def test_parts_that_cancel_are_named(pipe: UnClip) -> None:
    with pytest.raises(InputError, match="cancel"):
        pipe.mix([(A, 1), (A, -1)], seed=7)
