"""A plan is arithmetic: every figure by hand."""

import math

import pytest
import torch

from unclip.clip import Clip, clip_preset
from unclip.errors import InputError
from unclip.models import ConvAutoencoderConfig, UpsamplerConfig, count_flops
from unclip.training import (
    GPUS,
    AutoencoderTaskConfig,
    DataConfig,
    OptimizerConfig,
    Plan,
    TrainConfig,
    UpsamplerTaskConfig,
    make_plan,
)
from unclip.training.plan.cost import count_flops_per_image, count_step_cost
from unclip.training.plan.plan import predict_memory
from unclip.training.tasks.adversarial import PatchDiscriminator

MODEL = UpsamplerConfig(image_size=256, low_res_size=64, base_channels=64, channel_mult=(1, 2), num_res_blocks=1)
CONFIG = TrainConfig(
    name="test/upsampler",
    task=UpsamplerTaskConfig(model=MODEL, crop_size=64),
    data=DataConfig(folder="shards", source_size=256),
    optimizer=OptimizerConfig(learning_rate=1e-3),
    batch_size=96,
    micro_batch_size=5,
    num_images=1_000_000,
)
COST = count_step_cost(CONFIG)


def plan_of(config: TrainConfig = CONFIG, **options: object) -> Plan:
    return make_plan(config, **{"num_pictures": 1000, "gpu": "a100", **options})  # type: ignore[arg-type]


def test_time_and_price_follow_from_operations_and_peak() -> None:
    plan = plan_of(num_gpus=8, utilisation=0.25, price=2.5)
    assert plan.flops_per_image == 3 * COST.forward_flops
    speed = 8 * 312e12 * 0.25 / plan.flops_per_image
    assert plan.images_per_second == pytest.approx(speed)
    assert plan.days == pytest.approx(1_000_000 / speed / 86_400)
    assert plan.gpu_hours == pytest.approx(plan.days * 24 * 8)
    assert plan.dollars == pytest.approx(plan.gpu_hours * 2.5)
    assert plan.num_steps == math.ceil(1_000_000 / 96)
    assert plan_of().dollars is None


def test_a_gpus_share_of_the_batch_is_done_in_micro_batches() -> None:
    plan = plan_of(num_gpus=8)
    assert (plan.micro_batch_size, plan.accumulation) == (5, 3)  # 96 / 8 = 12 = 5 + 5 + 2
    assert plan_of(CONFIG.replace(micro_batch_size=None), num_gpus=8).micro_batch_size == 12
    assert plan_of(CONFIG.replace(micro_batch_size=50), num_gpus=8).micro_batch_size == 12


def test_float32_runs_at_another_peak() -> None:
    half, full = plan_of(), plan_of(CONFIG.replace(precision="float32"))
    assert half.images_per_second / full.images_per_second == pytest.approx(312 / 19.5)


def test_checkpointing_costs_a_third_more_and_keeps_less() -> None:
    plain, checkpointed = plan_of(), plan_of(CONFIG.replace(activation_checkpointing=True))
    assert checkpointed.flops_per_image == 4 * plain.flops_per_image // 3
    assert checkpointed.memory["ddp"].activations < plain.memory["ddp"].activations


def test_strategies_divide_what_they_say() -> None:
    state, memory = COST.state, plan_of(num_gpus=4).memory
    whole = (state.weights, state.gradients, state.optimizer, state.averages)
    parts = {name: (m.weights, m.gradients, m.optimizer, m.averages) for name, m in memory.items()}
    assert parts["ddp"] == whole
    assert parts["fsdp"] == parts["fsdp_zero2"] == tuple(math.ceil(part / 4) for part in whole)
    assert {m.compute_copies for m in memory.values()} == {state.half_copies}
    gathered = (memory["ddp"].gathered, memory["fsdp"].gathered, memory["fsdp_zero2"].gathered)
    assert 0 < state.outside_blocks < state.gradients - 2 * state.largest_block
    assert gathered == (0, state.outside_blocks + 2 * state.largest_block, state.gradients)
    communication = (memory["ddp"].communication, memory["fsdp"].communication, memory["fsdp_zero2"].communication)
    unit = max(state.largest_block, state.outside_blocks)
    assert communication == (state.gradients, unit, unit)
    assert len({m.activations for m in memory.values()}) == 1


def test_one_gpu_shards_and_sends_nothing() -> None:
    memory = plan_of(num_gpus=1).memory
    assert memory["ddp"] == memory["fsdp"] == memory["fsdp_zero2"]
    assert memory["ddp"].communication == 0
    assert memory["ddp"].total == sum(memory["ddp"].model_dump().values())


