"""Folders of diffusers' unCLIP pipelines: read, and written."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from unclip.checkpoint import LazyTensor, NetworkWeights, write_tensors
from unclip.clip import ClipConfig, Tokenizer
from unclip.config import Config
from unclip.errors import CheckpointError, ConfigError, did_you_mean
from unclip.files import atomic_write
from unclip.interop.clip import clip_from_transformers, clip_to_transformers
from unclip.interop.clip_files import PREPARATION, picture_resize
from unclip.interop.options import one_side
from unclip.interop.rules import ForeignModel, ForeignNetwork, foreign_network, to_theirs
from unclip.interop.schedulers import unclip_diffusion, unclip_sampling, unclip_scheduler
from unclip.interop.sources import Component, PipelineIndex, open_part, read_index, read_json
from unclip.interop.unclip import (
    decoder_config,
    decoder_config_theirs,
    decoder_names,
    prior_config,
    prior_config_theirs,
    prior_names,
    upsampler_config,
    upsampler_config_theirs,
    upsampler_names,
)
from unclip.models import Decoder, DecoderConfig, Prior, PriorConfig, Upsampler, UpsamplerConfig

# With the part that makes image embeddings.
PIPELINES = {"UnCLIPPipeline": "prior", "UnCLIPImageVariationPipeline": "image_encoder"}
CLASSES = {
    "prior": "PriorTransformer",
    "decoder": "UNet2DConditionModel",
    "text_proj": "UnCLIPTextProjModel",
    "text_encoder": "CLIPTextModelWithProjection",
    "image_encoder": "CLIPVisionModelWithProjection",
    "super_res_first": "UNet2DModel",
    "super_res_last": "UNet2DModel",
}
SCHEDULERS = dict.fromkeys(("prior_scheduler", "decoder_scheduler", "super_res_scheduler"), "UnCLIPScheduler")
NEEDED = ("text_encoder", "text_proj", "decoder", "decoder_scheduler", "tokenizer")
# By part, what it needs beside it.
COMPANIONS = {
    "prior": "prior_scheduler",
    "super_res_first": "super_res_scheduler",
    "super_res_last": "super_res_first",
}


def import_unclip(folder: Path, index: Mapping[str, Any]) -> ForeignModel:
    """The model in a folder whose `model_index.json` holds `index`; no weights are read.

    Raises `CheckpointError` for files that are missing or damaged and tensors that do not fit, `ConfigError` for
    components and options that we have no equal of.
    """
    found = read_index(folder, index)
    names = _component_names(folder, found)
    parts = {name: open_part(folder / name) for name in names if name in CLASSES}
    schedulers = {
        name.removesuffix("_scheduler"): read_json(folder / name / "scheduler_config.json")
        for name in names
        if name in SCHEDULERS
    }
    source = str(folder)
    size = parts["image_encoder"].config.get("image_size", 224) if "image_encoder" in parts else None
    resize = picture_resize(folder / "feature_extractor", one_side(source, "image_size", size))
    clip = clip_from_transformers(parts["text_encoder"], parts.get("image_encoder"), source, resize=resize)
    networks, sampling = {"clip": clip}, {}
    if "prior" in parts:
        networks["prior"] = _prior(parts["prior"], schedulers["prior"], f"{source}/prior")
        sampling["prior"] = unclip_sampling(schedulers["prior"], "prior")
    networks["decoder"] = _decoder(parts, schedulers["decoder"], source)
    sampling["decoder"] = unclip_sampling(schedulers["decoder"], "decoder")
    if "super_res_first" in parts:
        upsamplers = _upsamplers(parts, schedulers["super_res"], source)
        networks |= upsamplers
        sampling[next(iter(upsamplers))] = unclip_sampling(schedulers["super_res"], "super_res")
    tokenizers = {"clip": Tokenizer.from_folder(folder / "tokenizer")}
    return ForeignModel.of(f"a diffusers unCLIP folder ({found.kind})", networks, tokenizers, sampling, found.dropped)


def decoder_constants(config: DecoderConfig) -> dict[str, torch.Tensor]:
    """The statistics that our decoder has and theirs has not: it takes embeddings as they come."""
    dim = config.embedding_dim
    return {"embedding_mean": torch.zeros(dim), "embedding_std": torch.ones(dim)}


def _component_names(folder: Path, index: PipelineIndex) -> list[str]:
    """Components that are there by the index, each of a class that is known; those that are null are left out."""
    found = index.components
    kinds: dict[str, str | None] = {**CLASSES, **SCHEDULERS, "tokenizer": "CLIPTokenizer", "feature_extractor": None}
    for name, kind in found.items():
        kind = kind.removesuffix("Fast") if name == "tokenizer" else kind
        if name not in kinds:
            raise ConfigError(f"{folder}: component {name} is unknown; {did_you_mean(name, kinds)}")
        if kind != (allowed := kinds[name] or kind):
            raise ConfigError(f"{folder}: {name} is a {kind}; only {allowed} is read there.")
    wanted = [*NEEDED, PIPELINES[index.kind], *(COMPANIONS[name] for name in found if name in COMPANIONS)]
    if missing := [name for name in wanted if name not in found]:
        raise CheckpointError(f"{folder}/model_index.json names no {' and no '.join(missing)}; fetch the whole folder.")
    for name in found:
        if not (folder / name).is_dir():
            raise CheckpointError(f"{folder / name} is missing, which model_index.json names; fetch the whole folder.")
    return list(found)


@contextmanager
def _place(part: str) -> Iterator[None]:
    """Errors about a configuration say of which part."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{part}: {error}") from None


