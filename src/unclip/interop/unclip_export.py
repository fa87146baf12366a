"""Our models as diffusers' unCLIP folders: the inverse of `unclip_folder`, tensor by tensor. Knows no pipeline."""

import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from unclip.checkpoint import LazyTensor, NetworkWeights, write_tensors
from unclip.clip import ClipConfig, Tokenizer
from unclip.config import Config
from unclip.errors import ConfigError
from unclip.files import atomic_write
from unclip.interop.clip import clip_to_transformers
from unclip.interop.clip_files import PREPARATION
from unclip.interop.rules import to_theirs
from unclip.interop.schedulers import unclip_scheduler
from unclip.interop.sources import Component
from unclip.interop.unclip_configs import (
    decoder_config_theirs,
    prior_config_theirs,
    upsampler_config_theirs,
)
from unclip.interop.unclip_folder import CLASSES, decoder_constants
from unclip.interop.unclip_names import decoder_names, prior_names, upsampler_names
from unclip.models import DecoderConfig, PriorConfig, UpsamplerConfig

__all__ = ["export_unclip", "unclip_obstacles"]

C = TypeVar("C", PriorConfig, DecoderConfig, UpsamplerConfig)

_KINDS: dict[str, type[Config]] = {
    "clip": ClipConfig,
    "prior": PriorConfig,
    "decoder": DecoderConfig,
    "upsampler": UpsamplerConfig,
}
TRANSFORMERS = ("text_encoder", "image_encoder")
# Where diffusers finds the class now; its own "unclip" it no longer does.
PROJECTIONS = "diffusers.pipelines.deprecated.unclip.text_proj"


def unclip_obstacles(configs: Mapping[str, Config]) -> list[str]:
    """Return all the reasons why a model of these networks, by stage, is no unCLIP of diffusers; empty where it is one.

    That is what can be said without weights: `export_unclip` looks at these, too.
    """
    obstacles = [f"there is no {stage}" for stage in ("clip", "decoder") if stage not in configs]
    clip = configs.get("clip")
    if isinstance(clip, ClipConfig) and "prior" not in configs and not clip.vision_layers:
        obstacles.append("there is no prior, and CLIP has no vision tower for image variations")
    names = sorted(stage for stage in configs if stage.startswith("upsampler_"))
    if not 1 <= len(names) <= 2 or (len(names) == 2 and names[1] != f"{names[0]}_last"):
        obstacles.append(f"there is one upsampler in it, {' and '.join(names) or 'none'} here")
    for stage, config in configs.items():
        kind = _KINDS.get(re.sub(r"_\d+(_last)?$", "", stage))
        if kind is None or not isinstance(config, kind):
            obstacles.append(f"{stage} is a {type(config).__name__}, which has no equal in it")
        elif not isinstance(config, ClipConfig):
            obstacles += [f"{stage}: {reason}" for reason in _differences(config)]
    return obstacles


def export_unclip(
    stages: Mapping[str, NetworkWeights], tokenizer: Tokenizer, bounds: Mapping[str, float], folder: Path
) -> dict[str, str]:
    """Write a folder that diffusers' classes load, and return what it cannot hold, with reasons.

    `stages` by our names: clip, prior (without it the folder is for image variations), decoder, and one upsampler with
    or without a second network for the last step. `bounds` are those of x0, by stage. `model_index.json` comes last.
    Raises `ConfigError` with all the reasons before anything is written where a stage has no equal there.
    """
    obstacles = unclip_obstacles({stage: weights.config for stage, weights in stages.items()})
    if not obstacles and (statistics := _lost_statistics(stages["decoder"])):
        obstacles.append(statistics)
    if obstacles:
        raise ConfigError("; ".join(obstacles))
    components, dropped = clip_to_transformers(stages["clip"])
    schedulers = {}
    if "prior" in stages:
        components["prior"], schedulers["prior_scheduler"] = _prior(stages["prior"], bounds["prior"])
    decoder, schedulers["decoder_scheduler"] = _decoder(stages["decoder"], bounds["decoder"])
    components |= decoder
    names = sorted(stage for stage in stages if stage.startswith("upsampler_"))
    for part, name in zip(("super_res_first", "super_res_last"), (names[0], names[-1]), strict=True):
        components[part], schedulers["super_res_scheduler"] = _upsampler(stages[name], bounds[names[0]])

    for name, component in components.items():
        stem = "model" if name in TRANSFORMERS else "diffusion_pytorch_model"
        write_tensors(folder / name / f"{stem}.safetensors", component.tensors, {"format": "pt"})
        _write_json(folder / name / "config.json", component.config)
    for name, options in schedulers.items():
        _write_json(folder / name / "scheduler_config.json", options)
    config = stages["clip"].config
    assert isinstance(config, ClipConfig)
    _write_tokenizer(tokenizer, config.context_length, folder / "tokenizer")
    if "image_encoder" in components:
        _write_json(folder / "feature_extractor" / "preprocessor_config.json", _preprocessor(config))
    _write_json(folder / "model_index.json", _index(components, schedulers))
    return dropped


