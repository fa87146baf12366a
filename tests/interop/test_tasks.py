"""Tasks on models of others: shapes that are not square, drawing over a picture, negative prompts, stops, best of n."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from dalle2_golden import CASES, changed, group
from foreign_files import clip_folder, kandinsky
from unclip.errors import InputError
from unclip.images import cover, from_pil
from unclip.interop import import_foreign
from unclip.model.opening import join_foreign
from unclip.models.dalle2_pytorch import Dalle2Prior
from unclip.pipelines import Draft, UnClip
from unclip.runtime import forked_random_state
from unclip_pipelines import unclip_folder

PICTURE = Image.linear_gradient("L").resize((60, 40)).convert("RGB")


def paths_of(kind: str, folder: Path) -> list[Path]:
    """A tiny model as it is published."""
    if kind == "karlo":
        return [unclip_folder(folder)]
    if kind.startswith("kandinsky"):
        with forked_random_state(0):
            return list(kandinsky(folder, kind.removeprefix("kandinsky ")).save(folder))
    decoder = group("decoder", "weights")
    for name in ("image_to_tokens.0", "to_image_hiddens.0", "text_to_cond"):
        decoder[f"unets.0.{name}.weight"] = torch.randn(
            len(decoder[f"unets.0.{name}.weight"]), 24, generator=torch.Generator().manual_seed(0)
        )
    configs = {
        "prior": CASES["prior"]["config"],
        "decoder": changed("decoder", "decoder.unets.0", image_embed_dim=24, text_embed_dim=24),
    }
    for stage, weights in {"prior": group("prior", "weights"), "decoder": decoder}.items():
        state = {"model": weights, "config": configs[stage], "version": CASES[stage]["version"]}
        torch.save(state, folder / f"{stage}.pth")
    (folder / "clip").mkdir()
    clip_folder(folder / "clip")
    return [folder / "clip", folder / "prior.pth", folder / "decoder.pth"]


@pytest.fixture(scope="module", params=["karlo", "kandinsky 2.1", "kandinsky 2.2", "dalle2_pytorch"])
def pipe(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> UnClip:
    paths = paths_of(request.param, tmp_path_factory.mktemp("foreign"))
    return UnClip.from_source(join_foreign(request.param, import_foreign(paths)), "cpu", torch.float32)


def wide(side: int) -> tuple[int, int]:
    """Half as wide again as high."""
    return side * 3 // 2, side


def test_shapes_that_are_not_square(pipe: UnClip) -> None:
    width, height = wide(pipe.image_sizes[-1])
    for size in ((width, height), (height, width)):
        result = pipe.text_to_image("a red apple", seed=1, num_steps=2, image_size=size, output_type="pt")
        assert result.images[0].shape == (3, size[1], size[0])
        assert result.images[0].std() > 0.1
    with pytest.raises(InputError, match=f"image_size={width + 1}x{height} has a side that is not divisible by"):
        pipe.text_to_image("a red apple", image_size=(width + 1, height))


def test_little_strength_keeps_a_picture_and_all_of_it_nothing(pipe: UnClip) -> None:
    """In pixels, or in what an autoencoder keeps of them."""
    size = wide(pipe.decoder.image_size)
    options: dict[str, Any] = {
        "seed": 1,
        "num_steps": {"prior": 1, "decoder": 8},
        "image_size": size,
        "output_type": "pt",
    }
    seen = pipe.need_decoder.finish(pipe.need_decoder.encode(from_pil([cover(PICTURE, size)])))[0]
    little, half, full = (
        pipe.image_to_image(PICTURE, "a cat", strength=strength, **options).images[0] for strength in (1e-3, 0.5, 1.0)
    )
    assert 0.0 < (little - seen).abs().mean() < 0.05
    assert (half - seen).abs().mean() > 0.1
    assert torch.equal(full, pipe.text_to_image("a cat", **options).images[0])


def test_stopping_is_not_seen(pipe: UnClip, tmp_path: Path) -> None:
    options: dict[str, Any] = {"seed": 1, "num_steps": 2}
    whole = pipe.text_to_image("a cat", output_type="pt", **options).images[0]
    for stage in ("prior", "decoder"):
        pipe.draft("a cat", stop_after=stage, **options).save(tmp_path / "d.safetensors")
        assert torch.equal(pipe.finish(Draft.load(tmp_path / "d.safetensors"), output_type="pt").images[0], whole)


def test_negative_prompts_are_heard_or_refused(pipe: UnClip) -> None:
    options: dict[str, Any] = {"seed": 1, "num_steps": 2, "guidance_scale": 2.0, "image_size": pipe.decoder.image_size}
    if isinstance(pipe.prior.network, Dalle2Prior):
        with pytest.raises(InputError, match=r"nothing in the model .* leads away from a text"):
            pipe.text_to_image("a cat", negative_prompt="a tree", **options)
        return
    plain, led = (
        pipe.text_to_image("a cat", negative_prompt=negative, output_type="pt", **options)
        for negative in ("", "a tree")
    )
    assert (plain.image_embeddings - led.image_embeddings).abs().max() > 1e-4
    assert not torch.equal(plain.images[0], led.images[0])


def test_the_best_are_judged_where_clip_sees(pipe: UnClip) -> None:
    if pipe.clip.clip.vision is None:
        with pytest.raises(InputError, match="no vision tower"):
            pipe.text_to_image("a cat", best_of=2)
        return
    result = pipe.text_to_image("a cat", 2, best_of=3, seed=1, num_steps=2)
    assert result.settings["scores"] == sorted(result.settings["scores"], reverse=True)
