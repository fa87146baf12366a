"""What is measured, by the names that people type."""

import pytest

from bench_jobs import stage_job
from unclip.bench import model_subject, preset_subject
from unclip.bench.stage import StageJob
from unclip.bench.subject import stage_sizes
from unclip.errors import CheckpointError, ConfigError, InputError
from unclip.model import model_preset, model_presets
from unclip.model.families import build_on_meta, count_step
from unclip.models import DecoderConfig, PriorConfig, prior_preset


def test_a_models_stages_come_in_the_order_of_drawing() -> None:
    assert preset_subject("karlo").stages == ["clip", "prior", "decoder", "upsampler_256"]
    assert preset_subject("kandinsky-2.1").stages == ["clip", "text_encoder", "prior", "decoder", "autoencoder"]


def test_one_stage_of_a_model_keeps_its_settings() -> None:
    subject = preset_subject("karlo", "upsampler_256")
    assert set(subject.networks) == {"upsampler_256", "upsampler_256_last"}
    assert subject.settings["upsampler_256"] == model_preset("karlo").sampling["upsampler_256"]


def test_a_network_that_no_model_has() -> None:
    subject = preset_subject("tiny", "prior")
    assert subject.networks == {"prior": prior_preset("tiny")}
    assert subject.settings["prior"].num_steps == 25


def test_shapes_are_changed_by_stage_and_field() -> None:
    changed = preset_subject("karlo", "prior").changed({"prior.depth": "6", "prior.width": "512"})
    prior = changed.networks["prior"]
    assert isinstance(prior, PriorConfig)
    assert (prior.depth, prior.width, prior.num_heads) == (6, 512, 32)


@pytest.mark.parametrize("name", model_presets())
def test_networks_without_text_tokens_can_be_built(name: str) -> None:
    subject = preset_subject(name)
    for stage in {"prior", "decoder"} & subject.networks.keys():
        config, short = subject.networks[stage], subject.changed({}, text_tokens=0).networks[stage]
        assert count_step(build_on_meta(short)) <= count_step(build_on_meta(config))
        if isinstance(short, PriorConfig):
            assert short.num_text_tokens == 0
        if isinstance(short, DecoderConfig):
            assert (short.text_dim, short.text_transformer) == (0, None)


def test_texts_of_some_length() -> None:
    networks = preset_subject("dalle2-paper").changed({}, text_tokens=7).networks
    prior, decoder = networks["prior"], networks["decoder"]
    assert isinstance(prior, PriorConfig)
    assert isinstance(decoder, DecoderConfig)
    assert decoder.text_transformer is not None
    assert (prior.num_text_tokens, decoder.text_transformer.num_text_tokens) == (7, 7)


def test_sizes_are_those_of_the_models_stages() -> None:
    sizes, width = stage_sizes(preset_subject("dalle2-paper"))
    assert (sizes["decoder"], sizes["upsampler_256"], sizes["upsampler_1024"], width) == (
        (64, 64), (256, 256), (1024, 1024), 1024,
    )  # fmt: skip
    sizes, width = stage_sizes(preset_subject("dalle2-paper"), 256)
    assert "upsampler_1024" not in sizes
    assert width == 256


def test_latents_are_smaller_than_pictures() -> None:
    sizes, width = stage_sizes(preset_subject("kandinsky-2.2"))
    assert (sizes["decoder"], sizes["autoencoder"], width) == ((64, 64), (64, 64), 512)


def test_an_upsampler_alone_at_a_size_of_its_own() -> None:
    sizes, width = stage_sizes(preset_subject("karlo", "upsampler_256"), (384, 256))
    assert (sizes["upsampler_256"], width) == ((256, 384), 384)


def test_the_shipped_model() -> None:
    subject = model_subject("emoji")
    assert (subject.model, subject.image_size) == ("emoji", stage_sizes(subject)[1])


@pytest.mark.parametrize(
    ("preset", "stage", "message"),
    [
        ("carlo", None, r"did you mean 'karlo'\?"),
        ("karlo", "decodr", r"there is no stage 'decodr'; did you mean 'decoder'\?"),
        ("karlo", "upsampler_1024", r"the preset 'karlo' makes 256 px; ask for upsampler_256"),
        ("tinny", "prior", r"no preset of 'prior' is called 'tinny'; did you mean 'tiny'\?"),
        ("dalle2-paper-1024", "upsampler_256", r"makes 1024 px; ask for upsampler_1024"),
    ],
)
def test_unknown_names_get_the_nearest(preset: str, stage: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        preset_subject(preset, stage)


@pytest.mark.parametrize(
    ("change", "value", "message"),
    [
        ("prior.dept", "6", r"--set prior\.dept: .*did you mean 'depth'\?"),
        ("priro.depth", "6", r"did you mean 'prior'\?"),
        ("depth", "6", r"write <stage>\.<field>"),
        ("prior.width", "33", r"width=33 is not divisible"),
    ],
)
def test_impossible_changes_are_said(change: str, value: str, message: str) -> None:
    with pytest.raises((InputError, ConfigError), match=message):
        preset_subject("karlo").changed({change: value})


def test_stages_must_fit_each_other() -> None:
    changed = preset_subject("karlo").changed({"prior.embedding_dim": "512"})
    with pytest.raises(CheckpointError, match=r"disagree on the image embedding: prior 512, decoder 768"):
        stage_sizes(changed)


@pytest.mark.parametrize(("stage", "size"), [(None, 300), ("upsampler_256", 260)])
def test_a_size_that_is_not_drawn(stage: str | None, size: int) -> None:
    with pytest.raises(InputError, match=rf"{size}"):
        stage_sizes(preset_subject("karlo", stage), size)


def test_a_shape_survives_its_journey_to_a_process() -> None:
    for name in model_presets():
        for config in model_preset(name).stages.values():
            job = StageJob.model_validate_json(stage_job("any", config).model_dump_json())
            assert [network.config for network in job.networks()] == [config]
