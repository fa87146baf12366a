"""Whole loops draw what diffusers' unCLIP pipelines draw for the same seeds.

At t = 999 x0 is (x_t - sigma eps) / alpha with alpha = 5e-5, and the first step's 1 - beta has one digit left in
diffusers' float32: a pixel that the clamp of x0 does not decide is then decided by rounding, whoever draws it. So both
libraries also draw with networks and coefficients in float64, from the same noise: these must agree, on any processor.
A comparison in float32 takes the first seed from 0 on with which rounding decides no pixel of either library.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import diffusers.schedulers.scheduling_unclip
import diffusers.utils.torch_utils
import numpy as np
import pytest
import torch
import transformers
from diffusers import DiffusionPipeline, UnCLIPScheduler
from diffusers.pipelines.deprecated.unclip import pipeline_unclip, pipeline_unclip_image_variation
from PIL import Image
from torch import Tensor

from unclip.pipelines import Result, UnClip
from unclip.runtime import forked_random_state
from unclip_pipelines import Size, unclip_pipeline

SMALL = Size(size=8, super_res=16)
SIZES = {
    "small": SMALL,
    "as Karlo": Size(),
    "attention everywhere": replace(SMALL, attention=(True, True, True), head_dim=32, prior_heads=1, layers=1),
    "attention below": replace(SMALL, channels=(64, 64), attention=(False, True), head_dim=8, prior_heads=4, dim=32),
    "four times larger": replace(
        SMALL, channels=(32, 64), attention=(True, False), super_res=32, context_dim=24, dim=16
    ),
    "deep": replace(SMALL, channels=(32, 32, 64, 128), attention=(False, False, True, True), layers=3, length=21),
}
APPLE, LONG = "a red apple", "a cat with sunglasses and the quick brown fox near an old house under the yellow sun"
PROMPTS = {
    "one": [APPLE],
    "cut": [LONG],
    "three lengths": ["fox", LONG, APPLE],
    "odd": ["🍎🏠 日本の猫", "  WOW!!! &amp; <b>naïve\n Fox"],
}
GUIDANCE = [(1.0, 1.0), (4.0, 1.0), (1.0, 8.0), (4.0, 8.0)]

# How far float32 may move a pixel of theirs, how far the libraries may differ in float32, and in float64.
ROUNDING, CLOSE, EXACT = 8e-4, 1e-3, 1e-5


@dataclass(frozen=True)
class Pair:
    """A pipeline of diffusers and ours from its folder, each in float32 and, for reference, in float64."""

    theirs: DiffusionPipeline
    exact: DiffusionPipeline
    ours: UnClip
    ours_exact: UnClip
    upsampler: str
    embeddings: list[Tensor]
    """The image embeddings of every drawing of theirs."""


@pytest.fixture(scope="module", autouse=True)
def same_noise() -> Iterator[None]:
    """Let diffusers draw noise in float32 whatever it computes in; torch draws other numbers in float64."""

    def draw(*args: Any, dtype: torch.dtype | None = None, **told: Any) -> Tensor:
        return diffusers.utils.torch_utils.randn_tensor(*args, dtype=torch.float32, **told).to(dtype)

    with pytest.MonkeyPatch.context() as patch:
        for module in (diffusers.schedulers.scheduling_unclip, pipeline_unclip, pipeline_unclip_image_variation):
            patch.setattr(module, "randn_tensor", draw)
        yield


def exact(scheduler: UnCLIPScheduler) -> UnCLIPScheduler:
    """The same table; what is computed from it is float64."""
    found = UnCLIPScheduler.from_config(scheduler.config)
    found.betas, found.alphas_cumprod, found.one = (
        value.double() for value in (found.betas, found.alphas_cumprod, found.one)
    )
    found.alphas = 1 - found.betas
    return found


def make_pair(folder: Path, size: Size, variation: bool, changed: Mapping[str, object]) -> Pair:
    with forked_random_state(0):
        theirs = unclip_pipeline(folder / "tokens", size, variation=variation)
    theirs.register_modules(**changed)
    theirs.save_pretrained(folder)
    parts = {name: exact(part) if name.endswith("_scheduler") else part for name, part in theirs.components.items()}
    parts = {
        name: deepcopy(part).double() if isinstance(part, torch.nn.Module) else part for name, part in parts.items()
    }
    reference = type(theirs)(**parts)
    reference.set_progress_bar_config(disable=True)
    ours, ours_exact = (UnClip.load(folder, "cpu", dtype) for dtype in (torch.float32, torch.float64))
    embeddings: list[Tensor] = []
    theirs.text_proj.register_forward_pre_hook(
        lambda module, args, told: embeddings.append(told["image_embeddings"]), with_kwargs=True
    )
    return Pair(theirs, reference, ours, ours_exact, f"upsampler_{size.super_res}", embeddings)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Pair]:
    """Pairs by the name of their size; each is made once."""
    return cache(lambda name, variation=False: make_pair(tmp_path_factory.mktemp("pair"), SIZES[name], variation, {}))


def largest_difference(
    pair: Pair, theirs: Callable[[DiffusionPipeline, int], np.ndarray], ours: Callable[[UnClip, int], Result]
) -> float:
    """Between our pictures and theirs in float32, over all pixels in [0, 1]; `theirs` and `ours` draw with a seed.

    Embeddings are compared by themselves: pictures of random networks hardly depend on them.
    """
    for seed in range(50):
        found, expected = theirs(pair.exact, seed), theirs(pair.theirs, seed)
        embeddings = pair.embeddings[-1]
        if abs(found - expected).max() > ROUNDING:
            continue
        assert abs(np.stack(ours(pair.ours_exact, seed).images) - found).max() <= EXACT
        result = ours(pair.ours, seed)
        images = np.stack(result.images)
        if abs(images - expected).max() <= CLOSE:
            break
    else:
        raise AssertionError("there is no seed with which float32 stays near float64 in both libraries")
    torch.testing.assert_close(result.image_embeddings, embeddings, rtol=1e-5, atol=1e-6)
    assert images.shape == expected.shape
    assert expected.std() > 0.1
    assert np.median(abs(images - found)) <= 4 * np.median(abs(expected - found)) + 1e-7
    torch.testing.assert_close(torch.from_numpy(images), torch.from_numpy(expected), rtol=0.0, atol=CLOSE)
    return float(abs(images - expected).max())


def generators(seed: int, num_inputs: int, num_images: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed + image) for _ in range(num_inputs) for image in range(num_images)]


def text_difference(
    pair: Pair,
    prompts: Sequence[str],
    steps: tuple[int, int, int] = (5, 4, 3),
    guidance: tuple[float, float] = (4.0, 8.0),
    num_images: int = 1,
    batch_size: int | None = None,
) -> float:
    def theirs(pipeline: DiffusionPipeline, seed: int) -> np.ndarray:
        return pipeline(
            list(prompts),
            num_images,
            *steps,
            generator=generators(seed, len(prompts), num_images),
            prior_guidance_scale=guidance[0],
            decoder_guidance_scale=guidance[1],
            output_type="np",
        ).images

    def ours(pipe: UnClip, seed: int) -> Result:
        return pipe.text_to_image(
            prompts,
            num_images,
            seed=seed,
            num_steps=dict(zip(("prior", "decoder", pair.upsampler), steps, strict=True)),
            guidance_scale=dict(zip(("prior", "decoder"), guidance, strict=True)),
            output_type="np",
            batch_size=batch_size,
        )

    return largest_difference(pair, theirs, ours)


def few(values: Iterable[Any], kept: Container[Any]) -> list[Any]:
    """`values`, of which `make test` takes those in `kept` alone, and `make test-all` every one."""
    return [pytest.param(value, marks=[] if value in kept else pytest.mark.peers) for value in values]


@pytest.mark.parametrize("size", few(SIZES, ["as Karlo", "attention below"]))
def test_shapes(pair: Callable[..., Pair], size: str) -> None:
    assert text_difference(pair(size), PROMPTS["three lengths"][:2]) <= 1e-3


@pytest.mark.parametrize("steps", few([(2, 2, 2), (5, 4, 3)], [(2, 2, 2)]))
@pytest.mark.parametrize("guidance", few(GUIDANCE, GUIDANCE[:-1]))
def test_guidance_and_steps(
    pair: Callable[..., Pair], guidance: tuple[float, float], steps: tuple[int, int, int]
) -> None:
    assert text_difference(pair("small"), PROMPTS["three lengths"], steps, guidance) <= 1e-3


def test_steps_and_guidance_of_theirs(pair: Callable[..., Pair]) -> None:
    assert text_difference(pair("small"), [APPLE], (25, 25, 7), (4.0, 8.0)) <= 1e-3


@pytest.mark.parametrize("counts", [(1, 3), (2, 1)], ids=["one of each", "two of each"])
@pytest.mark.parametrize("prompts", few(PROMPTS, ["three lengths", "odd"]))
def test_prompts_and_batches(pair: Callable[..., Pair], prompts: str, counts: tuple[int, int]) -> None:
    assert text_difference(pair("small"), PROMPTS[prompts], (3, 3, 2), GUIDANCE[-1], *counts) <= 1e-3


def test_bounds_of_x0(tmp_path: Path) -> None:
    schedulers = {
        "prior_scheduler": UnCLIPScheduler(prediction_type="sample", clip_sample=False),
        "decoder_scheduler": UnCLIPScheduler(variance_type="learned_range", clip_sample_range=0.7),
        "super_res_scheduler": UnCLIPScheduler(clip_sample_range=1.6),
    }
    assert text_difference(make_pair(tmp_path, SMALL, False, schedulers), PROMPTS["three lengths"]) <= 1e-3


def noise_picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8))


PICTURES = [noise_picture(37, 23), noise_picture(16, 16), noise_picture(300, 200)]


def variation_difference(
    pair: Pair,
    pictures: Sequence[Image.Image],
    num_images: int,
    batch_size: int,
    guidance: float = 8.0,
    steps: tuple[int, int] = (4, 3),
) -> float:
    def theirs(pipeline: DiffusionPipeline, seed: int) -> np.ndarray:
        return pipeline(
            list(pictures),
            num_images,
            *steps,
            generator=generators(seed, len(pictures), num_images),
            decoder_guidance_scale=guidance,
            output_type="np",
        ).images

    def ours(pipe: UnClip, seed: int) -> Result:
        return pipe.image_variations(
            pictures,
            num_images,
            seed=seed,
            num_steps=dict(zip(("decoder", pair.upsampler), steps, strict=True)),
            guidance_scale={"decoder": guidance},
            output_type="np",
            batch_size=batch_size,
        )

    return largest_difference(pair, theirs, ours)


@pytest.mark.parametrize("counts", [(1, 1), (2, 3)], ids=["one", "two"])
@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: "{}x{}".format(*picture.size))
def test_variations_of_a_picture(pair: Callable[..., Pair], picture: Image.Image, counts: tuple[int, int]) -> None:
    assert variation_difference(pair("small", variation=True), [picture], *counts) <= 1e-3


@pytest.mark.parametrize("steps", few([(2, 2), (4, 3), (25, 7)], [(4, 3)]))
@pytest.mark.parametrize("guidance", [1.0, 8.0])
def test_variations_by_guidance_and_steps(pair: Callable[..., Pair], guidance: float, steps: tuple[int, int]) -> None:
    assert variation_difference(pair("small", variation=True), PICTURES[:2], 1, 3, guidance, steps) <= 1e-3


@pytest.mark.parametrize("size", few(["as Karlo", "attention below"], ["as Karlo"]))
def test_shapes_of_variations(pair: Callable[..., Pair], size: str) -> None:
    assert variation_difference(pair(size, variation=True), PICTURES[:2], 1, 3) <= 1e-3


def test_variations_of_squashed_pictures(tmp_path: Path) -> None:
    squash = transformers.CLIPImageProcessor(size={"height": 16, "width": 16}, do_center_crop=False)
    other = make_pair(tmp_path, SMALL, True, {"feature_extractor": squash})
    assert other.ours.clip.clip.config.resize == "squash"
    assert variation_difference(other, [noise_picture(16, 16)], 2, 1) <= 1e-3
