"""Costs of a step against closed forms, published counts and a real step on the CPU."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from unclip.clip import clip_preset
from unclip.errors import InputError
from unclip.models import DecoderConfig, Prior, PriorConfig, Upsampler, UpsamplerConfig, prior_preset, upsampler_preset
from unclip.training import (
    ClipTaskConfig,
    DataConfig,
    DecoderTaskConfig,
    OptimizerConfig,
    PriorTaskConfig,
    TrainConfig,
    UpsamplerTaskConfig,
)
from unclip.training.config import TaskConfig
from unclip.training.optimizer import make_optimizers
from unclip.training.plan.cost import count_flops_per_image, count_state, count_step_cost

DECODER = DecoderConfig(
    image_size=16,
    embedding_dim=16,
    text_dim=24,
    base_channels=32,
    channel_mult=(1, 2),
    num_res_blocks=1,
    attention_resolutions=(8,),
    head_dim=32,
    context_dim=32,
)
UPSAMPLER = UpsamplerConfig(image_size=32, low_res_size=8, base_channels=32, channel_mult=(1, 2), num_res_blocks=1)
PRIOR = PriorConfig(embedding_dim=16, num_text_tokens=10, width=64, depth=3, num_heads=2)


def run_of(task: TaskConfig, **changes: object) -> TrainConfig:
    config = TrainConfig(
        name="test/run",
        task=task,
        data=DataConfig(folder="shards", embeddings="embeddings"),
        optimizer=OptimizerConfig(learning_rate=1e-3),
        batch_size=8,
        num_images=80,
    )
    return config.replace(**changes)


def bytes_of(tensors: list[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def test_state_is_that_of_a_real_step() -> None:
    config = run_of(UpsamplerTaskConfig(model=UPSAMPLER, crop_size=16))
    network = Upsampler(UPSAMPLER)
    average, optimizer = Upsampler(UPSAMPLER), make_optimizers(network, config.optimizer)
    network(torch.randn(2, 3, 16, 16), torch.zeros(2), torch.randn(2, 3, 16, 16)).square().mean().backward()
    optimizer.step()
    counted = count_step_cost(config).state
    assert counted.weights == bytes_of([*network.parameters(), *network.buffers()])
    assert counted.gradients == bytes_of([p.grad for p in network.parameters() if p.grad is not None])
    assert counted.averages == bytes_of([*average.parameters(), *average.buffers()])
    assert counted.optimizer == bytes_of(list(optimizer.tensors().values()))


def test_muon_keeps_one_number_for_a_weight_of_a_matrix() -> None:
    muon = OptimizerConfig(learning_rate=1e-3, name="muon")
    network, config = Prior(PRIOR), run_of(PriorTaskConfig(model=PRIOR, clip="clip"), optimizer=muon)
    optimizers = make_optimizers(network, config.optimizer)
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizers.step()
    assert count_state(network, config).optimizer == bytes_of(list(optimizers.tensors().values()))


def test_two_power_averages_take_twice_the_room_of_a_classic_one() -> None:
    task = UpsamplerTaskConfig(model=UPSAMPLER, crop_size=16)
    with torch.device("meta"):
        network = nn.Linear(4, 4)
    classic, power = (count_state(network, run_of(task, ema=kind)).averages for kind in ("classic", "power"))
    assert (classic, power) == (4 * 20, 2 * 4 * 20)


# A block is 12 width^2 weights, each used once a token, and two products of queries and keys over all pairs of tokens.
def test_a_transformers_operations_have_a_closed_form() -> None:
    tokens, width = 14, 64
    blocks = 3 * (12 * width**2 * tokens + 2 * tokens**2 * width)
    ends = 10 * 16 * width + 2 * 16 * width + 2 * width**2 + width * 16
    assert count_step_cost(run_of(PriorTaskConfig(model=PRIOR, clip="clip"))).forward_flops == 2 * (blocks + ends)


@pytest.mark.parametrize(
    ("name", "crop_size", "giga"),
    [("dalle2-paper-256", 64, 4_249), ("dalle2-paper-1024", 256, 9_916)],
)
def test_the_papers_upsamplers_cost_what_an_independent_count_found(name: str, crop_size: int, giga: float) -> None:
    """Multiply-adds of one forward pass of a whole picture, sixteen crops."""
    cost = count_step_cost(run_of(UpsamplerTaskConfig(model=upsampler_preset(name), crop_size=crop_size)))
    assert 16 * cost.forward_flops / 2e9 == pytest.approx(giga, rel=0.005)


def test_the_papers_prior_costs_what_an_independent_count_found() -> None:
    cost = count_step_cost(run_of(PriorTaskConfig(model=prior_preset("dalle2-paper"), clip="clip")))
    assert cost.forward_flops / 2e9 == pytest.approx(312, rel=0.04)


def test_training_takes_three_forward_passes_and_checkpointing_a_fourth() -> None:
    config = run_of(PriorTaskConfig(model=PRIOR, clip="clip"))
    cost, network = count_step_cost(config), Prior(PRIOR)
    counter = FlopCounterMode(display=False)
    with counter:
        network(
            torch.randn(1, 16, requires_grad=True),
            torch.zeros(1),
            torch.randn(1, 16, requires_grad=True),
            torch.randn(1, 10, 16, requires_grad=True),
        ).sum().backward()
    sinusoids = 2 * PRIOR.width**2  # Time steps have no gradient.
    assert counter.get_total_flops() == cost.flops_per_image - sinusoids
    assert count_flops_per_image(config.replace(activation_checkpointing=True)) == 4 * cost.forward_flops


def test_self_conditioning_costs_a_forward_pass_in_its_share_of_steps() -> None:
    model = PRIOR.replace(self_conditioning=True)
    cost = count_step_cost(run_of(PriorTaskConfig(model=model, clip="clip", self_conditioning_prob=0.25)))
    assert cost.flops_per_image == 3.25 * cost.forward_flops


def test_a_frozen_clip_is_paid_once_a_step_or_once_a_picture_or_not_at_all() -> None:
    clip = clip_preset("tiny")
    prior, decoder = PriorTaskConfig(model=PRIOR, clip="clip"), DecoderTaskConfig(model=DECODER, clip="clip")
    data = DataConfig(folder="shards")
    once, always, textless = (
        count_step_cost(run_of(task, data=data), clip).tower
        for task in (prior, prior.replace(embed="every_step"), decoder.replace(model=DECODER.replace(text_dim=0)))
    )
    assert always.flops_per_image == once.flops_per_image + once.flops_once
    assert (once.flops_once > 0, always.flops_once, textless.flops_per_image) == (True, 0, 0)
    assert count_step_cost(run_of(prior)).tower == (0, 0, 0, 0)
    stored = count_step_cost(run_of(prior), clip).tower
    assert stored == (once.parameters, once.bytes, 0, 0)
    with pytest.raises(InputError, match=r"^test/run computes features with the CLIP in clip, whose shape"):
        count_step_cost(run_of(prior, data=data))


@pytest.mark.parametrize(
    "task",
    [
        ClipTaskConfig(model=clip_preset("tiny")),
        PriorTaskConfig(model=PRIOR.replace(num_text_tokens=0), clip="clip"),
        DecoderTaskConfig(model=DECODER),
        DecoderTaskConfig(model=DECODER.replace(text_dim=0)),
        UpsamplerTaskConfig(model=UPSAMPLER.replace(noise_conditioning=True, learned_variance=True), crop_size=16),
    ],
    ids=lambda task: type(task).__name__,
)
def test_every_task_is_counted(task: TaskConfig) -> None:
    half, full = (count_step_cost(run_of(task, precision=precision)) for precision in ("bfloat16", "float32"))
    saved = half.saved_per_image
    assert 0 < saved.checkpointed < saved.everything < full.saved_per_image.everything
    assert (half.state.half_copies, full.state.half_copies) == (half.state.gradients // 2, 0)
