"""Bytes counted on meta are those that real passes save."""

import pytest
import torch
from torch import nn

from unclip.clip import clip_preset
from unclip.models import Prior, PriorConfig, Upsampler, UpsamplerConfig
from unclip.nn import TransformerBlock
from unclip.training.plan.activations import GpuAutocast, SavedBytes, count_saved

UPSAMPLER = UpsamplerConfig(
    image_size=32, low_res_size=8, base_channels=32, channel_mult=(1, 2), num_res_blocks=1, noise_conditioning=True
)
# Beyond 300 keys the CPU attends by the fused kernel, as a GPU does.
PRIOR = PriorConfig(embedding_dim=16, num_text_tokens=400, width=128, depth=2, num_heads=2)


def upsampler_saves(device: str, batch: int) -> SavedBytes:
    with torch.device(device), GpuAutocast(torch.float32):
        network = Upsampler(UPSAMPLER)
        pictures, level = torch.zeros(batch, 3, 32, 32), torch.zeros(batch)
        return count_saved(network, lambda: network(pictures, level, pictures, level))


def test_a_convolutional_network_saves_on_meta_what_it_saves_on_the_cpu() -> None:
    network = Upsampler(UPSAMPLER)
    pictures, level = torch.zeros(3, 3, 32, 32), torch.zeros(3)
    real = count_saved(network, lambda: network(pictures, level, pictures, level))
    assert upsampler_saves("meta", 3) == real


def test_the_batch_enters_linearly() -> None:
    one, two, five = (upsampler_saves("meta", batch) for batch in (1, 2, 5))
    for a, b, c in zip(one, two, five, strict=True):
        assert c == a + 4 * (b - a)


def test_fused_attention_saves_what_the_kernel_saves() -> None:
    def saves(network: Prior) -> int:
        texts = torch.zeros(2, 400, 16)
        call = (torch.zeros(2, 16), torch.zeros(2), torch.zeros(2, 16), texts, torch.ones(2, 400, dtype=torch.bool))
        return count_saved(network, lambda: network(*call)).everything

    real = saves(Prior(PRIOR))
    with torch.device("meta"), GpuAutocast(torch.float32):
        counted = saves(Prior(PRIOR))
    assert counted / real == pytest.approx(1, abs=0.03)  # The CPU's kernel keeps its mask in another form.


def test_products_in_bfloat16_save_what_autocast_saves() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.SiLU(), nn.Flatten(), nn.Linear(8 * 36, 5), nn.SiLU())

    network = build()
    with torch.autocast("cpu", torch.bfloat16):
        real = count_saved(network, lambda: network(torch.zeros(4, 3, 8, 8))).everything
    with torch.device("meta"):
        network, mode = build(), GpuAutocast(torch.bfloat16)
        with mode:
            counted = count_saved(network, lambda: network(torch.zeros(4, 3, 8, 8)), mode.copies.values()).everything
    copies = 2 * (3 * 8 * 9 + 8 * 36 * 5)  # The CPU's copies of the weights have no names to leave out.
    assert counted == real - copies
    assert sum(2 * copy.numel() for copy in mode.copies.values()) == copies + 2 * (8 + 5)


def test_normalisation_is_kept_in_float32_on_a_gpu() -> None:
    with torch.device("meta"), GpuAutocast(torch.bfloat16):
        network = nn.GroupNorm(2, 4)
        x = torch.zeros(2, 4, 8, 8, dtype=torch.bfloat16, requires_grad=True)
        saved = count_saved(network, lambda: network(x)).everything
    assert saved == 4 * 2 * 4 * 64 + 2 * 4 * 2 * 2  # The input in float32, a mean and a deviation of each group.


@pytest.mark.parametrize(("training", "prob", "masks"), [(True, 0.1, 1), (False, 0.1, 0), (True, 0.0, 0)])
def test_dropout_keeps_a_byte_per_number_where_it_drops(training: bool, prob: float, masks: int) -> None:
    with torch.device("meta"), GpuAutocast(torch.bfloat16):
        network = nn.Dropout(prob).train(training)
        x = torch.zeros(6, 7, requires_grad=True)
        assert count_saved(network, lambda: network(x)).everything == 42 * masks


def test_with_checkpointing_each_further_block_keeps_its_input_alone() -> None:
    def saves(depth: int) -> int:
        with torch.device("meta"), GpuAutocast(torch.float32):
            network = nn.ModuleList(TransformerBlock(64, 2, depth=depth) for _ in range(depth))
            x = torch.zeros(2, 10, 64, requires_grad=True)

            def forward() -> torch.Tensor:
                h = x
                for block in network:
                    h, _ = block(h)
                return h

            return count_saved(network, forward).checkpointed

    assert saves(7) - saves(6) == 4 * 2 * 10 * 64


def test_the_tower_of_a_clip_is_counted_in_blocks() -> None:
    config = clip_preset("tiny")
    from unclip.clip import Clip

    with torch.device("meta"), GpuAutocast(torch.float32):
        network = Clip(config)
        pixels = torch.zeros(2, 3, config.image_size, config.image_size)
        saved = count_saved(network, lambda: network.encode_pixels(pixels))
    assert saved.checkpointed < saved.everything
