"""Upscaling: the upsampler on an enlarged copy, in passes and blocks that cover a picture of any shape."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from unclip.errors import InputError
from unclip.images import from_pil, to_pil
from unclip.pipelines import Model, UnClip, run_to_end
from unclip.pipelines.tasks.upscale import BLOCK, OVERLAP, _cut_axis, enlarge_part, paste, plan_passes
from unclip.runtime import NoiseSource


def picture(width: int, height: int) -> Image.Image:
    ramp = np.add.outer(np.linspace(0, 120, height), np.linspace(0, 120, width))
    return Image.fromarray(np.stack([ramp, 255 - ramp, ramp / 2], axis=-1).astype(np.uint8))


def test_one_block_is_the_stage_on_the_enlarged_picture(pipe: UnClip, model: Model) -> None:
    small = picture(20, 12)
    large = small.resize((40, 24), Image.Resampling.BICUBIC)
    noise = NoiseSource.from_seeds([5])
    stage = model.need_upsampler
    with torch.inference_mode():
        by_hand = run_to_end(stage.steps(from_pil([large]), noise, stage.defaults, size=(24, 40)))
    assert pipe.upscale(small, 40, seed=5).images[0].tobytes() == to_pil(by_hand)[0].tobytes()


@pytest.mark.parametrize(
    ("found", "size", "plan"),
    [
        ((16, 16), None, [(32, 32)]),
        ((100, 50), 1024, [(200, 100), (400, 200), (800, 400), (1024, 512)]),
        ((30, 90), 120, [(40, 120)]),
        ((1, 1), 4, [(2, 2), (4, 4)]),
        ((20_000, 3), 40_000, [(40_000, 6)]),
    ],
)
def test_passes(model: Model, found: tuple[int, int], size: int | None, plan: list[tuple[int, int]]) -> None:
    assert plan_passes(found, size, model.need_upsampler) == plan


@pytest.mark.parametrize("length", [1, 63, 64, 65, 1024, 1025, 2048, 5000])
def test_blocks_cover_and_overlap(length: int) -> None:
    spans = _cut_axis(length)
    assert (spans[0][0], spans[-1][1]) == (0, length)
    assert all(0 < end - start <= BLOCK for start, end in spans)
    assert all(one[1] - other[0] == OVERLAP for one, other in itertools.pairwise(spans))


def test_a_part_of_the_enlarged_picture_is_cut_from_the_whole() -> None:
    small, size = picture(70, 45), (183, 118)
    whole = np.asarray(small.resize(size, Image.Resampling.BICUBIC)).astype(int)
    for left, top, right, bottom in ((0, 0, 183, 118), (50, 40, 120, 100), (120, 0, 183, 60)):
        part = enlarge_part(small, size, (left, top, right, bottom))
        expected = whole[top:bottom, left:right]
        assert part.shape == expected.shape
        assert np.abs(part - expected).max() <= 1


def test_blocks_fade_into_each_other() -> None:
    canvas = np.zeros((10, 300, 3), dtype=np.uint8)
    for left, right, value in ((0, 182, 0), (118, 300, 200)):
        paste(canvas, (left, 0, right, 10), np.full((10, right - left, 3), value, dtype=np.uint8))
    expected = np.clip((np.arange(300) - 118 + 0.5) / 64, 0, 1) * 200
    np.testing.assert_array_equal(canvas[:, :, 0], np.tile(np.rint(expected), (10, 1)))
    assert np.array_equal(canvas[..., 0], canvas[..., 2])


def test_long_pictures_are_made_in_blocks(pipe: UnClip) -> None:
    seen: list[tuple[str, int, int]] = []
    result = pipe.upscale(picture(700, 5), seed=3, output_type="pt", progress=lambda *step: seen.append(step))
    assert result.images[0].shape == (3, 10, 1400)
    assert seen == [("upsampler_32", done, 4) for done in (1, 2, 3, 4)]
    assert result.settings["image_size"] == [[1400, 10]]
    again = pipe.upscale(picture(700, 5), seed=3, output_type="pt").images[0]
    assert torch.equal(result.images[0], again)
    assert not torch.equal(again, pipe.upscale(picture(700, 5), seed=4, output_type="pt").images[0])


def test_each_picture_is_itself(pipe: UnClip) -> None:
    both = pipe.upscale([picture(20, 12), picture(9, 17)], seed=3)
    assert [image.size for image in both.images] == [(40, 24), (18, 34)]
    assert both.images[1].tobytes() == pipe.upscale(picture(9, 17), seed=3).images[0].tobytes()
    assert (both.seeds, both.image_embeddings) == ([3, 3], None)


def test_what_cannot_be_enlarged_is_refused(pipe: UnClip, model: Model) -> None:
    seen: list[str] = []
    for wrong, message in [
        ({"size": 20}, "size=20 does not enlarge a picture of 20 x 12 pixels"),
        ({"size": 0}, "size=0 is not possible"),
        ({"size": 2**20}, r"makes 1048576 x 629146 pixels; at most 134217728"),
        ({"image_size": 40}, "takes the longer side as size"),
        ({"num_steps": 2000}, "exceeds the 1000 steps"),
    ]:
        with pytest.raises(InputError, match=message):
            pipe.upscale(picture(20, 12), progress=lambda stage, done, total: seen.append(stage), **wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="the model 'tiny' has no upsampler"):
        dataclasses.replace(model, stages={}).upscale(picture(20, 12))
    assert seen == []


def test_progress_can_stop_it(pipe: UnClip) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipe.upscale(picture(20, 12), progress=stop)
