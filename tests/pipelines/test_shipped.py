"""The model that ships draws what it is asked for, as its own CLIP sees it."""

import pytest
import torch
import torch.nn.functional as F

from unclip import UnClip

PROMPTS = ["a red apple", "a zebra", "pizza", "sunflower", "rocket", "blue heart", "crying face", "flag: Japan"]


@pytest.fixture(scope="module")
def pipe() -> UnClip:
    return UnClip.load("emoji")


def test_most_pictures_are_nearest_to_their_own_prompt(pipe: UnClip) -> None:
    result = pipe.text_to_image(PROMPTS, seed=7, output_type="pt")
    images = F.normalize(pipe.clip.encode_image(torch.stack(result.images)), dim=-1)
    texts = F.normalize(pipe.clip.encode_text(PROMPTS).embedding, dim=-1)
    hits = ((images @ texts.T).argmax(dim=1) == torch.arange(len(PROMPTS))).sum().item()
    assert hits >= 6, f"{hits} of {len(PROMPTS)} pictures are nearest to their own prompt"


def test_sizes_and_storage_are_as_the_card_says(pipe: UnClip) -> None:
    assert pipe.image_sizes == [128, 256, 1024]
    assert pipe.clip.embedding_dim == 192


def test_a_negative_prompt_leads_away_from_what_is_often_drawn(pipe: UnClip) -> None:
    pairs = [("heart", "red heart"), ("moon", "full moon"), ("apple", "red apple"), ("hat", "top hat")]
    similarities = {"": 0.0, "led": 0.0}
    for prompt, negative in pairs:
        text = pipe.clip.encode_text([negative]).embedding
        for name, away in (("", ""), ("led", negative)):
            drawn = pipe.text_to_image(prompt, negative_prompt=away, num_images=2, seed=7, image_size=128).images
            similarities[name] += F.cosine_similarity(pipe.clip.encode_pictures(drawn), text).sum().item()
    assert similarities["led"] < 0.5 * similarities[""], similarities
