"""Variations of pictures: CLIP's embedding is what the decoder draws, and bad pictures are refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unclip.errors import InputError
from unclip.pipelines import Condition, Model, UnClip
from unclip.runtime import NoiseSource


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3))


def test_it_is_the_stages_by_hand(pipe: UnClip, model: Model, picture: Image.Image) -> None:
    result = pipe.image_variations(picture, seed=3, output_type="pt")
    seen, text = pipe.clip.encode_pictures([picture]), pipe.clip.encode_text([""])
    noise = NoiseSource.from_seeds([3])
    small = model.decoder.sample(seen, Condition(text, text), noise)
    large = model.upsamplers[32].sample(small, noise).clamp(-1.0, 1.0)
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
