"""Model folders: what is saved is what is loaded, and damage is named."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from unclip.checkpoint import read_metadata
from unclip.diffusion import time_grid
from unclip.errors import CheckpointError, InputError
from unclip.model import describe_model, find_model, shipped_models
from unclip.model.folder import open_model, read_model_config, write_model
from unclip.models import Upsampler
from unclip.models.dalle2_pytorch import Dalle2Prior, Dalle2PriorConfig
from unclip.pipelines import Model, UnClip
from unclip.runtime import NoiseSource
from unclip.testing import tiny_pipeline


@pytest.fixture
def damaged(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "damaged"))


def drawn(pipe: UnClip) -> torch.Tensor:
    return pipe.text_to_image("a red apple", seed=7, output_type="pt").images[0]


def test_what_is_saved_is_what_is_loaded(pipe: UnClip, tiny_folder: Path) -> None:
    loaded = UnClip.load(tiny_folder, "cpu", torch.float32)
    assert loaded.name == "tiny"
    assert loaded.prior.defaults == pipe.prior.defaults
    assert loaded.decoder.network.config == pipe.decoder.network.config
    assert loaded.upsamplers.keys() == {32}
    torch.testing.assert_close(drawn(loaded), drawn(pipe), atol=1e-4, rtol=1e-4)


def test_the_tiny_model_is_the_same_every_time(tiny_folder: Path, tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    tiny_pipeline().save(tmp_path)
    assert torch.equal(torch.random.get_rng_state(), before)
    for path in tiny_folder.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name
    assert not torch.equal(tiny_pipeline(seed=1).prior.network.positions, tiny_pipeline().prior.network.positions)


@pytest.mark.parametrize(("storage", "tolerance"), [("bfloat16", 2**-8), ("int8", 1 / 127)])
def test_smaller_storage_is_near(pipe: UnClip, tmp_path: Path, storage: str, tolerance: float) -> None:
    pipe.save(tmp_path, storage)  # type: ignore[arg-type]
    assert read_metadata(tmp_path / "decoder.safetensors")["storage"] == storage
    loaded = UnClip.load(tmp_path, "cpu", torch.float32)
    for name, weight in pipe.decoder.network.named_parameters():
        error = (loaded.decoder.network.get_parameter(name) - weight).abs().max()
        assert 0.0 <= float(error) <= tolerance * float(weight.abs().max()), name


def test_low_precision_keeps_statistics_and_draws_nearly_the_same(pipe: UnClip, tiny_folder: Path) -> None:
    loaded = UnClip.load(tiny_folder, "cpu", torch.bfloat16)
    assert {parameter.dtype for parameter in loaded.decoder.network.parameters()} == {torch.bfloat16}
    assert {buffer.dtype for buffer in loaded.prior.network.buffers()} == {torch.float32}
    assert loaded.decoder.network.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    exact, rough = (p.text_to_image("a cat", seed=7, num_candidates=1).image_embeddings for p in (pipe, loaded))
    torch.testing.assert_close(rough, exact, atol=0.1, rtol=0.05)
    assert drawn(loaded).isfinite().all()


def test_config_of_the_folder(tiny_folder: Path) -> None:
    config = json.loads((tiny_folder / "config.json").read_text())
    assert config["format"] == "unclip"
    assert config["version"] == 1
    assert config["stages"] == ["clip", "prior", "decoder", "upsampler_32"]
    assert config["defaults"]["stages"].keys() == {"prior", "decoder", "upsampler_32"}


def test_description_needs_no_weights(pipe: UnClip, tiny_folder: Path) -> None:
    described = describe_model(tiny_folder)
    assert described.image_sizes == (16, 32)
    counts = {stage.name: stage.num_parameters for stage in described.stages}
    expected = {"clip": pipe.clip.clip, "prior": pipe.prior.network, "decoder": pipe.decoder.network}
    assert counts == {
        **{name: sum(p.numel() for p in network.parameters()) for name, network in expected.items()},
        "upsampler_32": sum(p.numel() for p in pipe.upsamplers[32].network.parameters()),
    }
    assert described.stages[0].num_bytes == (tiny_folder / "clip.safetensors").stat().st_size


def test_names_of_shipped_models(tiny_folder: Path) -> None:
    shipped = tiny_folder.parent
    assert shipped_models(shipped) == ["tiny"]
    assert find_model("tiny", shipped=shipped) == tiny_folder
    assert find_model(str(tiny_folder), shipped=shipped) == tiny_folder
    with pytest.raises(InputError, match=r"no model 'tinny'.*did you mean 'tiny'\? allowed: tiny"):
        find_model("tinny", shipped=shipped)


@pytest.mark.parametrize("name", ["clip", "prior", "decoder", "upsampler_32"])
def test_a_truncated_file_is_named(damaged: Path, name: str) -> None:
    path = damaged / f"{name}.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=f"{name}.safetensors is not a whole safetensors file"):
        UnClip.load(damaged)


@pytest.mark.parametrize("name", ["config.json", "prior.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(damaged: Path, name: str) -> None:
    (damaged / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        UnClip.load(damaged)


def test_a_file_of_another_stage_is_refused(damaged: Path) -> None:
    shutil.copy(damaged / "decoder.safetensors", damaged / "prior.safetensors")
    with pytest.raises(CheckpointError, match=r"prior\.safetensors holds 'decoder', not 'prior'"):
        UnClip.load(damaged)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "does not describe an unclip model"),
        ('{"format": "other"}', "does not describe an unclip model"),
        ('{"format": "unclip", "version": 1, "name": "x"}', "config.json: .*required"),
        ('{"format": "unclip", "version": 9}', "config.json: version"),
        (
            '{"format": "unclip", "version": 1, "name": "x", "stages": [], "defaults": {"stages": {}}}',
            r"stages are \[\]",
        ),
        (
            '{"format": "unclip", "version": 1, "name": "x", "stages": ["clip", "prior", "decoder", "upsampler_big"], '
            '"defaults": {"stages": {}}}',
            r"unknown: \['upsampler_big'\]",
        ),
        (
            '{"format": "unclip", "version": 1, "name": "x", "stages": ["clip", "prior", "decoder"], '
            '"defaults": {"stages": {}}}',
            r"defaults are given for \[\]",
        ),
    ],
)
def test_a_wrong_config_is_explained(damaged: Path, text: str, message: str) -> None:
    (damaged / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=message):
        UnClip.load(damaged)


def test_stages_of_several_folders_are_joined(pipe: UnClip, tiny_folder: Path, tmp_path: Path) -> None:
    tiny_pipeline(seed=1).save(tmp_path / "other")
    folders = dict.fromkeys(["clip", "prior", "upsampler_32"], tiny_folder) | {"decoder": tmp_path / "other"}
    joined = UnClip.assemble("mixed", folders, read_model_config(tiny_folder).defaults, "cpu", torch.float32)
    mine, other = pipe.decoder.network, tiny_pipeline(seed=1).decoder.network
    assert torch.equal(joined.decoder.network.unet.conv_in.weight, other.unet.conv_in.weight)
    assert not torch.equal(joined.decoder.network.unet.conv_in.weight, mine.unet.conv_in.weight)
    assert torch.equal(joined.prior.network.positions, pipe.prior.network.positions)


def test_stages_of_different_models_are_refused(model: Model) -> None:
    unit = Dalle2PriorConfig(embedding_dim=16, num_text_tokens=16, depth=1, num_heads=1, reads_text_hidden=False)
    with pytest.raises(CheckpointError, match="disagree on the scale of image embeddings"):
        replace(model, stages={**model.stages, "prior": replace(model.need_prior, network=Dalle2Prior(unit))})
    other = model.need_prior.network.config.replace(embedding_dim=24)
    prior = replace(model.need_prior, network=type(model.need_prior.network)(other))
    with pytest.raises(CheckpointError, match="disagree on the image embedding: clip 16, prior 24, decoder 16"):
        replace(model, stages={**model.stages, "prior": prior})


def test_low_memory_holds_the_weights_of_one_stage_at_a_time(pipe: UnClip, tiny_folder: Path) -> None:
    loaded = UnClip.load(tiny_folder, "cpu", torch.float32, low_memory=True)
    networks = {
        "clip": loaded.clip.clip,
        "prior": loaded.prior.network,
        "decoder": loaded.decoder.network,
        "upsampler_32": loaded.upsamplers[32].network,
    }
    held: dict[str, list[str]] = {}

    def watch(stage: str, done: int, total: int) -> None:
        held[stage] = [name for name, network in networks.items() if next(network.parameters()).device.type == "cpu"]

    images = loaded.text_to_image("a red apple", seed=7, output_type="pt", progress=watch).images
    assert held == {"prior": ["prior"], "decoder": ["decoder"], "upsampler_32": ["upsampler_32"]}
    assert all(parameter.is_meta for network in networks.values() for parameter in network.parameters())
    torch.testing.assert_close(images[0], drawn(pipe), atol=1e-4, rtol=1e-4)


def test_a_missing_part_is_named_by_the_task_that_needs_it(tiny_folder: Path, tmp_path: Path) -> None:
    source = open_model(tiny_folder)
    networks = {name: weights for name, weights in source.networks.items() if name != "prior"}
    stages = {name: settings for name, settings in source.defaults.stages.items() if name != "prior"}
    write_model(replace(source, networks=networks, defaults=source.defaults.replace(stages=stages)), tmp_path)
    loaded = UnClip.load(tmp_path, "cpu", torch.float32)
    assert loaded.decoder.image_size == 16
    with pytest.raises(InputError, match="the model 'tiny' has no prior"):
        loaded.text_to_image("a cat")


def test_a_second_network_of_an_upsampler_draws_the_last_step_alone(model: Model, tmp_path: Path) -> None:
    """Of 2 steps the second comes from it: with the first network in both places nothing changes, else the end does."""
    stage = model.need_upsampler
    other = tiny_pipeline(seed=1).upsamplers[32].network
    low_res, settings = torch.rand(1, 3, 16, 16) * 2 - 1, stage.defaults.replace(sampler="ddim", num_steps=2)

    def steps(last: Upsampler | None) -> list[torch.Tensor]:
        stage_of_two = replace(stage, last_step_network=last)
        return [step.x_t for step in stage_of_two.steps(low_res, NoiseSource.from_seeds([9]), settings)]

    alone, same, two = steps(None), steps(stage.network), steps(other)
    assert torch.equal(alone[1], same[1])
    assert torch.equal(alone[0], two[0])
    assert not torch.allclose(alone[1], two[1], atol=1e-3)
    alpha, sigma = (f(time_grid(stage.schedule, 2)[1]).float() for f in (stage.schedule.alpha, stage.schedule.sigma))
    eps = other(two[0], torch.zeros(1), low_res, torch.zeros(1))
    torch.testing.assert_close(two[1], ((two[0] - sigma * eps) / alpha).clamp(-1, 1), atol=1e-5, rtol=1e-5)

    stages = {**model.stages, stage.name: replace(stage, last_step_network=other)}
    replace(model, stages=stages).save(tmp_path)
    loaded = UnClip.load(tmp_path, "cpu", torch.float32).need_upsampler.last_step_network
    assert loaded is not None
    assert torch.equal(loaded.unet.conv_in.weight, other.unet.conv_in.weight)
