"""Operations of a sampling against sums by hand, and those of presets against published figures."""

import pytest

from bench_jobs import SETTINGS, stage_job
from unclip.bench import preset_subject
from unclip.bench.stage import count_stage
from unclip.clip import clip_preset
from unclip.model import model_preset
from unclip.model.families import build_on_meta, count_step
from unclip.models import DecoderConfig, PriorConfig, UpsamplerConfig, count_bytes, prior_preset

PRIOR = PriorConfig(embedding_dim=24, text_dim=40, num_text_tokens=10, width=32, depth=3, num_heads=2)


def prior_blocks(queries: int, keys: int, width: int = 32, depth: int = 3) -> int:
    """Multiply-adds of a transformer: projections 4 w^2 and an MLP 8 w^2 per token, and attention's two products."""
    return depth * (queries * 12 * width**2 + 2 * queries * keys * width)


def prior_ends(width: int = 32, dim: int = 24) -> int:
    """Multiply-adds of time, noised embedding and output."""
    return 2 * width**2 + 2 * dim * width


def test_a_whole_pass_of_a_prior() -> None:
    text = 10 * 40 * 32 + 24 * 32
    macs = text + prior_ends() + prior_blocks(14, 14)
    assert count_stage(stage_job("prior", PRIOR)).forward == 2 * macs


def test_a_sampled_prior_reads_its_text_once() -> None:
    count = count_stage(stage_job("prior", PRIOR, batch=2))
    text = (10 * 40 * 32 + 24 * 32) + prior_blocks(11, 11)
    # The two prompts, and the empty one.
    assert count.setup == 3 * 2 * text
    assert count.steps == (2 * 2 * (prior_ends() + prior_blocks(3, 14)),) * 3


def test_guidance_doubles_a_step_and_candidates_multiply_it() -> None:
    plain = count_stage(stage_job("prior", PRIOR))
    guided = count_stage(stage_job("prior", PRIOR, settings=SETTINGS.replace(guidance_scale=2.0), num_candidates=3))
    assert guided.setup == plain.setup
    assert guided.steps == tuple(6 * flops for flops in plain.steps)


def test_the_last_step_of_heun_is_one_pass() -> None:
    euler = count_stage(stage_job("prior", PRIOR)).steps
    heun = count_stage(stage_job("prior", PRIOR, settings=SETTINGS.replace(sampler="heun"))).steps
    assert heun == (2 * euler[0], 2 * euler[1], euler[2])


def test_guidance_in_an_interval_is_counted_in_those_steps() -> None:
    settings = SETTINGS.replace(guidance_scale=2.0, guidance_interval=(0.0, 0.5))
    first, _, third = count_stage(stage_job("prior", PRIOR, settings=settings)).steps
    assert third == 2 * first


def res_block(inputs: int, outputs: int, side: int, embedding: int) -> int:
    skip = 0 if inputs == outputs else inputs * outputs * side**2
    return 9 * (inputs * outputs + outputs**2) * side**2 + embedding * outputs + skip