@pytest.mark.parametrize(
    ("width", "batch_size", "num_gpus", "start"),
    [
        (64, 4096, 1, "--set micro_batch_size="),
        (640, 256, 8, "--set micro_batch_size="),
        (1280, 64, 64, "--strategy fsdp_zero2"),
        (1792, 64, 64, "--strategy fsdp"),
        (1792, 640, 64, "--set micro_batch_size="),
    ],
)
def test_the_advice_fits_and_the_plan_did_not(width: int, batch_size: int, num_gpus: int, start: str) -> None:
    task = UpsamplerTaskConfig(model=MODEL.replace(base_channels=width, num_res_blocks=3), crop_size=64)
    config = CONFIG.replace(task=task, batch_size=batch_size, micro_batch_size=None)
    plan = plan_of(config, num_gpus=num_gpus, gpu="rtx4090")
    assert not plan.fits
    assert plan.advice.startswith(start)
    followed = plan_of(follow(config, plan.advice), num_gpus=num_gpus, gpu="rtx4090")
    assert (followed.fits, followed.advice) == (True, "")


def follow(config: TrainConfig, advice: str) -> TrainConfig:
    words = advice.split()
    for flag, value in zip(words[::2], words[1::2], strict=True):
        name, _, text = ("strategy", "", value) if flag == "--strategy" else value.partition("=")
        config = config.replace(**{name: {"true": True}.get(text, int(text) if text.isdigit() else text)})
    return config


def test_a_network_that_fits_nowhere_says_so() -> None:
    task = UpsamplerTaskConfig(model=MODEL.replace(base_channels=4096, channel_mult=(1, 4)), crop_size=64)
    plan = plan_of(CONFIG.replace(task=task), gpu="rtx4090")
    assert (plan.fits, plan.advice[:15]) == (False, "no micro batch,")


def test_a_tenth_of_the_memory_stays_free() -> None:
    totals = [predict_memory(COST, "ddp", 1, micro, checkpointing=False).total for micro in range(1, 97)]
    fitting = [total for total in totals if total <= 0.9 * GPUS["rtx4090"].memory]
    plan = plan_of(CONFIG.replace(micro_batch_size=len(fitting)), gpu="rtx4090")
    assert (len(fitting) == 96) or plan.fits


def test_disk_is_counted_by_picture() -> None:
    disk = plan_of(num_pictures=7).disk
    assert disk.pictures == 7 * round(0.41 * 256 * 256)
    assert disk.cache == 7 * 3 * (256**2 + 64**2)
    assert disk.embeddings == 0
    assert disk.checkpoints == 3 * (COST.state.weights + COST.state.averages + COST.state.optimizer)
    assert plan_of(CONFIG.replace(data=CONFIG.data.replace(cache=False))).disk.cache == 0


def test_muon_over_shards_is_noted() -> None:
    config = CONFIG.replace(optimizer=CONFIG.optimizer.replace(name="muon"))
    assert plan_of(config).notes == ()
    assert plan_of(config.replace(strategy="fsdp")).notes == ("muon needs whole matrices; train with --strategy ddp",)


def test_a_gpu_without_bfloat16_is_noted() -> None:
    assert plan_of(gpu="v100").notes == ("v100 has no bfloat16; train with --set precision=float16",)
    assert plan_of(CONFIG.replace(precision="float16"), gpu="v100").notes == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_gpus": 97}, r"^97 GPUs cannot share a batch of 96; use 1 to 96, or a larger batch_size\.$"),
        ({"num_gpus": 0}, r"^0 GPUs cannot share"),
        ({"gpu": "a10"}, r"^there is no GPU 'a10' in the table of plans; did you mean 'a100'\? allowed: a100, h100, "),
        ({"utilisation": 40.0}, r"^utilisation=40\.0 is not a share of the peak"),
        ({"utilisation": math.nan}, r"^utilisation=nan is not a share"),
        ({"price": -1.0}, r"^price=-1\.0 is not dollars"),
        ({"num_pictures": 0}, r"^0 pictures are no data set"),
    ],
)
def test_what_is_no_plan_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan_of(**options)


def test_an_autoencoder_s_further_losses_are_counted() -> None:
    """The discriminator judges three times, CLIP sees two pictures and goes back through one of them."""
    model = ConvAutoencoderConfig(latent_channels=4, widths=(32, 32))
    task = AutoencoderTaskConfig(model=model, image_size=32)
    clip = clip_preset("tiny")

    def flops(**changes: object) -> int:
        return count_flops_per_image(CONFIG.replace(task=task.replace(**changes)), clip)

    with torch.device("meta"):
        judge, tower = PatchDiscriminator(3), Clip(clip)
        judging = count_flops(judge, torch.empty(1, 3, 32, 32))
        seeing = count_flops(tower.encode_pixels, torch.empty(1, 3, clip.image_size, clip.image_size))
    assert flops(adversarial_weight=1.0) - flops() == 3 * 3 * judging
    assert flops(feature_weight=1.0, clip="clip") - flops() == 3 * seeing
    assert flops(clip="clip") == flops()
