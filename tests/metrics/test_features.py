"""Feature networks that wrap what is there already: CLIP and any module."""

import pytest
import torch
from torch import Tensor, nn

from pictures import picture
from unclip.clip import Clip, TextImageEncoder
from unclip.errors import InputError
from unclip.images import from_pil, from_uint8, resize, to_uint8
from unclip.metrics import ClipFeatures, FeatureNetwork, ModuleFeatures
from unclip.metrics.features import check_pictures
from unclip.testing.tiny import CLIP, tiny_tokenizer


def pictures(number: int, width: int, height: int) -> Tensor:
    images = from_pil([picture(seed, width, height) for seed in range(number)])
    return torch.from_numpy(to_uint8(images)).permute(0, 3, 1, 2)


def encoder(resize: str = "squash") -> TextImageEncoder:
    return TextImageEncoder(Clip(CLIP.replace(resize=resize)).eval(), tiny_tokenizer())


@pytest.mark.parametrize("how", ["squash", "crop"])
def test_clip_features_are_those_of_the_pictures_themselves(how: str) -> None:
    clip = encoder(how)
    images = [picture(seed, 90, 50) for seed in range(3)]
    features = ClipFeatures(clip, "tiny")
    assert isinstance(features, FeatureNetwork)
    assert features.name == "clip:tiny"
    found = features(pictures(3, 90, 50))
    assert found.keys() == {"clip"}
    torch.testing.assert_close(found["clip"], clip.encode_pictures(images), rtol=0, atol=0)


def test_clip_reads_texts_and_no_pictures_too() -> None:
    clip = encoder()
    features = ClipFeatures(clip, "tiny")
    prompts = ["a red cat", "the sea"]
    torch.testing.assert_close(features.texts(prompts), clip.encode_text(prompts).embedding, rtol=0, atol=0)
    assert features(torch.zeros(0, 3, 8, 8, dtype=torch.uint8))["clip"].shape == (0, CLIP.embedding_dim)


def test_clip_fingerprint_is_of_the_weights() -> None:
    clip = encoder()
    before = ClipFeatures(clip, "tiny").fingerprint
    assert ClipFeatures(clip, "another name").fingerprint == before
    with torch.no_grad():
        clip.clip.logit_scale += 1
    assert ClipFeatures(clip, "tiny").fingerprint != before


def test_a_module_gets_squares_in_the_usual_range() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(3 * 6 * 6, 5))
    features = ModuleFeatures(module, "linear", "inception", 6)
    assert isinstance(features, FeatureNetwork)
    given = pictures(2, 40, 30)
    pixels = resize(from_uint8(given.permute(0, 2, 3, 1)), 6)
    expected = pixels.flatten(1) @ module[2].weight.T + module[2].bias  # and no dropout
    torch.testing.assert_close(features(given), {"inception": expected.detach()})


def test_module_fingerprint_is_of_weights_size_and_structure() -> None:
    module = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 3))
    other = nn.Sequential(nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(12, 3))
    other.load_state_dict(module.state_dict())
    changed = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 3))
    cases = [(module, 6), (module, 8), (other, 6), (changed, 6)]
    prints = [ModuleFeatures(case, "name", "key", size).fingerprint for case, size in cases]
    assert len(set(prints)) == 4
    assert ModuleFeatures(module, "another", "another", 6).fingerprint == prints[0]


@pytest.mark.parametrize(
    ("module", "found"),
    [
        (nn.Identity(), r"\(2, 3, 6, 6\)"),
        (nn.Flatten(0, 2), r"\(36, 6\)"),
        (nn.Sequential(nn.Flatten(1, 2), nn.LSTM(6, 6)), "tuple"),
    ],
)
def test_a_module_that_returns_no_rows(module: nn.Module, found: str) -> None:
    features = ModuleFeatures(module, "odd", "inception", 6)
    with pytest.raises(InputError, match=rf"odd returned {found} for 2 pictures; a module for features returns"):
        features(pictures(2, 6, 6))


@pytest.mark.parametrize(
    "given",
    [
        torch.zeros(2, 3, 6, 6),
        torch.zeros(2, 1, 6, 6).byte(),
        torch.zeros(3, 6, 6).byte(),
        torch.zeros(2, 3, 0, 6).byte(),
    ],
)
def test_only_8_bit_rgb_is_taken(given: Tensor) -> None:
    with pytest.raises(InputError, match=r"features are made of uint8 pictures \(batch, 3, height, width\); found"):
        check_pictures(given)
