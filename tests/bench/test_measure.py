"""Measured numbers agree with each other; how large they are is the machine's affair."""

import json

import pytest
import torch

from bench_jobs import SETTINGS, stage_job
from unclip.bench import (
    BatchFigures,
    DevicePeak,
    StageFigures,
    bench_sample,
    bench_train,
    preset_subject,
    train_config,
)
from unclip.bench.measure import fill_network, measure, measure_apart
from unclip.bench.stage import count_stage
from unclip.errors import InputError
from unclip.model.families import build_on_meta
from unclip.models import UpsamplerConfig, decoder_preset, kandinsky_decoder_preset, prior_preset, upsampler_preset
from unclip.training.plan.cost import count_step_cost

pytestmark = pytest.mark.usefixtures("quick_peak")
CPU = torch.device("cpu")
PRIOR = prior_preset("tiny")


def figures(**changes: object) -> StageFigures:
    common = StageFigures(
        stage="decoder", num_parameters=10, weight_bytes=40, dtype="float32", batch=4, num_steps=5, sampler="ddim",
        guidance_scale=2.0, setup_seconds=0.5, seconds_per_step=2.0, timed_steps=3, extrapolated=True,
        peak_memory_bytes=100, flops_per_forward=7, setup_flops=20, flops_per_step=60.0,
        peak=DevicePeak(matmul=120.0, convolution=60.0),
    )  # fmt: skip
    return common.replace(**changes)


def test_figures_of_a_stage_follow_from_its_step() -> None:
    stage = figures()
    assert (stage.seconds, stage.flops, stage.share_of_peak) == (0.5 + 5 * 2.0, 20 + 5 * 60.0, 0.25)
    said = stage.model_dump(mode="json")
    assert (said["seconds_per_image"], said["flops_per_image"]) == (10.5 / 4, 320 / 4)
    assert said["share_of_convolution_peak"] == 0.5


def test_figures_of_a_batch_are_sums_and_maxima() -> None:
    second = figures(stage="upsampler_32", setup_seconds=0.0, num_steps=1, peak_memory_bytes=70, weight_bytes=60)
    batch = BatchFigures(batch=4, stages=(figures(), second))
    assert batch.seconds_per_image == (10.5 + 2.0) / 4
    assert batch.images_per_second == 4 / 12.5
    assert batch.flops_per_image == (320 + 80) / 4
    assert (batch.peak_memory_bytes, batch.peak_memory_loaded_bytes) == (100, 40 + 60 + (100 - 40))
    assert batch.share_of_peak == pytest.approx(0.25)
    assert batch.model_dump(mode="json")["seconds_per_step"] is None


def test_a_sampling_is_timed_whole_where_it_is_short() -> None:
    found = measure(stage_job("prior", PRIOR))
    assert len(found.seconds) >= 3
    assert found.indices[:5] == (1, 2, 0, 1, 2)[: len(found.indices)]
    assert min(found.seconds) > 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("stage", "config", "size"),
    [
        ("prior", PRIOR, None),
        ("decoder", decoder_preset("tiny"), (16, 16)),
        ("decoder", kandinsky_decoder_preset("tiny"), (8, 8)),
        ("upsampler_32", upsampler_preset("tiny"), (32, 32)),
    ],
)
def test_every_kind_of_stage_can_be_measured(stage: str, config: object, size: object, dtype: str) -> None:
    job = stage_job(stage, config, size=size, dtype=dtype, batch=2)  # type: ignore[arg-type]
    assert len(measure(job.replace(settings=SETTINGS.replace(guidance_scale=2.0))).seconds) >= 1


def test_random_weights_keep_numbers_finite() -> None:
    network = build_on_meta(PRIOR)
    fill_network(network, CPU, torch.bfloat16, "prior", None)
    out = network(torch.ones(2, 32), torch.ones(2), torch.ones(2, 32), torch.ones(2, 16, 32))
    assert out.dtype == torch.bfloat16
    assert 0 < out.float().abs().mean() < 100
    torch.testing.assert_close(network.embedding_std, torch.ones(32))


def test_memory_holds_the_weights_at_least() -> None:
    wide = UpsamplerConfig(image_size=16, low_res_size=8, base_channels=384, channel_mult=(1,), num_res_blocks=2)
    job = stage_job("upsampler_16", wide, size=(16, 16), num_steps=1, settings=SETTINGS.replace(num_steps=1))
    held = count_stage(job).weight_bytes
    assert held > 40e6
    assert held <= measure_apart(job).peak_memory_bytes < 4 * held


def test_a_report_adds_up() -> None:
    report = bench_sample(preset_subject("tiny", "prior"), batches=(1, 2), dtype="float32", device="cpu", repeats=1)
    said = json.loads(json.dumps(report.as_dict()))
    assert [batch["batch"] for batch in said["batches"]] == [1, 2]
    for batch in said["batches"]:
        (stage,) = batch["stages"]
        assert batch["images_per_second"] == pytest.approx(1 / batch["seconds_per_image"])
        whole = stage["setup_seconds"] + stage["num_steps"] * stage["seconds_per_step"]
        assert batch["seconds_per_image"] == pytest.approx(whole / batch["batch"])
        rate = stage["flops_per_step"] / stage["seconds_per_step"]
        assert batch["share_of_peak"] == pytest.approx(rate / said["peaks"]["float32"]["matmul"])
        assert batch["peak_memory_bytes"] >= stage["weight_bytes"]
        assert stage["extrapolated"] == (stage["timed_steps"] < stage["num_steps"])
    keys = {"seconds_per_step", "peak_memory_bytes", "flops_per_step", "share_of_peak", "seconds_per_image"}
    assert {key: said[key] for key in keys} == {key: said["batches"][0][key] for key in keys}


def test_steps_of_training_are_the_trainers() -> None:
    config = train_config("tiny/decoder", decoder_preset("tiny")).replace(batch_size=4, precision="float32")
    report = bench_train(config, device="cpu", repeats=2)
    cost = count_step_cost(config)
    assert report.flops_per_step == 4 * 3 * cost.forward_flops
    assert report.images_per_second == pytest.approx(4 / report.seconds_per_step)
    assert report.share_of_peak == pytest.approx(report.flops_per_step / report.seconds_per_step / report.peak.matmul)
    assert report.num_parameters == cost.parameters
    # Weights, gradients, optimiser and average.
    state = cost.state
    assert report.peak_memory_bytes >= state.weights + state.gradients + state.optimizer + state.averages


def test_a_network_that_is_only_sampled() -> None:
    with pytest.raises(InputError, match=r"kandinsky/decoder is a KandinskyDecoder, which is only sampled"):
        train_config("kandinsky/decoder", kandinsky_decoder_preset("tiny"))


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(InputError, match=r"did you mean 'bfloat16'\?"):
        bench_sample(preset_subject("tiny", "prior"), dtype="bfloat15", device="cpu")


def test_more_steps_than_the_schedule_has_are_refused_before_anything_is_measured() -> None:
    subject = preset_subject("tiny", "prior")
    settings = {"prior": subject.settings["prior"].replace(num_steps=2000)}
    with pytest.raises(InputError, match=r"2000"):
        bench_sample(subject, settings=settings, device="cpu")


def test_an_error_in_the_measuring_process_comes_back() -> None:
    config = train_config("tiny/prior", PRIOR).replace(batch_size=5, micro_batch_size=2)
    with pytest.raises(InputError, match=r"batch_size=5 does not divide in passes of micro_batch_size=2"):
        bench_train(config, device="cpu")
