"""Our CLIP equals `transformers`' on random weights, and prepares pictures as its processor does."""

import string

import numpy as np
import pytest
import torch
from PIL import Image

from unclip.checkpoint import LazyTensor, load_weights
from unclip.clip import Clip, ClipConfig, TextImageEncoder, Tokenizer
from unclip.clip.model import normalize_pixels
from unclip.images import crop_square
from unclip.interop.clip import clip_from_clip_model
from unclip.interop.sources import Component

transformers = pytest.importorskip("transformers")

TOLERANCE = {"atol": 1e-5, "rtol": 0.0}
CONFIGS = {
    "square": ClipConfig(
        embedding_dim=16,
        image_size=16,
        patch_size=8,
        vision_width=32,
        vision_layers=2,
        vision_heads=2,
        text_width=32,
        text_layers=2,
        text_heads=2,
        vocab_size=100,
        context_length=12,
    ),
    "all different": ClipConfig(
        embedding_dim=24,
        image_size=42,
        patch_size=14,
        vision_width=48,
        vision_layers=3,
        vision_heads=4,
        text_width=40,
        text_layers=1,
        text_heads=5,
        vocab_size=300,
        context_length=77,
        activation="gelu",
    ),
    # As bigG/14: a shared space and heads that are no multiple of the others, MLPs that are not four times as wide.
    "odd widths": ClipConfig(
        embedding_dim=20,
        image_size=28,
        patch_size=14,
        vision_width=52,
        vision_layers=2,
        vision_heads=4,
        vision_ff_dim=61,
        text_width=32,
        text_layers=3,
        text_heads=4,
        text_ff_dim=37,
        vocab_size=560,
        context_length=16,
        activation="gelu",
    ),
}


def their_model(config: ClipConfig) -> torch.nn.Module:
    """A `transformers.CLIPModel` of the same shape, with weights large enough that a wrong one shows."""
    shared = {"projection_dim": config.embedding_dim, "hidden_act": config.activation}
    text = shared | {
        "hidden_size": config.text_width,
        "intermediate_size": config.text_ff_dim or 4 * config.text_width,
        "num_hidden_layers": config.text_layers,
        "num_attention_heads": config.text_heads,
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context_length,
        "bos_token_id": config.end_token - 1,
        "eos_token_id": config.end_token,
        "pad_token_id": 0,
    }
    vision = shared | {
        "hidden_size": config.vision_width,
        "intermediate_size": config.vision_ff_dim or 4 * config.vision_width,
        "num_hidden_layers": config.vision_layers,
        "num_attention_heads": config.vision_heads,
        "image_size": config.image_size,
        "patch_size": config.patch_size,
    }
    both = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=config.embedding_dim)
    model = transformers.CLIPModel(both).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def lazy(model: torch.nn.Module) -> dict[str, LazyTensor]:
    return {name: LazyTensor.of(value) for name, value in model.state_dict().items()}


def pair(config: ClipConfig) -> tuple[Clip, torch.nn.Module]:
    theirs, ours = their_model(config), Clip(config).eval()
    weights, dropped = clip_from_clip_model(Component(theirs.config.to_dict(), lazy(theirs)), "CLIPModel")
    assert weights.config == config.replace(resize="crop")
    assert dropped == {}
    load_weights(ours, {name: value.read() for name, value in weights.tensors.items()}, "CLIPModel")
    return ours, theirs


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_image_embedding(name: str) -> None:
    config = CONFIGS[name]
    ours, theirs = pair(config)
    images = torch.rand(3, 3, config.image_size, config.image_size) * 2 - 1
    expected = theirs.visual_projection(theirs.vision_model(normalize_pixels(images)).pooler_output)
    torch.testing.assert_close(ours.encode_pixels(images), expected, **TOLERANCE)


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_text_embedding_and_hidden(name: str) -> None:
    config = CONFIGS[name]
    ours, theirs = pair(config)
    ids = torch.randint(1, config.end_token - 1, (3, config.context_length))
    ids[:, 0] = config.end_token - 1
    for row, end in enumerate((1, 5, config.context_length - 1)):
        ids[row, end] = config.end_token
        ids[row, end + 1 :] = 0
    features = ours.encode_tokens(ids)
    expected = theirs.text_model(input_ids=ids)
    torch.testing.assert_close(features.embedding, theirs.text_projection(expected.pooler_output), **TOLERANCE)
    torch.testing.assert_close(features.hidden, expected.last_hidden_state, **TOLERANCE)


def test_pixels_are_normalised_as_their_processor_does() -> None:
    images = torch.rand(2, 3, 8, 8) * 2 - 1
    processor = transformers.CLIPImageProcessorPil(do_resize=False, do_center_crop=False, do_rescale=False)
    expected = processor(list(((images + 1) / 2).numpy()), return_tensors="pt", input_data_format="channels_first")
    torch.testing.assert_close(normalize_pixels(images), expected["pixel_values"], **TOLERANCE)


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(width * height).integers(0, 256, (height, width, 4), dtype=np.uint8)
    image = Image.fromarray(pixels)
    return image if mode == "RGBA" else image.convert("RGB").convert(mode)


SHAPES = [(28, 28), (29, 28), (100, 31), (31, 100), (17, 90), (5, 3), (1, 1), (224, 225), (333, 77), (28, 57), (1, 40)]


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
@pytest.mark.parametrize("size", [28, 33])
def test_pictures_are_squared_as_their_processor_does(size: int, mode: str) -> None:
    processor = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": size}, crop_size={"height": size, "width": size}, do_rescale=False, do_normalize=False
    )
    for shape in SHAPES:
        image = picture(*shape, mode)
        expected = processor(image, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
        assert expected.dtype == np.uint8
        assert np.array_equal(np.asarray(crop_square(image, size)), expected), (shape, mode)


@torch.no_grad()
def test_embeddings_of_pictures_of_many_shapes() -> None:
    ours, theirs = pair(CONFIGS["odd widths"])
    ours.config = ours.config.replace(resize="crop")
    encoder = TextImageEncoder(ours, Tokenizer.train([string.printable], 560))
    processor = transformers.CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    images = [picture(*shape) for shape in SHAPES]
    pixels = processor(images, return_tensors="pt")["pixel_values"]
    expected = theirs.visual_projection(theirs.vision_model(pixels).pooler_output)
    torch.testing.assert_close(encoder.encode_pictures(images), expected, **TOLERANCE)
