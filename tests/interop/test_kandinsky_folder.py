"""Folders of Kandinsky hold the networks that diffusers saved, and our stages draw what its networks draw."""

import json
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import diffusers
import pytest
import torch
from foreign_files import AUTOENCODER, DECODER_WITH_TEXT, Kandinsky, kandinsky, kandinsky_original, openai_clip
from networks import close, read, same
from PIL import Image
from torch import Tensor, nn

from unclip.clip import clip_preset
from unclip.errors import CheckpointError, ConfigError
from unclip.interop import ForeignModel
from unclip.interop.kandinsky import (
    PIPELINES,
    import_kandinsky,
    import_kandinsky_original,
    kandinsky_names,
    multilingual_names,
)
from unclip.interop.movq import movq_names
from unclip.interop.rules import to_theirs
from unclip.interop.unclip import prior_names
from unclip.model.opening import join_foreign
from unclip.pipelines import Condition, Model
from unclip.pipelines.features import encode
from unclip.pipelines.tasks.text_to_image import text_to_image
from unclip.pipelines.tasks.variations import image_variations
from unclip.runtime import forked_random_state

PROMPTS = ["a red apple", "a cat"]
NAMES = {
    "prior": prior_names,
    "decoder": kandinsky_names,
    "autoencoder": movq_names,
    "text_encoder": multilingual_names,
}


class Released(NamedTuple):
    """Pipelines of one version, and their two folders."""

    version: str
    pipelines: Kandinsky
    folders: tuple[Path, Path]