def _prior(part: Component, scheduler: Mapping[str, Any], source: str) -> ForeignNetwork:
    with _place(source):
        config = prior_config(part.config).replace(**unclip_diffusion(scheduler, learned_variance=False))
    return foreign_network(Prior, config, part.tensors, prior_names(config), source)


def _decoder(parts: Mapping[str, Component], scheduler: Mapping[str, Any], source: str) -> ForeignNetwork:
    with _place(f"{source}/decoder"):
        config = decoder_config(parts["decoder"].config, parts["text_proj"].config)
        config = config.replace(**unclip_diffusion(scheduler, config.learned_variance))
    tensors = {
        f"{name}.{key}": value for name in ("decoder", "text_proj") for key, value in parts[name].tensors.items()
    }
    constants = decoder_constants(config)
    return foreign_network(Decoder, config, tensors, decoder_names(config), source, constants=constants)


def _upsamplers(parts: Mapping[str, Component], scheduler: Mapping[str, Any], source: str) -> dict[str, ForeignNetwork]:
    """The first network, and that of the last step if there is one, by the names of their stages."""
    networks: dict[str, ForeignNetwork] = {}
    sizes: set[int] = set()
    for suffix, name in (("", "super_res_first"), ("_last", "super_res_last")):
        if name not in parts:
            continue
        with _place(f"{source}/{name}"):
            config = upsampler_config(parts[name].config, parts["decoder"].config["sample_size"])
            config = config.replace(**unclip_diffusion(scheduler, config.learned_variance))
        names, sizes = upsampler_names(config.unet()), sizes | {config.image_size}
        networks[f"upsampler_{config.image_size}{suffix}"] = foreign_network(
            Upsampler, config, parts[name].tensors, names, f"{source}/{name}"
        )
    if len(sizes) > 1:
        raise ConfigError(f"{source}: super_res_last draws other sizes than super_res_first; give two of one size.")
    return networks


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
        components["prior"], schedulers["prior_scheduler"] = _export_prior(stages["prior"], bounds["prior"])
    decoder, schedulers["decoder_scheduler"] = _export_decoder(stages["decoder"], bounds["decoder"])
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


def _export_prior(weights: NetworkWeights, bound: float) -> tuple[Component, dict[str, Any]]:
    config = _expect(weights, PriorConfig)
    tensors = to_theirs(weights.tensors, prior_names(config), weights.source)
    return Component(prior_config_theirs(config), tensors), unclip_scheduler(config, bound, learned_variance=False)


def _export_decoder(weights: NetworkWeights, bound: float) -> tuple[dict[str, Component], dict[str, Any]]:
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
