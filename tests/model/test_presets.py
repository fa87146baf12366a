"""Whole-model presets: their sizes, their costs, and that their stages fit each other."""

import pytest

from unclip.errors import InputError
from unclip.model import describe_model, model_preset, model_presets
from unclip.model.families import build_on_meta, count_step
from unclip.models import count_parameters

VIT_L = 427_616_513  # Both towers, their projections and the temperature.
KARLO_PRIOR, KARLO_UPSAMPLER, MOVQ = 1_022_028_544, 691_579_523, 67_832_495
PARAMETERS = {
    "dalle2-paper": {
        "clip": 986_523_137,
        "prior": 1_225_925_632,
        "decoder": 3_466_183_174,
        "upsampler_256": 729_702_083,
        "upsampler_1024": 282_059_139,
    },
    "kandinsky-2.1": {
        "clip": VIT_L,
        "text_encoder": 559_628_032,
        "prior": KARLO_PRIOR,
        "decoder": 1_228_661_768,
        "autoencoder": MOVQ,
    },
    "kandinsky-2.2": {
        "clip": 2_539_567_105,
        # Published with the mean and standard deviation of 1280 numbers: 1,026,225,920.
        "prior": 1_026_225_920 - 2 * 1280,
        "decoder": 1_253_057_288,
        "autoencoder": MOVQ,
    },
    "karlo": {
        "clip": VIT_L,
        "prior": KARLO_PRIOR,
        "decoder": 893_318_086,
        "upsampler_256": KARLO_UPSAMPLER,
        "upsampler_256_last": KARLO_UPSAMPLER,
    },
    "laion-decoder": {"clip": VIT_L, "decoder": 982_610_118},
    "laion-prior": {"clip": VIT_L, "prior": 249_277_696},
    "reference": {
        "clip": VIT_L,
        "prior": 307_644_160,
        "decoder": 1_522_393_008,
        "upsampler_1024": 283_031_280,
    },
}


@pytest.mark.parametrize("name", model_presets())
def test_every_network_has_its_number_of_parameters(name: str) -> None:
    stages = model_preset(name).stages
    assert {stage: count_parameters(build_on_meta(config)) for stage, config in stages.items()} == PARAMETERS[name]


@pytest.mark.parametrize("name", model_presets())
def test_stages_speak_of_the_same_embeddings(name: str) -> None:
    stages = model_preset(name).stages
    sizes = {config.embedding_dim for stage, config in stages.items() if stage in ("clip", "prior", "decoder")}
    assert sizes == {stages["clip"].embedding_dim}


@pytest.mark.parametrize("name", model_presets())
def test_what_is_sampled_is_a_stage(name: str) -> None:
    preset = model_preset(name)
    assert preset.sampling.keys() <= preset.stages.keys()
    assert "clip" not in preset.sampling


def test_the_papers_numbers() -> None:
    preset = model_preset("dalle2-paper")
    stages = ("prior", "decoder", "upsampler_256", "upsampler_1024")
    assert [preset.stages[stage].schedule for stage in stages] == ["cosine", "cosine", "cosine", "linear"]
    assert [preset.sampling[stage].num_steps for stage in stages] == [64, 250, 27, 15]
    assert describe_model("dalle2-paper").image_sizes == (64, 256, 1024)


def test_the_reference_model_draws_256_px_at_once() -> None:
    stages = model_preset("reference").stages
    decoder, upsampler = stages["decoder"], stages["upsampler_1024"]
    assert decoder.image_size == 256 == upsampler.low_res_size
    widths = [decoder.base_channels * mult for mult in decoder.channel_mult]
    assert [width % 32 or width % decoder.head_dim for width in widths] == [0] * 4


# Measured on diffusers' classes by the same counter; prior and decoder ran both halves of guidance.
@pytest.mark.parametrize(
    ("stage", "gflops"),
    [("prior", 328.8 / 2), ("decoder", 1216.6 / 2), ("upsampler_256", 8497.4), ("upsampler_256_last", 8497.4)],
)
def test_a_step_of_karlo_costs_what_it_costs_in_diffusers(stage: str, gflops: float) -> None:
    counted = count_step(build_on_meta(model_preset("karlo").stages[stage])) / 1e9
    assert abs(counted / gflops - 1) < 0.01


def test_a_step_of_clip_is_one_text() -> None:
    clip = model_preset("karlo").stages["clip"]
    # 12 blocks of 12 w^2 multiply-adds per token, attention over 77 keys, and one projection.
    macs = 12 * (77 * 12 * 768**2 + 2 * 77**2 * 768) + 768**2
    assert count_step(build_on_meta(clip)) == 2 * macs


def test_a_step_of_the_papers_decoder_includes_its_text_transformer() -> None:
    decoder = model_preset("dalle2-paper").stages["decoder"]
    shallow = decoder.replace(text_transformer=decoder.text_transformer.replace(depth=12))
    added = count_step(build_on_meta(decoder)) - count_step(build_on_meta(shallow))
    # 12 blocks of 12 w^2 multiply-adds per token, and attention over 256 keys.
    assert added == 2 * 12 * (256 * 12 * 2048**2 + 2 * 256**2 * 2048)


def test_an_unknown_preset_gets_the_nearest_name() -> None:
    with pytest.raises(InputError, match=r"no model preset 'carlo'; did you mean 'karlo'\? allowed: .*dalle2-paper, "):
        model_preset("carlo")
