"""Write our networks as a folder of diffusers' unCLIP pipelines, or say why that is impossible."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from unclip.checkpoint import NetworkWeights, write_tensors
from unclip.clip import ClipConfig, Tokenizer
from unclip.config import Config
from unclip.errors import ConfigError
from unclip.files import atomic_write
from unclip.interop.clip import clip_to_transformers
from unclip.interop.clip_files import PREPARATION
from unclip.interop.rules import to_theirs
from unclip.interop.schedulers import unclip_scheduler
from unclip.interop.sources import Component, tensors_under
from unclip.interop.unclip import (
    CLASSES,
    decoder_config_theirs,
    decoder_constants,
    decoder_names,
    prior_config_theirs,
    prior_names,
    upsampler_config_theirs,
)
from unclip.interop.unets import unet_names
from unclip.models import DecoderConfig, PriorConfig, UpsamplerConfig

_CONFIGS: dict[str, type[Config]] = {
    "clip": ClipConfig,
    "prior": PriorConfig,
    "decoder": DecoderConfig,
    "upsampler": UpsamplerConfig,
}
_CONFIG_WRITERS: dict[type[Config], Callable[[Any], object]] = {
    PriorConfig: prior_config_theirs,
    DecoderConfig: decoder_config_theirs,
    UpsamplerConfig: upsampler_config_theirs,
}
_TRANSFORMERS = ("text_encoder", "image_encoder")
# Where diffusers has the class now; its own "unclip" no longer imports it.
_PROJECTIONS = "diffusers.pipelines.deprecated.unclip.text_proj"


def unclip_obstacles(configs: Mapping[str, Config]) -> list[str]:
    """Return all the reasons why a model of these networks, by stage, is no unCLIP of diffusers; empty if it is one.

    The configs alone are checked; `export_unclip` also checks the weights.
    """
    obstacles = [f"there is no {stage}" for stage in ("clip", "decoder") if stage not in configs]
    clip = configs.get("clip")
    if isinstance(clip, ClipConfig) and "prior" not in configs and not clip.vision_layers:
        obstacles.append("there is no prior, and CLIP has no vision tower for image variations")
    if isinstance(clip, ClipConfig) and clip.stem:
        obstacles.append("CLIP has a convolutional stem, which has no equal in it")
    names = sorted(stage for stage in configs if stage.startswith("upsampler_"))
    if not 1 <= len(names) <= 2 or (len(names) == 2 and names[1] != f"{names[0]}_last"):
        obstacles.append(f"there is one upsampler in it, {' and '.join(names) or 'none'} here")
    for stage, config in configs.items():
        kind = _CONFIGS.get(re.sub(r"_\d+(_last)?$", "", stage))
        if kind is None or not isinstance(config, kind):
            obstacles.append(f"{stage} is a {type(config).__name__}, which has no equal in it")
        elif isinstance(config, DecoderConfig | UpsamplerConfig) and config.in_channels != 3:
            obstacles.append(f"{stage} draws {config.in_channels} channels, and its pipelines 3")
        elif kind in _CONFIG_WRITERS:
            for write in (_CONFIG_WRITERS[kind], lambda config: unclip_scheduler(config, 1.0)):
                try:
                    write(config)
                except ConfigError as error:
                    obstacles.append(f"{stage}: {str(error).partition(': ')[2].removesuffix('.')}")
    return obstacles


def export_unclip(
    stages: Mapping[str, NetworkWeights], tokenizer: Tokenizer | None, bounds: Mapping[str, float], folder: Path
) -> dict[str, str]:
    """Write a folder that diffusers' classes load; return what it cannot hold, with reasons.

    `stages` by our names: clip, prior (without it the folder is for image variations), decoder, and one upsampler with
    or without a second network for the last step. `bounds` are those of x0, by stage. `model_index.json` comes last.
    Raises `ConfigError` with all the reasons before anything is written if a stage has no equal there.
    """
    if obstacles := unclip_obstacles({stage: weights.config for stage, weights in stages.items()}):
        raise ConfigError("; ".join(obstacles))
    clip, decoder = stages["clip"].config, stages["decoder"].config
    assert isinstance(clip, ClipConfig), clip
    assert tokenizer is not None, "CLIP comes without a tokenizer"
    assert isinstance(decoder, DecoderConfig), decoder
    for name, constant in decoder_constants(decoder).items():
        if not torch.equal(stages["decoder"].tensors[name].read().to(constant), constant):
            number = f"{constant[0].item():g}"
            raise ConfigError(f"decoder: {name} is not {number}; diffusers' decoder takes embeddings as they come")
    components, dropped = clip_to_transformers(stages["clip"])
    schedulers: dict[str, Mapping[str, Any]] = {}
    for stage in ("prior", "decoder", *sorted(stage for stage in stages if stage.startswith("upsampler_"))):
        if stage in stages:
            components |= _components(stages[stage], is_last=stage.endswith("_last"))
            kind, config = stage if stage in _CONFIGS else "super_res", stages[stage].config
            assert isinstance(config, PriorConfig | DecoderConfig | UpsamplerConfig), config
            schedulers[f"{kind}_scheduler"] = unclip_scheduler(config, bounds[stage.removesuffix("_last")])
    # Without a network for the last step the first one makes it.
    components.setdefault("super_res_last", components["super_res_first"])

    for name, component in components.items():
        stem = "model" if name in _TRANSFORMERS else "diffusion_pytorch_model"
        write_tensors(folder / name / f"{stem}.safetensors", component.tensors, {"format": "pt"})
        _write_json(folder / name / "config.json", component.config)
    for name, options in schedulers.items():
        _write_json(folder / name / "scheduler_config.json", options)
    _write_tokenizer(tokenizer, clip.context_length, folder / "tokenizer")
    if "image_encoder" in components:
        size, crop = clip.image_size, clip.resize == "crop"
        side = {"height": size, "width": size}
        options = {"size": {"shortest_edge": size} if crop else side, "do_center_crop": crop, "crop_size": side}
        options |= {"image_processor_type": "CLIPImageProcessor", "do_convert_rgb": True} | PREPARATION
        _write_json(folder / "feature_extractor" / "preprocessor_config.json", options)
    _write_json(folder / "model_index.json", _index(components, schedulers))
    return dropped


def _components(weights: NetworkWeights, *, is_last: bool) -> dict[str, Component]:
    """Translate prior, decoder or upsampler (`is_last`: of the last step)."""
    match weights.config:
        case PriorConfig() as config:
            tensors = to_theirs(weights.tensors, prior_names(config), weights.source)
            return {"prior": Component(prior_config_theirs(config), tensors)}
        case DecoderConfig() as config:
            names, constants = decoder_names(config), decoder_constants(config)
            tensors = to_theirs(weights.tensors, names, weights.source, constants=constants)
            options = dict(zip(("decoder", "text_proj"), decoder_config_theirs(config), strict=True))
            return {name: Component(options[name], tensors_under(tensors, name)) for name in options}
        case UpsamplerConfig() as config:
            tensors = to_theirs(weights.tensors, unet_names(config.unet()), weights.source)
            return {f"super_res_{'last' if is_last else 'first'}": Component(upsampler_config_theirs(config), tensors)}
    raise AssertionError(f"{type(weights.config).__name__} is no config of a stage of unCLIP")


def _index(components: Mapping[str, Any], schedulers: Mapping[str, Any]) -> dict[str, Any]:
    kind = "UnCLIPPipeline" if "prior" in components else "UnCLIPImageVariationPipeline"
    index: dict[str, Any] = {"_class_name": kind, "tokenizer": ["transformers", "CLIPTokenizer"]}
    for name in components:
        library = "transformers" if name in _TRANSFORMERS else _PROJECTIONS if name == "text_proj" else "diffusers"
        index[name] = [library, CLASSES[name]]
    index |= {name: ["diffusers", "UnCLIPScheduler"] for name in schedulers}
    if "image_encoder" in components:
        index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    return index


def _write_tokenizer(tokenizer: Tokenizer, context_length: int, folder: Path) -> None:
    vocab, merges = tokenizer.vocab_and_merges()
    _write_json(folder / "vocab.json", vocab)
    atomic_write(folder / "merges.txt", "\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges)]) + "\n")
    tokens = {index: token for token, index in vocab.items()}
    start, end = tokens[tokenizer.start_token], tokens[tokenizer.end_token]
    special = {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": "!"}
    _write_json(folder / "special_tokens_map.json", special)
    options = {"tokenizer_class": "CLIPTokenizer", "model_max_length": context_length, "do_lower_case": True}
    _write_json(folder / "tokenizer_config.json", options | special)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    atomic_write(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
