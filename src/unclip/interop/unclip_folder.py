"""diffusers' unCLIP folders, text-to-image and image-variation, as a foreign model. Knows their layout; no pipeline.

Components are told by their class names: the libraries that `model_index.json` names have moved too often.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from unclip.clip import Tokenizer
from unclip.errors import CheckpointError, ConfigError, did_you_mean
from unclip.interop.clip import clip_from_transformers
from unclip.interop.clip_files import picture_resize
from unclip.interop.foreign import ForeignModel, ForeignNetwork, foreign_network
from unclip.interop.options import one_side
from unclip.interop.schedulers import unclip_diffusion, unclip_sampling
from unclip.interop.sources import Component, PipelineIndex, open_part, read_index, read_json
from unclip.interop.unclip_configs import decoder_config, prior_config, upsampler_config
from unclip.interop.unclip_names import decoder_names, prior_names, upsampler_names
from unclip.models import Decoder, DecoderConfig, Prior, Upsampler

__all__ = ["CLASSES", "PIPELINES", "decoder_constants", "import_unclip"]

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
