"""CLIP with its tokenizer, in memory and on disk."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from unclip.checkpoint import save_tensors
from unclip.clip import Clip, ClipConfig, TextImageEncoder, Tokenizer, clip_preset
from unclip.errors import CheckpointError, ConfigError, InputError
from unclip.images import from_pil

CONFIG: ClipConfig = clip_preset("tiny").replace(vocab_size=540)
TEXTS = ["a red apple, noto style", "a cat with sunglasses"]
PROMPTS = ["a red cat", "", "a prompt that is much longer than sixteen tokens can hold"]


@pytest.fixture
def encoder() -> TextImageEncoder:
    return TextImageEncoder(Clip(CONFIG), Tokenizer.train(TEXTS, CONFIG.vocab_size))


def test_features_are_the_networks(encoder: TextImageEncoder) -> None:
    images = torch.rand(2, 3, 30, 20) * 2 - 1
    features = encoder.encode_text(PROMPTS)
    ids = encoder.tokenizer.encode(PROMPTS, CONFIG.context_length).ids
    with torch.no_grad():  # of which some kernels make other bits
        assert torch.equal(encoder.encode_image(images), encoder.clip.encode_pixels(images))
        assert torch.equal(features.embedding, encoder.clip.encode_tokens(ids).embedding)
    assert features.hidden.shape == (3, CONFIG.context_length, CONFIG.text_width)
    assert encoder.embedding_dim == features.embedding.shape[1] == CONFIG.embedding_dim


def test_pictures_of_any_sizes_are_squashed_one_by_one(encoder: TextImageEncoder) -> None:
    pictures = [Image.effect_mandelbrot(size, (-3, -2.5, 2, 2.5), 100) for size in ((16, 16), (40, 25), (9, 70))]
    found = encoder.encode_pictures(pictures)
    for row, picture in zip(found, pictures, strict=True):
        torch.testing.assert_close(row, encoder.encode_image(from_pil([picture]))[0], atol=1e-6, rtol=1e-5)
    assert not found.requires_grad


def test_cropped_pictures_lose_their_ends(encoder: TextImageEncoder) -> None:
    middle, wide = Image.new("RGB", (20, 20), "red"), Image.new("RGB", (60, 20), "blue")
    wide.paste(middle, (20, 0))
    encoder.clip.config = CONFIG.replace(resize="crop")
    cropped = encoder.encode_pictures([wide, middle])
    # The filter reaches over the edge, so some blue is left.
    assert torch.cosine_similarity(cropped[0], cropped[1], dim=0) > 0.95
    encoder.clip.config = CONFIG
    squashed = encoder.encode_pictures([wide, middle])
    torch.testing.assert_close(squashed[1], cropped[1], atol=1e-3, rtol=0)
    assert torch.cosine_similarity(squashed[0], squashed[1], dim=0) < 0.9


def test_no_picture_is_refused(encoder: TextImageEncoder) -> None:
    with pytest.raises(InputError, match="at least one picture; found 0"):
        encoder.encode_pictures([])


@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_without_a_vision_tower_texts_can_be_read_and_pictures_not(resize: str, tmp_path: Path) -> None:
    config = CONFIG.replace(vision_layers=0, vision_width=0, vision_heads=0, image_size=0, patch_size=0, resize=resize)
    encoder = TextImageEncoder(Clip(config), Tokenizer.train(TEXTS, CONFIG.vocab_size))
    assert encoder.clip.vision is None
    encoder.save(tmp_path)
    loaded = TextImageEncoder.load(tmp_path)
    assert torch.equal(loaded.encode_text(PROMPTS).embedding, encoder.encode_text(PROMPTS).embedding)
    with pytest.raises(InputError, match=r"^this CLIP has no vision tower"):
        loaded.encode_pictures([Image.new("RGB", (3, 4))])
    with pytest.raises(InputError, match=r"^this CLIP has no vision tower"):
        loaded.encode_image(torch.zeros(1, 3, 16, 16))


def test_there_are_no_gradients_and_the_network_is_left_as_it_was(encoder: TextImageEncoder) -> None:
    images = torch.zeros(1, 3, 16, 16, requires_grad=True)
    assert not encoder.encode_image(images).requires_grad
    assert not encoder.encode_text(["a cat"]).embedding.requires_grad
    assert all(parameter.requires_grad for parameter in encoder.clip.parameters())
    assert encoder.clip.training


def test_cut_text_is_named(encoder: TextImageEncoder) -> None:
    cut = encoder.cut_text(PROMPTS)
    assert cut[:2] == ["", ""]
    assert cut[2]
    assert PROMPTS[2].endswith(cut[2])


def test_a_single_text_is_refused(encoder: TextImageEncoder) -> None:
    with pytest.raises(InputError, match="list of texts"):
        encoder.encode_text("a cat")


def test_save_and_load(encoder: TextImageEncoder, tmp_path: Path) -> None:
    encoder.save(tmp_path / "model")
    loaded = TextImageEncoder.load(tmp_path / "model")
    assert loaded.clip.config == CONFIG
    assert torch.equal(loaded.encode_text(PROMPTS).hidden, encoder.encode_text(PROMPTS).hidden)
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["clip.safetensors", "tokenizer.json"]
    half = TextImageEncoder.load(tmp_path / "model", dtype=torch.bfloat16)
    assert half.clip.logit_scale.dtype == torch.bfloat16


@pytest.mark.parametrize(("storage", "similarity"), [("bfloat16", 0.999), ("int8", 0.995)])
def test_small_storage_stays_close(encoder: TextImageEncoder, tmp_path: Path, storage: str, similarity: float) -> None:
    encoder.save(tmp_path, storage)
    loaded = TextImageEncoder.load(tmp_path).encode_text(PROMPTS).embedding
    exact = encoder.encode_text(PROMPTS).embedding
    assert torch.nn.functional.cosine_similarity(loaded, exact).min() > similarity


def test_tokenizer_of_another_model_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"has 530 tokens and ends a text with 529, but .* 540 and 539"):
        TextImageEncoder(Clip(CONFIG), Tokenizer.train(TEXTS, 530))


@pytest.mark.parametrize("name", ["clip.safetensors", "tokenizer.json"])
def test_a_missing_or_short_file_is_named(encoder: TextImageEncoder, tmp_path: Path, name: str) -> None:
    encoder.save(tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=name):
        TextImageEncoder.load(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        TextImageEncoder.load(tmp_path)


@pytest.mark.parametrize("metadata", [{}, {"kind": "prior", "config": "{}"}])
def test_other_weights_are_refused(encoder: TextImageEncoder, tmp_path: Path, metadata: dict[str, str]) -> None:
    encoder.save(tmp_path)
    save_tensors(tmp_path / "clip.safetensors", {"a": torch.zeros(2)}, metadata)
    with pytest.raises(CheckpointError, match="not 'clip'"):
        TextImageEncoder.load(tmp_path)
