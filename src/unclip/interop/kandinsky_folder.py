"""Folders of Kandinsky 2.1 and 2.2 as foreign models: those of diffusers, and 2.1's original one. Knows their layouts.

Components are told by their class names: the libraries that `model_index.json` names move.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from unclip.checkpoint import LazyTensor
from unclip.clip import MultilingualTokenizer, Tokenizer
from unclip.errors import CheckpointError, ConfigError
from unclip.interop.clip import clip_from_transformers
from unclip.interop.clip_files import clip_statistics, openai_clip, picture_resize
from unclip.interop.kandinsky import (
    kandinsky_autoencoder,
    kandinsky_decoder,
    kandinsky_original_autoencoder,
    kandinsky_original_decoder,
    kandinsky_original_prior,
    kandinsky_prior,
    kandinsky_text_encoder,
)
from unclip.interop.options import one_side
from unclip.interop.rules import ForeignModel, ForeignNetwork
from unclip.interop.schedulers import ORIGINAL_SAMPLING, kandinsky_sampling, unclip_diffusion, unclip_sampling
from unclip.interop.sources import Component, open_part, open_weights, read_index, read_json
from unclip.models import AutoencoderConfig, KandinskyDecoderConfig, PriorConfig, prior_preset

_TASKS = "Img2Img Inpaint Controlnet ControlnetImg2Img Prior PriorEmb2Emb Combined Img2ImgCombined InpaintCombined"
# What `import_kandinsky` reads, or else says why it does not.
PIPELINES = tuple(f"Kandinsky{release}{task}Pipeline" for release in ("", "V22") for task in ("", *_TASKS.split()))
ORIGINAL_FILES = {
    "prior": "prior_fp16.ckpt",
    "statistics": "ViT-L-14_stats.th",
    "decoder": "decoder_fp16.ckpt",
    "autoencoder": "movq_final.ckpt",
    "text_encoder": "text_encoder",
    "clip": "ViT-L-14.pt",
}


class _Kind(NamedTuple):
    name: str
    stage: str
    translate: Callable[[Any, Any, str], ForeignNetwork]


_DECODER = {
    "unet": _Kind("UNet2DConditionModel", "decoder", kandinsky_decoder),
    "movq": _Kind("VQModel", "autoencoder", kandinsky_autoencoder),
}
_TEXT = {"text_encoder": _Kind("MultilingualCLIP", "text_encoder", kandinsky_text_encoder)}
_SCHEDULER = "scheduler_config.json"
_PRIOR_PARTS = ("prior", "text_encoder", "image_encoder", "tokenizer", "scheduler", "image_processor")


def import_kandinsky(folder: Path, index: Mapping[str, Any]) -> ForeignModel:
    """The stages in a folder whose `model_index.json` holds `index`: that of a prior, of a decoder, or of both.

    Raises `CheckpointError` for files that are missing or damaged and tensors that do not fit, `ConfigError` for
    components and options that we have no equal of.
    """
    found = read_index(folder, index)
    kinds = found.components
    networks: dict[str, ForeignNetwork] = {}
    tokenizers: dict[str, Tokenizer | MultilingualTokenizer] = {}
    sampling = {}
    dropped = dict(found.dropped)
    used = {"scheduler", "tokenizer"} if "unet" in kinds else set[str]()
    if "unet" in kinds:
        networks |= _decoder(folder, kinds)
        used |= {"unet", "movq", *(["text_encoder"] if "text_encoder" in networks else [])}
        scheduler = read_json(folder / "scheduler" / _SCHEDULER)
        sampling["decoder"], differing = kandinsky_sampling(scheduler, kinds.get("scheduler"))
        dropped |= {f"decoder: {name}": reason for name, reason in differing.items()}
    if "text_encoder" in networks:
        tokenizers["text_encoder"] = MultilingualTokenizer.load(folder / "tokenizer" / "tokenizer.json")
    if "unet" not in kinds or "prior_prior" in kinds:
        start = "prior_" if "unet" in kinds else ""
        used |= {start + name for name in _PRIOR_PARTS}
        scheduler = read_json(folder / f"{start}scheduler" / _SCHEDULER)
        networks |= _prior(folder, start, kinds, scheduler)
        tokenizers["clip"] = Tokenizer.from_folder(folder / f"{start}tokenizer")
        sampling["prior"] = unclip_sampling(scheduler, "prior")
    others = sorted(kinds.keys() - used)
    dropped |= {f"model_index.json: {name}": f"a {kinds[name]}, which nothing here reads" for name in others}
    return ForeignModel.of(f"a diffusers folder of Kandinsky ({found.kind})", networks, tokenizers, sampling, dropped)


def import_kandinsky_original(
    folder: Path,
    *,
    prior: PriorConfig | None = None,
    decoder: KandinskyDecoderConfig | None = None,
    autoencoder: AutoencoderConfig | None = None,
) -> ForeignModel:
    """The stages of 2.1's original release, in a folder of `ORIGINAL_FILES`, of which prior and CLIP may be missing.

    The files do not say the shapes of their networks: None is the published one. Raises like `import_kandinsky`.
    """
    paths = {part: folder / name for part, name in ORIGINAL_FILES.items()}
    words = paths["text_encoder"]
    text = open_part(words)
    networks = {
        "decoder": kandinsky_original_decoder(*_original(paths["decoder"]), decoder),
        "autoencoder": kandinsky_original_autoencoder(*_original(paths["autoencoder"]), autoencoder),
        "text_encoder": kandinsky_text_encoder(text.tensors, text.config, str(words)),
    }
    tokenizers: dict[str, Tokenizer | MultilingualTokenizer] = {
        "text_encoder": MultilingualTokenizer.load(words / "tokenizer.json")
    }
    if paths["prior"].exists():
        config = prior or prior_preset("karlo")
        statistics = clip_statistics(paths["statistics"], config.embedding_dim)
        tensors, source = _original(paths["prior"])
        networks["prior"] = kandinsky_original_prior(tensors, statistics, source, config)
    if paths["clip"].exists():
        networks["clip"], tokenizers["clip"] = openai_clip(paths["clip"], "crop"), Tokenizer.openai()
    sampling = {stage: fields for stage, fields in ORIGINAL_SAMPLING.items() if stage in networks}
    return ForeignModel.of("Kandinsky 2.1's original files", networks, tokenizers, sampling)


def _original(path: Path) -> tuple[dict[str, LazyTensor], str]:
    return open_weights(path).tensors, str(path)


def _decoder(folder: Path, kinds: Mapping[str, str]) -> dict[str, ForeignNetwork]:
    reads_text = read_json(folder / "unet" / "config.json").get("addition_embed_type") == "text_image"
    networks = {}
    for name, (kind, stage, translate) in (_DECODER | (_TEXT if reads_text else {})).items():
        part = _open(folder, name, kinds, kind)
        networks[stage] = translate(part.tensors, part.config, f"{folder}/{name}")
    return networks


def _prior(
    folder: Path, start: str, kinds: Mapping[str, str], scheduler: Mapping[str, Any]
) -> dict[str, ForeignNetwork]:
    part = _open(folder, f"{start}prior", kinds, "PriorTransformer")
    text = _open(folder, f"{start}text_encoder", kinds, "CLIPTextModelWithProjection")
    vision = _open(folder, f"{start}image_encoder", kinds, "CLIPVisionModelWithProjection")
    if (kind := kinds.get(f"{start}scheduler")) not in (None, "UnCLIPScheduler"):
        raise ConfigError(f"{folder}: {start}scheduler is a {kind}; only UnCLIPScheduler is read there.")
    size = one_side(str(folder), "image_size", vision.config.get("image_size", 224))
    resize = picture_resize(folder / f"{start}image_processor", size)
    weights, dropped = kandinsky_prior(part.tensors, part.config, f"{folder}/{start}prior")
    config = weights.config.replace(**unclip_diffusion(scheduler, learned_variance=False))
    return {
        "clip": clip_from_transformers(text, vision, str(folder), resize=resize),
        "prior": ForeignNetwork(replace(weights, config=config), dropped),
    }


def _open(folder: Path, name: str, kinds: Mapping[str, str], allowed: str) -> Component:
    if name not in kinds:
        raise CheckpointError(f"{folder}/model_index.json names no {name}; fetch the whole folder.")
    if kinds[name] != allowed:
        raise ConfigError(f"{folder}: {name} is a {kinds[name]}; only {allowed} is read there.")
    return open_part(folder / name)
