"""diffusers' unCLIP folders, text-to-image and image-variation, as a foreign model. Knows their layout; no pipeline.

Components are told by their class names: the libraries that `model_index.json` names have moved too often.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from unclip.checkpoint import NetworkWeights
from unclip.clip import Tokenizer
from unclip.errors import CheckpointError, ConfigError, did_you_mean
from unclip.interop.clip import Component, clip_from_transformers
from unclip.interop.clip_files import picture_resize
from unclip.interop.foreign import ForeignModel
from unclip.interop.rules import to_ours
from unclip.interop.schedulers import unclip_diffusion, unclip_sampling
from unclip.interop.sources import open_component, read_json
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
STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")

Imported = tuple[NetworkWeights, dict[str, str]]


def import_unclip(folder: Path, index: Mapping[str, Any]) -> ForeignModel:
    """The model in a folder whose `model_index.json` holds `index`; no weights are read.

    Raises `CheckpointError` for files that are missing or damaged and tensors that do not fit, `ConfigError` for
    components and options that we have no equal of.
    """
    names = _component_names(folder, index)
    parts = {name: Component(read_json(folder / name / "config.json"), open_component(folder / name, STEMS))
             for name in names if name in CLASSES}  # fmt: skip
    schedulers = {
        name.removesuffix("_scheduler"): read_json(folder / name / "scheduler_config.json")
        for name in names
        if name in SCHEDULERS
    }
    vision, source = parts.get("image_encoder"), str(folder)
    resize = picture_resize(folder / "feature_extractor")
    found = {"clip": clip_from_transformers(parts["text_encoder"], vision, source, resize=resize)}
    if "prior" in parts:
        found["prior"] = _prior(parts["prior"], schedulers["prior"], f"{source}/prior")
    found["decoder"] = _decoder(parts, schedulers["decoder"], source)
    sampled: list[str] = [stage for stage in ("prior", "decoder") if stage in found]
    sampling = {stage: unclip_sampling(schedulers[stage], stage) for stage in sampled}
    low_res_size = found["decoder"][0].config.model_dump()["image_size"]
    for suffix, name in (("", "super_res_first"), ("_last", "super_res_last")):
        if name in parts:
            imported = _upsampler(parts[name], schedulers["super_res"], low_res_size, f"{source}/{name}")
            stage = f"upsampler_{imported[0].config.model_dump()['image_size']}"
            if suffix and stage not in found:
                raise ConfigError(
                    f"{source}: super_res_last draws other sizes than super_res_first; give two of one size."
                )
            found[stage + suffix] = imported
            sampling[stage] = unclip_sampling(schedulers["super_res"], "super_res")
    return ForeignModel(
        description=f"a diffusers unCLIP folder ({index['_class_name']})",
        stages={stage: weights for stage, (weights, _) in found.items()},
        tokenizers={"clip": Tokenizer.from_folder(folder / "tokenizer")},
        sampling=sampling,
        dropped={f"{stage}: {name}": why for stage, (_, left) in found.items() for name, why in left.items()},
    )


def decoder_constants(config: DecoderConfig) -> dict[str, torch.Tensor]:
    """The statistics that our decoder has and theirs has not: it takes embeddings as they come."""
    dim = config.embedding_dim
    return {"embedding_mean": torch.zeros(dim), "embedding_std": torch.ones(dim)}


def _component_names(folder: Path, index: Mapping[str, Any]) -> list[str]:
    """Components that are there by the index, each of a class that is known; those that are null are left out."""
    found = {
        name: entry[1] for name, entry in index.items() if isinstance(entry, list) and len(entry) == 2 and entry[1]
    }
    kinds: dict[str, str | None] = {**CLASSES, **SCHEDULERS, "tokenizer": None, "feature_extractor": None}
    for name, kind in found.items():
        if name not in kinds:
            raise ConfigError(f"{folder}: component {name} is unknown; {did_you_mean(name, kinds)}")
        if kind != (allowed := kinds[name] or kind):
            raise ConfigError(f"{folder}: {name} is a {kind}; only {allowed} is read there.")
    wanted = [*NEEDED, PIPELINES[index["_class_name"]], *(COMPANIONS[name] for name in found if name in COMPANIONS)]
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


def _prior(part: Component, scheduler: Mapping[str, Any], source: str) -> Imported:
    with _place(source):
        config = prior_config(part.config).replace(**unclip_diffusion(scheduler, learned_variance=False))
    found = to_ours(part.tensors, lambda: Prior(config), prior_names(config), source)
    return NetworkWeights("Prior", config, found.tensors, source), found.dropped


def _decoder(parts: Mapping[str, Component], scheduler: Mapping[str, Any], source: str) -> Imported:
    with _place(f"{source}/decoder"):
        config = decoder_config(parts["decoder"].config, parts["text_proj"].config)
        config = config.replace(**unclip_diffusion(scheduler, config.learned_variance))
    tensors = {
        f"{name}.{key}": value for name in ("decoder", "text_proj") for key, value in parts[name].tensors.items()
    }
    constants = decoder_constants(config)
    found = to_ours(tensors, lambda: Decoder(config), decoder_names(config), source, constants=constants)
    return NetworkWeights("Decoder", config, found.tensors, source), found.dropped


def _upsampler(part: Component, scheduler: Mapping[str, Any], low_res_size: int, source: str) -> Imported:
    with _place(source):
        config = upsampler_config(part.config, low_res_size)
        config = config.replace(**unclip_diffusion(scheduler, config.learned_variance))
    found = to_ours(part.tensors, lambda: Upsampler(config), upsampler_names(config.unet()), source)
    return NetworkWeights("Upsampler", config, found.tensors, source), found.dropped
