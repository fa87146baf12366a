"""diffusers' unCLIP folders that are damaged, contradict themselves or are of another kind: one line, and why."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import PriorTransformer
from torch import Tensor

from networks import read
from unclip.errors import CheckpointError, ConfigError, UnclipError
from unclip.interop.sources import read_json
from unclip_pipelines import change_json, change_tensors, imported

INDEX, WEIGHTS = "model_index.json", "diffusion_pytorch_model.safetensors"
Damage = Callable[[Path], object]


def options(file: str, **change: Any) -> Damage:
    return lambda folder: change_json(folder / file, change)


def tensors(part: str, change: Callable[[dict[str, Tensor]], object]) -> Damage:
    return lambda folder: change_tensors(folder / part / WEIGHTS, change)


def truncate(folder: Path) -> None:
    path = folder / "prior" / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_bit(folder: Path) -> None:
    path = folder / "prior" / WEIGHTS
    content = bytearray(path.read_bytes())
    content[content.index(b"proj_in")] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, tuple[Damage, type[UnclipError], str]] = {
    "truncated": (truncate, CheckpointError, r"prior/diffusion_pytorch_model\.safetensors .*fetch it again"),
    "flipped bit": (flip_a_bit, CheckpointError, "prior: tensor 'proj_in.*' is missing; the configuration asks for it"),
    "no weights": (lambda folder: (folder / "decoder" / WEIGHTS).unlink(), CheckpointError, "decoder holds no weights"),
    "no part": (
        lambda folder: shutil.rmtree(folder / "prior"),
        CheckpointError,
        "prior is missing, which model_index.json names; fetch the whole folder",
    ),
    "no entries": (
        options(INDEX, decoder=..., text_proj=[None, None]),
        CheckpointError,
        "model_index.json names no text_proj and no decoder; fetch the whole folder",
    ),
    "no prior": (options(INDEX, prior=[None, None]), CheckpointError, "names no prior"),
    "no scheduler": (options(INDEX, prior_scheduler=...), CheckpointError, "names no prior_scheduler"),
    "no first upsampler": (options(INDEX, super_res_first=...), CheckpointError, "names no super_res_first"),
    "half an entry": (
        options(INDEX, decoder=["diffusers"]),
        CheckpointError,
        r"is \['diffusers'\], no pair of library",
    ),
    "key too many": (
        tensors("super_res_last", lambda found: found.update(extra=torch.ones(1))),
        CheckpointError,
        "super_res_last: tensor 'extra' is left over: by the configuration there is no such weight",
    ),
    "key missing": (
        tensors("text_proj", lambda found: found.pop("embedding_proj.bias")),
        CheckpointError,
        "tensor 'text_proj.embedding_proj.bias' is missing; the configuration asks for it",
    ),
    "wrong shape": (
        tensors("decoder", lambda found: found.update({"conv_out.bias": torch.ones(7)})),
        CheckpointError,
        r"tensor 'decoder.conv_out.bias' has shape \(7,\), which does not make the \(6,\) of the configuration",
    ),
    "more layers": (
        options("decoder/config.json", layers_per_block=2),
        CheckpointError,
        "tensor 'decoder.*' is missing; the configuration asks for it",
    ),
    "fewer layers": (
        options("prior/config.json", num_layers=1),
        CheckpointError,
        "transformer_blocks.1.* is left over",
    ),
    "wider text": (
        options("prior/config.json", num_embeddings=20),
        CheckpointError,
        "positional_embedding.* has shape",
    ),
    "projections that differ": (
        options("text_proj/config.json", cross_attention_dim=41),
        ConfigError,
        "decoder: UnCLIPTextProjModel: cross_attention_dim=41 is not supported; only 40 is",
    ),
    "upsamplers that differ": (
        options("super_res_last/config.json", sample_size=32),
        ConfigError,
        "super_res_last draws other sizes than super_res_first",
    ),
    "another class": (
        options(INDEX, decoder=["diffusers", "UNet2DModel"]),
        ConfigError,
        "decoder is a UNet2DModel; only UNet2DConditionModel is read there",
    ),
    "another scheduler": (
        options(INDEX, decoder_scheduler=["diffusers", "DDIMScheduler"]),
        ConfigError,
        "decoder_scheduler is a DDIMScheduler; only UnCLIPScheduler is read there",
    ),
    "unknown part": (
        options(INDEX, safety_checker=["diffusers", "SafetyChecker"]),
        ConfigError,
        "component safety_checker is unknown; .*allowed: decoder, ",
    ),
    "unknown option": (
        options("super_res_first/config.json", act_fns="silu"),
        ConfigError,
        "super_res_first: UNet2DModel: option act_fns='silu' is unknown; did you mean 'act_fn'",
    ),
    "option that we have not": (
        options("decoder/config.json", act_fn="gelu"),
        ConfigError,
        "decoder: UNet2DConditionModel: act_fn='gelu' is not supported; only 'silu' is",
    ),
    "fixed variance": (
        options("decoder_scheduler/scheduler_config.json", variance_type="fixed_small_log"),
        ConfigError,
        "decoder: UnCLIPScheduler: variance_type='fixed_small_log' is not supported; only 'learned_range' is",
    ),
    "learned variance": (
        options("super_res_scheduler/scheduler_config.json", variance_type="learned_range"),
        ConfigError,
        "super_res_first: UnCLIPScheduler: variance_type='learned_range' is not supported",
    ),
    "v prediction": (
        options("prior_scheduler/scheduler_config.json", prediction_type="v_prediction"),
        ConfigError,
        "prior: UnCLIPScheduler: prediction_type='v_prediction' is not supported",
    ),
    "no JSON": (lambda folder: (folder / "prior" / "config.json").write_text("{"), CheckpointError, "is not JSON"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_said_in_one_line(folder: Path, damage: str) -> None:
    break_it, kind, said = DAMAGES[damage]
    break_it(folder)
    with pytest.raises(kind, match=said) as caught:
        imported(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_a_missing_shard_is_named(folder: Path) -> None:
    part = folder / "prior"
    (part / WEIGHTS).rename(part / "whole.safetensors")
    network = PriorTransformer.from_config(read_json(part / "config.json"))
    network.save_pretrained(part, max_shard_size="20KB")
    lost = sorted(part.glob("*-of-*"))[1]
    lost.unlink()
    with pytest.raises(CheckpointError, match=f"{lost} is missing, a shard that .*index.json names; fetch it"):
        imported(folder)


def test_numbers_that_are_none_are_found_when_they_are_read(folder: Path) -> None:
    change_tensors(folder / "prior" / WEIGHTS, lambda found: found["proj_in.weight"][0, 0].fill_(torch.nan))
    model = imported(folder)
    with pytest.raises(CheckpointError, match=r"prior/.*tensor 'proj_in\.weight' holds NaN or infinity"):
        read(model.stages["prior"].tensors)


PREPARATIONS = {
    "crop_size": ({"crop_size": {"height": 14, "width": 14}}, r"pictures of \[14, 16\] pixels are not supported"),
    "mean": ({"image_mean": [0.5, 0.5, 0.5]}, r"image_mean=\[0.5, 0.5, 0.5\] is not supported"),
    "nearest": ({"resample": 0}, "resample=0 is not supported; only 3 is"),
}


@pytest.mark.parametrize("name", PREPARATIONS)
def test_other_preparations_of_pictures_are_refused(sources: dict[str, Path], tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(sources["variation"], tmp_path / "source"))
    change, said = PREPARATIONS[name]
    change_json(folder / "feature_extractor" / "preprocessor_config.json", change)
    with pytest.raises(ConfigError, match=said):
        imported(folder)
