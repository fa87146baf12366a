"""DINOv2 beside the network of transformers, with tiny random weights."""

import pytest
import torch
from torch import Tensor
from transformers import Dinov2Config, Dinov2Model

from networks import carry_over, fill
from unclip.errors import ConfigError
from unclip.images import from_uint8, resize
from unclip.metrics import DinoConfig, DinoFeatures, DinoV2, dino_config

TINY = DinoConfig(width=24, depth=2, num_heads=3, patch_size=4, grid_size=5, grid_offset=0.0, image_size=20)
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def names(config: DinoConfig) -> dict[str, str | tuple[str, ...]]:
    """Ours, which are those of the published files, to those of transformers."""
    table: dict[str, str | tuple[str, ...]] = {
        "cls_token": "embeddings.cls_token",
        "mask_token": "embeddings.mask_token",
        "pos_embed": "embeddings.position_embeddings",
        "patch_embed.proj": "embeddings.patch_embeddings.projection",
        "norm": "layernorm",
    }
    for index in range(config.depth):
        ours, theirs = f"blocks.{index}", f"encoder.layer.{index}"
        table |= {f"{ours}.norm{number}": f"{theirs}.norm{number}" for number in (1, 2)}
        table |= {f"{ours}.ls{number}.gamma": f"{theirs}.layer_scale{number}.lambda1" for number in (1, 2)}
        table[f"{ours}.attn.qkv"] = tuple(f"{theirs}.attention.{part}_proj" for part in "qkv")
        table[f"{ours}.attn.proj"] = f"{theirs}.attention.o_proj"
        if config.feed_forward == "swiglu":
            table[f"{ours}.mlp.w12"] = (f"{theirs}.mlp.gate_proj", f"{theirs}.mlp.up_proj")
            table[f"{ours}.mlp.w3"] = f"{theirs}.mlp.down_proj"
        else:
            table |= {f"{ours}.mlp.fc{number}": f"{theirs}.mlp.fc{number}" for number in (1, 2)}
    return table


def pair(config: DinoConfig) -> tuple[DinoV2, Dinov2Model]:
    theirs = Dinov2Model(
        Dinov2Config(
            hidden_size=config.width,
            num_hidden_layers=config.depth,
            num_attention_heads=config.num_heads,
            image_size=config.patch_size * config.grid_size,
            patch_size=config.patch_size,
            use_swiglu_ffn=config.feed_forward == "swiglu",
        )
    )
    fill(theirs, std=0.3)
    ours = DinoV2(config).eval()
    assert carry_over(ours, theirs.state_dict(), names(config)) == set()
    return ours, theirs


def class_token(theirs: Dinov2Model, pixels: Tensor) -> Tensor:
    return theirs(pixel_values=pixels).pooler_output


@pytest.mark.parametrize("feed_forward", ["mlp", "swiglu"])
@pytest.mark.parametrize("size", [(20, 20), (8, 8), (12, 28)])
@torch.no_grad()
def test_equals_transformers(feed_forward: str, size: tuple[int, int]) -> None:
    ours, theirs = pair(TINY.replace(feed_forward=feed_forward))
    pixels = torch.randn(2, 3, *size)
    torch.testing.assert_close(ours(pixels), class_token(theirs, pixels), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_features_are_of_saved_pictures_in_the_statistics_of_imagenet() -> None:
    ours, theirs = pair(TINY)
    pictures = torch.randint(0, 256, (3, 3, 31, 57), dtype=torch.uint8)
    unit = (resize(from_uint8(pictures.permute(0, 2, 3, 1)), 20) + 1) / 2
    found = DinoFeatures(ours)(pictures)
    assert found.keys() == {"dinov2"}
    torch.testing.assert_close(found["dinov2"], class_token(theirs, (unit - MEAN) / STD), rtol=1e-5, atol=1e-5)


def cubic(distance: Tensor) -> Tensor:
    """Keys' kernel of cubic convolution with a = -0.75."""
    x, a = distance.abs(), -0.75
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * (x**3 - 5 * x**2 + 8 * x - 4)
    return torch.where(x <= 1, near, torch.where(x < 2, far, 0))


@torch.no_grad()
def test_the_published_offset_shifts_where_positions_are_sampled() -> None:
    """Place i of 8 samples (i + 1/2) 12 / 8.1 - 1/2 of 12: the grid is stretched over 8.1 places, not 8."""
    network = DinoV2(TINY.replace(grid_size=12, grid_offset=0.1))
    sampled = (torch.arange(8) + 0.5) * 12 / 8.1 - 0.5
    neighbours = sampled.floor()[:, None] + torch.arange(-1, 3)
    matrix = torch.zeros(8, 12)
    matrix.scatter_add_(1, neighbours.clamp(0, 11).long(), cubic(sampled[:, None] - neighbours))
    grid = network.pos_embed[0, 1:].unflatten(0, (12, 12))
    expected = torch.einsum("yr,xc,rcd->yxd", matrix, matrix, grid).flatten(0, 1)
    found = network.positions(8, 8)[0]
    torch.testing.assert_close(found[1:], expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(found[0], network.pos_embed[0, 0])


def test_published_sizes() -> None:
    """Parameters of the papers' models: 21, 86, 300 and 1100 millions."""
    millions = {}
    for name in ("vits14", "vitb14", "vitl14", "vitg14"):
        with torch.device("meta"):
            network = DinoV2(dino_config(f"dinov2-{name}"))
        millions[name] = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    assert {name: round(number, 1) for name, number in millions.items()} == {
        "vits14": 22.1,
        "vitb14": 86.6,
        "vitl14": 304.4,
        "vitg14": 1136.5,
    }


def test_unknown_name() -> None:
    with pytest.raises(ConfigError, match=r"no DINOv2 'dinov2-vitl16'; did you mean 'dinov2-vitl14'\?"):
        dino_config("dinov2-vitl16")
