"""Checkpoints of DALLE2-pytorch, nested as its trainers nest them, become stages that draw as it does."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from dalle2_golden import CASES, changed, group
from foreign_files import clip_folder
from networks import close, lazy, read, same
from packaging.version import Version
from PIL import Image
from torch import Tensor

from unclip.checkpoint import LazyTensor
from unclip.clip import TextFeatures
from unclip.errors import CheckpointError, ConfigError, InputError, UnclipError
from unclip.interop.clip_files import import_clip
from unclip.interop.dalle2_files import decoder_from_checkpoint, import_dalle2, prior_from_checkpoint
from unclip.model.opening import join_foreign
from unclip.pipelines import Condition, Model
from unclip.pipelines.tasks.text_to_image import text_to_image
from unclip.pipelines.tasks.variations import image_variations

OTHER = {"optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}, "step": torch.ones(1), "epoch": 3}


def other(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights that must not be taken."""
    return {name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def network_of(state: dict[str, Tensor], start: str) -> dict[str, Tensor]:
    return {name.removeprefix(start): tensor for name, tensor in state.items() if name.startswith(start)}


@pytest.mark.parametrize("case", ["prior", "prior_v1.1"])
@pytest.mark.parametrize("nesting", ["trainer", "tracker", "bare"])
def test_priors_in_every_nesting(case: str, nesting: str, tmp_path: Path) -> None:
    state, config = group(case, "weights"), CASES[case]["config"]
    version = Version(CASES[case]["version"])
    averaging = {"initted": torch.tensor(True), "online_model": other(state), "ema_model": state}
    files: dict[str, dict[str, Any]] = {
        "trainer": {"model": other(state), "version": version, "ema": averaging, "ema_model": state, **OTHER},
        "tracker": {"version": version, "config": config, "model": state},
        "bare": state,
    }
    torch.save(files[nesting], tmp_path / "best.pth")
    if nesting != "tracker":
        (tmp_path / "prior_config.json").write_text(json.dumps(config))
    found = import_dalle2(tmp_path / "best.pth")
    expected = prior_from_checkpoint(lazy(state), config)
    weights = found.stages["prior"]
    assert (weights.network, weights.config) == ("Dalle2Prior", expected.weights.config)
    same(read(weights.tensors), read(expected.weights.tensors))
    beside = {"model", "ema", "optimizer", "step"} if nesting == "trainer" else set()
    reasons = expected.dropped.keys() | beside
    assert found.dropped.keys() == {f"prior: {name}" for name in reasons}
    assert found.sampling == {"prior": {"num_steps": 64, "guidance_scale": 1.0, "sampler": "ddpm"}}


@pytest.mark.parametrize("case", ["decoder", "decoder_v1.1"])
@pytest.mark.parametrize("nesting", ["trainer", "tracker", "bare"])
def test_decoders_in_every_nesting(case: str, nesting: str, tmp_path: Path) -> None:
    state, config = group(case, "weights"), changed(case, "decoder", sample_timesteps=[25, 20])
    ema = {"0.initted": torch.tensor(True), "0.step": torch.tensor(3)}
    ema |= {f"0.ema_model.{name}": tensor for name, tensor in network_of(state, "unets.0.").items()}
    version = CASES[case]["version"]
    files: dict[str, dict[str, Any]] = {
        "trainer": {"model": other(state), "version": version, "ema": ema, "config": config, "steps": torch.ones(1)},
        "tracker": {"version": version, "config": config, "model": state},
        "bare": state,
    }
    torch.save(files[nesting], tmp_path / "latest.pth")
    if nesting == "bare":
        (tmp_path / "latest.json").write_text(json.dumps(config))
    found = import_dalle2(tmp_path / "latest.pth")
    expected = decoder_from_checkpoint(lazy(state), config)
    assert found.stages["decoder"].config == expected.weights.config
    same(read(found.stages["decoder"].tensors), read(expected.weights.tensors))
    assert found.sampling == {"decoder": {"num_steps": 25, "guidance_scale": 1.7, "sampler": "ddim"}}


def save(folder: Path, case: str, **unet: Any) -> Path:
    """A golden network in a file with its config; `unet` changes options of the first U-Net, and its inputs' widths."""
    weights, config = group(case, "weights"), CASES[case]["config"]
    if unet:
        config = changed(case, "decoder.unets.0", **unet)
        widths = {"image_to_tokens.0": "image_embed_dim", "to_image_hiddens.0": "image_embed_dim"}
        for name, option in (widths | {"text_to_cond": "text_embed_dim"}).items():
            key = f"unets.0.{name}.weight"
            weights[key] = torch.randn(len(weights[key]), unet[option])
    torch.save({"model": weights, "config": config, "version": CASES[case]["version"]}, folder / f"{case}.pth")
    return folder / f"{case}.pth"


def stages(*files: Path) -> Model:
    return Model.from_source(join_foreign("dalle2", [import_dalle2(file) for file in files]), "cpu", torch.float32)


def features(inputs: dict[str, Tensor]) -> TextFeatures:
    """What CLIP would say of a text: its embedding is not a unit vector."""
    embedding = 3 * inputs.get("text_embedding", torch.ones(2, 1))
    return TextFeatures(embedding, inputs["text_hidden"], inputs["text_mask"])


@torch.no_grad()
@pytest.mark.parametrize("case", ["prior", "prior_continuous"])
def test_a_prior_is_guided_as_by_hand(case: str, tmp_path: Path) -> None:
    stage, inputs, outputs = stages(save(tmp_path, case)).need_prior, group(case, "inputs"), group(case, "outputs")
    text, t = features(inputs), stage.schedule.time(inputs["timestep"].long())
    denoiser = stage.denoiser(text, text, stage.defaults.replace(guidance_scale=2.5))
    close(denoiser(inputs["x_t"], t).x0, outputs["absent"] + 2.5 * (outputs["present"] - outputs["absent"]))
    unguided = stage.denoiser(text, text, stage.defaults)
    close(unguided(inputs["x_t"], t).x0, outputs["present"])


@torch.no_grad()
@pytest.mark.parametrize("case", ["decoder", "decoder_v1.1"])
def test_a_decoder_is_guided_as_by_hand(case: str, tmp_path: Path) -> None:
    stage, inputs = stages(save(tmp_path, case)).need_decoder, group(case, "inputs.0")
    outputs, x_t, t = group(case, "outputs.0"), inputs["x_t"], stage.schedule.time(inputs["timestep"].long())
    condition = Condition(features(inputs), features(inputs))
    prediction = stage.denoiser(inputs["image_embedding"], condition, stage.defaults)(x_t, t)
    present, absent = outputs["present"], outputs["absent"]
    eps = absent[:, :3] + 1.7 * (present[:, :3] - absent[:, :3])
    alpha, sigma = (value.float().view(2, 1, 1, 1) for value in (stage.schedule.alpha(t), stage.schedule.sigma(t)))
    close(prediction.x0, ((x_t - sigma * eps) / alpha).clamp(-1.0, 1.0))
    assert prediction.variance_fraction is not None
    close(prediction.variance_fraction, (present[:, 3:] + 1) / 2)


@pytest.mark.parametrize("version", ["", "_v1.1"])
def test_it_draws_texts_and_pictures(version: str, tmp_path: Path) -> None:
    clip_folder(tmp_path)
    decoder = save(tmp_path, f"decoder{version}", image_embed_dim=24, text_embed_dim=24)
    files = import_dalle2(save(tmp_path, f"prior{version}")), import_dalle2(decoder)
    model = Model.from_source(join_foreign("dalle2", [import_clip(tmp_path), *files]), "cpu", torch.float32)
    drawn = text_to_image(model, ["a red apple", "a cat"], seed=1, num_steps=3, output_type="pt").images
    given = [Image.new("RGB", (30, 20), color) for color in ("red", "blue")]
    varied = image_variations(model, given, seed=1, num_steps=3, output_type="pt")
    torch.testing.assert_close(varied.image_embeddings.norm(dim=1), torch.ones(2))
    assert [tuple(image.shape) for image in drawn + varied.images] == [(3, 8, 8)] * 4
    for first, second in (drawn, varied.images):
        assert (first - second).abs().max() > 0.01
    if version:
        with pytest.raises(InputError, match=r"^this prior never saw a text left out .*; give it guidance_scale=1\.$"):
            text_to_image(model, "a cat", num_steps=2, guidance_scale={"prior": 2.0})


def test_what_cannot_be_told_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other\.pth holds no prior and no decoder of DALLE2-pytorch; its first"):
        import_dalle2(tmp_path / "other.pth")
    torch.save(group("prior", "weights"), tmp_path / "prior.pth")
    with pytest.raises(CheckpointError, match=r"does not hold its shape; put .* beside it: prior_config\.json\.$"):
        import_dalle2(tmp_path / "prior.pth")
    for config, error in (
        (changed("prior", "prior.net", depth=1), CheckpointError),
        (changed("prior", "prior", init_image_embed_l2norm=True), ConfigError),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(error, match=r"prior\.pth: .* is (left over|not supported)") as refused:
            import_dalle2(tmp_path / "prior.pth")
        assert isinstance(refused.value, UnclipError)
        assert "\n" not in str(refused.value)


def test_only_tables_are_read(tmp_path: Path) -> None:
    read_names: list[str] = []

    def watched(name: str, value: LazyTensor) -> LazyTensor:
        return LazyTensor(value.shape, value.dtype, lambda: read_names.append(name) or value.read())

    for case, translate in (("prior", prior_from_checkpoint), ("decoder", decoder_from_checkpoint)):
        state = lazy(group(case, "weights"))
        translate({name: watched(name, value) for name, value in state.items()}, CASES[case]["config"])
    assert {name.split(".")[-1] for name in read_names} == {"freqs", "alphas_cumprod"}
