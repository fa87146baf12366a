"""How many pictures go through a network together by default, and that it changes no bit of a picture on a CPU."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from unclip.nn import GroupNorm32
from unclip.pipelines import UnClip
from unclip.testing import tiny_pipeline

PROMPTS = ["a red apple", "a cat with sunglasses near the sun", "an old house"]
SAME_LENGTH = ["a cat", "a house", "an apple"]


@pytest.fixture(scope="module")
def half(tiny_folder: Path) -> UnClip:
    """The tiny model in bfloat16, whatever this machine would choose."""
    return UnClip.load(tiny_folder, "cpu", torch.bfloat16)


def counts(pipe: UnClip, prompts: str | list[str], num_images: int) -> dict[str, int]:
    """Steps of each stage over all batches."""
    seen: dict[str, int] = {}
    pipe(prompts, num_images, seed=7, progress=lambda stage, done, total: seen.__setitem__(stage, total))
    return seen


@pytest.mark.skipif(torch.cpu._is_amx_tile_supported(), reason="with AMX one picture is drawn at a time")
def test_float32_draws_one_at_a_time_on_a_cpu_and_bfloat16_eight(half: UnClip, tiny_folder: Path) -> None:
    light = UnClip.load(tiny_folder, "cpu", torch.bfloat16, low_memory=True)
    assert counts(tiny_pipeline(), "a cat", 3) == {"prior": 9, "decoder": 9, "upsampler_32": 6}
    assert counts(half, "a cat", 3) == counts(light, "a cat", 8) == {"prior": 3, "decoder": 3, "upsampler_32": 2}
    assert counts(half, "a cat", 9) == {"prior": 6, "decoder": 6, "upsampler_32": 4}


@pytest.mark.skipif(torch.cpu._is_amx_tile_supported(), reason="with AMX one picture is drawn at a time")
def test_prompts_go_together_unless_a_decoder_pads_them(half: UnClip) -> None:
    assert half.decoder.network.config.text_dim > 0
    assert counts(half, PROMPTS, 1)["decoder"] == 9
    # Of one length none is padded.
    assert half.clip.count_tokens(SAME_LENGTH) == [4] * 3
    assert counts(half, SAME_LENGTH, 1)["decoder"] == 3
    steps: list[int] = []
    half.prior.sample(PROMPTS, seed=7, progress=lambda stage, done, total: steps.append(total))
    assert set(steps) == {3}


@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize(("prompts", "num_images"), [("a cat", 5), (PROMPTS, 2), (SAME_LENGTH, 3)])
def test_a_picture_in_bfloat16_is_the_same_to_the_bit_however_many_are_drawn(
    half: UnClip, prompts: str | list[str], num_images: int, num_threads: int
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        together = half(prompts, num_images, seed=7, output_type="pt")
        alone = half(prompts, num_images, seed=7, output_type="pt", batch_size=1)
        rows = half.prior.sample(prompts, num_images, seed=7)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(together.image_embeddings, alone.image_embeddings)
    assert torch.equal(rows, alone.image_embeddings)
    assert torch.equal(torch.stack(together.images), torch.stack(alone.images))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_group_norm_of_a_sample_does_not_depend_on_the_others(
    generator: torch.Generator, memory_format: torch.memory_format
) -> None:
    """Threads share a map of 32 x 32 or more: with several, PyTorch's own sums of a sample hang on its batch."""
    norm = GroupNorm32(64).to(torch.bfloat16)
    x = (3 * torch.randn(5, 64, 40, 40, generator=generator) + 1).bfloat16().contiguous(memory_format=memory_format)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with torch.no_grad():
            whole = norm(x)
            for row in range(5):
                assert torch.equal(whole[row : row + 1], norm(x[row : row + 1]))
    finally:
        torch.set_num_threads(before)
    reference = F.group_norm(x.double(), 32, norm.weight.double(), norm.bias.double())
    torch.testing.assert_close(whole.double(), reference.detach(), atol=0.03, rtol=0.01)