@pytest.fixture(scope="module", params=["2.1", "2.2"])
def released(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Released:
    folder = tmp_path_factory.mktemp("kandinsky")
    with forked_random_state(0):
        pipelines = kandinsky(folder, request.param)
    return Released(request.param, pipelines, pipelines.save(folder))


def imported(folder: Path) -> ForeignModel:
    return import_kandinsky(folder, json.loads((folder / "model_index.json").read_text()))


@pytest.fixture(scope="module")
def model(released: Released) -> Model:
    source = join_foreign("kandinsky", [imported(folder) for folder in released.folders])
    return Model.from_source(source, "cpu", torch.float32)


def networks(pipelines: Kandinsky) -> dict[str, nn.Module]:
    found = {
        "prior": pipelines.prior.prior,
        "decoder": pipelines.decoder.unet,
        "autoencoder": pipelines.decoder.movq,
    }
    text = getattr(pipelines.decoder, "text_encoder", None)
    return found | ({"text_encoder": text} if text else {})


def same_networks(found: ForeignModel, expected: dict[str, nn.Module]) -> None:
    for stage, network in expected.items():
        weights = found.stages[stage]
        state = {name: value for name, value in network.state_dict().items() if "pooler" not in name}
        same(read(to_theirs(weights.tensors, NAMES[stage](weights.config), "")), state)


def test_every_tensor_is_that_of_diffusers(released: Released) -> None:
    prior, decoder = map(imported, released.folders)
    expected = networks(released.pipelines)
    same_networks(prior, {"prior": expected.pop("prior")})
    same_networks(decoder, expected)
    assert prior.stages.keys() == {"clip", "prior"}
    assert decoder.stages.keys() == expected.keys()
    assert (prior.tokenizers.keys(), decoder.tokenizers.keys()) == ({"clip"}, expected.keys() & {"text_encoder"})
    ours = {
        "2.1": "thresholding (dynamic_thresholding_ratio=0.995)",
        "2.2": "variance_type='fixed_small'",
    }[released.version]
    unused = {"autoencoder: scaling_factor", "decoder: timestep_spacing='leading'", f"decoder: {ours}"}
    assert {name for name in decoder.dropped if "pooler" not in name} == unused
    assert prior.dropped == {}


def test_sampling_is_what_the_schedulers_say(released: Released) -> None:
    prior, decoder = map(imported, released.folders)
    common = {"num_steps": 25, "guidance_scale": 4.0, "sampler": "ddpm", "x0_bound": 10.0}
    assert prior.sampling == {"prior": common | {"schedule_dtype": "float32"}}
    sampler = {"2.1": "ddim", "2.2": "ddpm"}[released.version]
    assert decoder.sampling == {"decoder": common | {"num_steps": 50, "sampler": sampler, "x0_bound": 2.0}}
    config = prior.stages["prior"].config.model_dump()
    assert (config["prediction_type"], config["schedule"]) == ("x0", "cosine")


def test_it_draws_texts_and_pictures(model: Model) -> None:
    drawn = text_to_image(model, PROMPTS, seed=1, num_steps=2, output_type="pt").images
    varied = image_variations(model, Image.new("RGB", (30, 20), "red"), 2, seed=1, num_steps=2, output_type="pt").images
    assert [tuple(image.shape) for image in drawn + varied] == [(3, 16, 16)] * 4
    for first, second in (drawn, varied):
        assert first.std() > 0.05
        assert (first - second).abs().max() > 0.01


def conditions(released: Released, z: Tensor) -> dict[str, Tensor]:
    """What diffusers' decoder is told in one batch, the unguided half first."""
    encoder = released.pipelines.prior.image_encoder
    size = encoder.config.image_size
    null = encoder(torch.zeros(1, 3, size, size)).image_embeds
    return {"image_embeds": torch.cat([null.expand(2, -1), z])}


def texts_of(released: Released) -> tuple[Tensor, Tensor]:
    """Embedding and hidden states of 2.1's text encoder, as its pipeline makes them."""
    pipeline = released.pipelines.decoder
    tokens = pipeline.tokenizer(
        ["", "", *PROMPTS], padding="max_length", max_length=77, truncation=True, return_tensors="pt"
    )
    return pipeline.text_encoder(tokens.input_ids, tokens.attention_mask)


@torch.no_grad()
def test_the_decoder_is_guided_as_by_hand(released: Released, model: Model) -> None:
    stage = model.need_decoder
    z, x_t, t = torch.randn(2, 24), torch.randn(2, 4, 8, 8), torch.tensor(0.6, dtype=torch.float64)
    told = encode(model, PROMPTS).condition
    prediction = stage.denoiser(z, told, stage.defaults.replace(guidance_scale=3.0))(x_t, t)

    conditioning, hidden = conditions(released, z), None
    if released.version == "2.1":
        conditioning["text_embeds"], hidden = texts_of(released)
    timestep = stage.schedule.timestep(t).expand(4)
    output = released.pipelines.decoder.unet(
        torch.cat([x_t, x_t]), timestep, hidden, added_cond_kwargs=conditioning
    ).sample
    unguided, guided = output[:, :4].chunk(2)
    alpha, sigma = stage.schedule.alpha(t).float(), stage.schedule.sigma(t).float()
    x0 = (x_t - sigma * (unguided + 3.0 * (guided - unguided))) / alpha
    assert 0.01 < (x0.abs() > 2).float().mean() < 0.9
    # Guidance and the division by alpha enlarge what the networks differ in.
    torch.testing.assert_close(prediction.x0, x0.clamp(-2.0, 2.0), rtol=1e-4, atol=1e-4)
    assert prediction.variance_fraction is not None
    close(prediction.variance_fraction, (output[2:, 4:] + 1) / 2)


@torch.no_grad()
def test_nothing_and_latents_are_what_they_are_to_diffusers(released: Released, model: Model) -> None:
    condition: Condition = encode(model, [""]).condition
    assert condition.null_image is not None
    close(condition.null_image, conditions(released, torch.zeros(2, 24))["image_embeds"][:1])
    latents = torch.randn(2, 4, 8, 8)
    expected = released.pipelines.decoder.movq.decode(latents, force_not_quantize=True).sample
    close(model.need_decoder.finish(latents), expected.clamp(-1.0, 1.0))


def test_a_combined_folder_is_both(released: Released, tmp_path: Path) -> None:
    parts = {f"prior_{name}": part for name, part in released.pipelines.prior.components.items()}
    kind = {"2.1": diffusers.KandinskyCombinedPipeline, "2.2": diffusers.KandinskyV22CombinedPipeline}[released.version]
    kind(**parts, **released.pipelines.decoder.components).save_pretrained(tmp_path)
    whole, halves = imported(tmp_path), [imported(folder) for folder in released.folders]
    same_networks(whole, networks(released.pipelines))
    assert whole.sampling == {**halves[0].sampling, **halves[1].sampling}
    assert whole.tokenizers.keys() == halves[0].tokenizers.keys() | halves[1].tokenizers.keys()
    assert whole.stages["clip"].config == halves[0].stages["clip"].config


def test_the_original_files_hold_the_same(tmp_path: Path) -> None:
    pipelines = kandinsky(tmp_path, "2.1")
    shapes = {"decoder": DECODER_WITH_TEXT, "autoencoder": AUTOENCODER}
    shapes["prior"] = imported(pipelines.save(tmp_path)[0]).stages["prior"].config
    found = import_kandinsky_original(kandinsky_original(pipelines, tmp_path), **shapes)
    same_networks(found, networks(pipelines))
    assert found.sampling["decoder"] == {"num_steps": 50, "guidance_scale": 4.0, "sampler": "ddpm", "x0_bound": 2.0}
    assert found.tokenizers.keys() == {"text_encoder"}
    config = clip_preset("tiny").replace(vision_width=64, vision_heads=1, text_heads=1, vocab_size=49408)
    openai_clip(config, tmp_path / "ViT-L-14.pt")
    (tmp_path / "prior_fp16.ckpt").unlink()
    found = import_kandinsky_original(tmp_path, **shapes)
    assert found.stages["clip"].config == config.replace(resize="crop")
    assert found.stages.keys() == {"clip", "decoder", "autoencoder", "text_encoder"}
    (tmp_path / "movq_final.ckpt").unlink()
    with pytest.raises(CheckpointError, match=r"movq_final\.ckpt cannot be read \(No such file"):
        import_kandinsky_original(tmp_path, **shapes)


def test_what_is_no_kandinsky_is_refused(released: Released, tmp_path: Path) -> None:
    prior, decoder = released.folders
    index = json.loads((decoder / "model_index.json").read_text())
    with pytest.raises(ConfigError, match=r": movq is a AutoencoderKL; only VQModel is read there\.$"):
        import_kandinsky(decoder, index | {"movq": ["diffusers", "AutoencoderKL"]})
    with pytest.raises(CheckpointError, match=r"model_index\.json names no movq; fetch the whole folder\.$"):
        import_kandinsky(decoder, index | {"movq": [None, None]})
    with pytest.raises(CheckpointError, match=r"model_index\.json names no prior; fetch"):
        import_kandinsky(prior, {"_class_name": "KandinskyPriorPipeline"})
    theirs = {name for name in dir(diffusers) if re.fullmatch(r"Kandinsky(V22)?[A-Za-z]*Pipeline", name)}
    assert theirs - set(PIPELINES) == set()


def test_other_decoders_of_kandinsky_are_refused(released: Released, tmp_path: Path) -> None:
    path = shutil.copytree(released.folders[1], tmp_path / "inpainting") / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"in_channels": 9}))
    with pytest.raises(ConfigError, match=r"^this is Kandinsky's inpainting decoder"):
        imported(tmp_path / "inpainting")