def test_an_upsampler_of_two_levels() -> None:
    width, side = 32, 16
    config = UpsamplerConfig(
        image_size=side, low_res_size=8, base_channels=width, channel_mult=(1, 2), num_res_blocks=1
    )
    embedding = config.unet().embedding_dim
    blocks = [
        (width, width, side), (width, width, side // 2), (width, 2 * width, side // 2),
        (2 * width, 2 * width, side // 2), (2 * width, 2 * width, side // 2),
        (4 * width, 2 * width, side // 2), (3 * width, 2 * width, side // 2), (2 * width, 2 * width, side),
        (3 * width, width, side), (2 * width, width, side),
    ]  # fmt: skip
    macs = sum(res_block(*block, embedding) for block in blocks)
    macs += 9 * (6 + 3) * width * side**2 + width * embedding + embedding**2
    count = count_stage(stage_job("upsampler_16", config, size=(side, side), batch=2))
    assert (count.forward, count.setup) == (2 * macs, 0)
    assert count.steps == (2 * 2 * macs,) * 3


def test_clips_text_tower_reads_the_prompts_and_the_empty_one() -> None:
    clip = clip_preset("tiny")
    width, length = clip.text_width, clip.context_length
    macs = clip.text_layers * (length * 12 * width**2 + 2 * length**2 * width) + width * clip.embedding_dim
    count = count_stage(stage_job("clip", clip, settings=None, batch=4))
    assert (count.setup, count.steps) == (0, (5 * 2 * macs,))


@pytest.mark.parametrize(("batch", "passes"), [(1, 1), (3, 2)])
def test_a_decoder_is_linear_in_pictures_and_passes(batch: int, passes: int) -> None:
    config = DecoderConfig(
        image_size=16, embedding_dim=8, base_channels=32, channel_mult=(1,), num_res_blocks=1,
        attention_resolutions=(), context_dim=8,
    )  # fmt: skip
    settings = SETTINGS.replace(guidance_scale=float(passes))
    count = count_stage(stage_job("decoder", config, batch=batch, settings=settings))
    assert count.steps == (batch * passes * count.forward,) * 3


def test_weights_are_counted_in_their_format() -> None:
    network = build_on_meta(PRIOR)
    statistics = 2 * 4 * PRIOR.embedding_dim
    for dtype in ("float32", "bfloat16"):
        count = count_stage(stage_job("prior", PRIOR, dtype=dtype))
        assert count.weight_bytes == count_bytes(network)[dtype] + statistics


# An analytic model of the paper's networks that gives ADM's published figure exactly; it leaves out small layers, and
# the decoder's is without the text transformer, whose layers are counted by hand.
@pytest.mark.parametrize(
    ("stage", "gmacs", "tolerance"),
    [("prior", 312, 0.04), ("decoder", 752, 0.07), ("upsampler_256", 4249, 0.001), ("upsampler_1024", 9916, 0.001)],
)
def test_the_papers_networks_cost_what_is_known(stage: str, gmacs: float, tolerance: float) -> None:
    counted = count_step(build_on_meta(model_preset("dalle2-paper").stages[stage])) / 2e9
    if stage == "decoder":
        counted -= 24 * (256 * 12 * 2048**2 + 2 * 256**2 * 2048) / 1e9
    assert abs(counted / gmacs - 1) < tolerance


# Published: 1.0, 0.9 and 1.4 (two of 0.7) billion parameters.
@pytest.mark.parametrize(("stage", "billions"), [("prior", 1.0), ("decoder", 0.9), ("upsampler_256", 1.4)])
def test_karlos_networks_have_the_published_size(stage: str, billions: float) -> None:
    subject = preset_subject("karlo", stage)
    last = subject.networks.get(f"{stage}_last")
    networks = [subject.networks[stage], *([] if last is None else [last])]
    counted = sum(sum(p.numel() for p in build_on_meta(config).parameters()) for config in networks) / 1e9
    assert abs(counted / billions - 1) < 0.03


def test_karlos_last_step_has_a_network_of_its_own() -> None:
    config = UpsamplerConfig(image_size=16, low_res_size=8, base_channels=32, channel_mult=(1,), num_res_blocks=1)
    alone = count_stage(stage_job("upsampler_16", config, size=(16, 16)))
    job = stage_job("upsampler_16", config, size=(16, 16))
    pair = count_stage(job.replace(shapes=job.shapes * 2))
    assert pair.steps == alone.steps
    assert pair.weight_bytes == 2 * alone.weight_bytes


def test_a_prior_of_a_thousand_weights_and_one_of_a_billion_are_counted_alike() -> None:
    shape = prior_preset("dalle2-paper")
    count = count_stage(stage_job("prior", shape))
    ends = prior_ends(shape.width, shape.embedding_dim)
    assert count.steps[0] == 2 * (ends + prior_blocks(3, 260, shape.width, shape.depth))
