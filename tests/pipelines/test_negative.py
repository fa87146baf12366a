"""Negative prompts: what guidance leads away from, by hand; where no guidance is, they are refused."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from unclip.errors import InputError
from unclip.models import Decoder
from unclip.pipelines import Condition, Model, UnClip
from unclip.runtime import NoiseSource


def test_it_takes_the_place_of_the_empty_prompt(pipe: UnClip, model: Model) -> None:
    result = pipe.text_to_image("a cat", seed=7, negative_prompt="a tree", image_size=16, output_type="pt")
    noise, (text, null) = NoiseSource.from_seeds([7]), (model.need_clip.encode_text([t]) for t in ("a cat", "a tree"))
    z = model.need_prior.sample(text, null, noise, num_candidates=2)
    small = model.need_decoder.sample(z, Condition(text, null), noise)
    torch.testing.assert_close(result.image_embeddings, z)
    torch.testing.assert_close(result.images[0], small[0], atol=1e-5, rtol=1e-5)
    assert result.settings["negative_prompt"] == "a tree"


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_without_guidance_it_is_refused(pipe: UnClip, scale: float) -> None:
    found = f"needs guidance above 1; guidance_scale is prior {scale:g}, decoder {scale:g}"
    with pytest.raises(InputError, match=found):
        pipe.text_to_image("a cat", negative_prompt="a tree", guidance_scale=scale)
    assert pipe.text_to_image("a cat", negative_prompt="a tree", guidance_scale={"prior": scale}).images


def test_where_nothing_hears_it_it_is_refused(model: Model) -> None:
    """Without a prompt there is no prior, and this decoder reads no text."""
    decoder = Decoder(model.need_decoder.network.config.replace(text_dim=0))
    pipe = replace(model, stages={**model.stages, "decoder": replace(model.need_decoder, network=decoder)})
    with pytest.raises(InputError, match=r"nothing in the model 'tiny' .* leads away from a text"):
        pipe.image_to_image(Image.new("RGB", (8, 8)), negative_prompt="a tree")