def _differences(config: Config) -> list[str]:
    """Why one network and its noise schedule have no equal there."""
    makers: list[Callable[[], object]] = []
    match config:
        case PriorConfig():
            makers = [partial(prior_config_theirs, config), partial(unclip_scheduler, config, 1.0, False)]
        case DecoderConfig():
            makers = [partial(decoder_config_theirs, config)]
        case UpsamplerConfig():
            makers = [partial(upsampler_config_theirs, config)]
    if isinstance(config, DecoderConfig | UpsamplerConfig):
        makers.append(partial(unclip_scheduler, config, 1.0, config.learned_variance))
    reasons = []
    for make in makers:
        try:
            make()
        except ConfigError as error:
            reasons.append(str(error).partition(": ")[2].removesuffix("."))
    return reasons


def _lost_statistics(decoder: NetworkWeights) -> str | None:
    """What the decoder normalises embeddings by, where diffusers' has no place for it."""
    assert isinstance(decoder.config, DecoderConfig), decoder.config
    for name, constant in decoder_constants(decoder.config).items():
        if not torch.equal(decoder.tensors[name].read().to(constant), constant):
            return f"decoder: {name} is not {constant[0].item():g}; diffusers' decoder takes embeddings as they come"
    return None


def _prior(weights: NetworkWeights, bound: float) -> tuple[Component, dict[str, Any]]:
    config = _expect(weights, PriorConfig)
    tensors = to_theirs(weights.tensors, prior_names(config), weights.source)
    return Component(prior_config_theirs(config), tensors), unclip_scheduler(config, bound, learned_variance=False)


def _decoder(weights: NetworkWeights, bound: float) -> tuple[dict[str, Component], dict[str, Any]]:
    config = _expect(weights, DecoderConfig)
    constants = decoder_constants(config)
    tensors = to_theirs(weights.tensors, decoder_names(config), weights.source, constants=constants)
    configs = dict(zip(("decoder", "text_proj"), decoder_config_theirs(config), strict=True))
    components = {name: Component(options, _under(name, tensors)) for name, options in configs.items()}
    return components, unclip_scheduler(config, bound, config.learned_variance)


def _upsampler(weights: NetworkWeights, bound: float) -> tuple[Component, dict[str, Any]]:
    config = _expect(weights, UpsamplerConfig)
    tensors = to_theirs(weights.tensors, upsampler_names(config.unet()), weights.source)
    scheduler = unclip_scheduler(config, bound, config.learned_variance)
    return Component(upsampler_config_theirs(config), tensors), scheduler


def _expect(weights: NetworkWeights, kind: type[C]) -> C:
    assert isinstance(weights.config, kind), weights.config
    return weights.config


def _under(prefix: str, tensors: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    start = f"{prefix}."
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


def _index(components: Mapping[str, Any], schedulers: Mapping[str, Any]) -> dict[str, Any]:
    kind = "UnCLIPPipeline" if "prior" in components else "UnCLIPImageVariationPipeline"
    index: dict[str, Any] = {"_class_name": kind, "tokenizer": ["transformers", "CLIPTokenizer"]}
    for name in components:
        library = "transformers" if name in TRANSFORMERS else PROJECTIONS if name == "text_proj" else "diffusers"
        index[name] = [library, CLASSES[name]]
    index |= {name: ["diffusers", "UnCLIPScheduler"] for name in schedulers}
    if "image_encoder" in components:
        index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    return index


def _preprocessor(config: ClipConfig) -> dict[str, Any]:
    size, crop = config.image_size, config.resize == "crop"
    side = {"height": size, "width": size}
    return {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": size} if crop else side,
        "do_center_crop": crop,
        "crop_size": side,
        "do_convert_rgb": True,
        **PREPARATION,
    }


def _write_tokenizer(tokenizer: Tokenizer, context_length: int, folder: Path) -> None:
    vocab, merges = tokenizer.vocab_and_merges()
    _write_json(folder / "vocab.json", vocab)
    atomic_write(folder / "merges.txt", "\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges)]) + "\n")
    start, end = (next(word for word, index in vocab.items() if index == token)
                  for token in (tokenizer.start_token, tokenizer.end_token))  # fmt: skip
    special = {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": "!"}
    _write_json(folder / "special_tokens_map.json", special)
    options = {"tokenizer_class": "CLIPTokenizer", "model_max_length": context_length, "do_lower_case": True}
    _write_json(folder / "tokenizer_config.json", options | special)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    atomic_write(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
