"""diffusers' unCLIP pipelines (Karlo): configs, names of tensors, and folders."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from unclip.clip import Tokenizer
from unclip.config import load_config
from unclip.errors import CheckpointError, ConfigError, did_you_mean
from unclip.interop.clip_files import clip_of_parts
from unclip.interop.options import Table, fields_of, options_of, read_options, require
from unclip.interop.rules import (
    ForeignModel,
    ForeignNetwork,
    Names,
    foreign_network,
    naming,
    repeated,
    row,
    tokens,
    under,
)
from unclip.interop.schedulers import unclip_sampling, with_diffusion
from unclip.interop.sources import Component, PipelineIndex, check_class, open_part, read_index, read_json
from unclip.interop.unets import (
    PLAIN_BLOCKS,
    PLAIN_UNET_DEFAULTS,
    PLAIN_UNET_FIXED,
    TIME,
    UNET_BLOCKS,
    UNET_DEFAULTS,
    UNET_FIELDS,
    UNET_FIXED,
    attention_levels,
    shape_ours,
    shape_theirs,
    unet_names,
)
from unclip.models import Decoder, DecoderConfig, Prior, PriorConfig, Upsampler, UpsamplerConfig

Theirs = Mapping[str, Any]

_PRIOR = "PriorTransformer"
_PRIOR_FIXED = {
    "additional_embeddings": 4,
    "time_embed_act_fn": "silu",
    "norm_in_type": None,
    "embedding_proj_norm_type": None,
    "encoder_hid_proj_type": "linear",
    "added_emb_type": "prd",
}
_PRIOR_FIELDS: Table = {
    "embedding_dim": ("embedding_dim", 768),
    "text_embedding_dim": ("embedding_proj_dim", None),
    "num_text_tokens": ("num_embeddings", 77),
    "depth": ("num_layers", 20),
    "num_heads": ("num_attention_heads", 32),
    "dropout": ("dropout", 0.0),
}
_PRIOR_DEFAULTS = dict(_PRIOR_FIELDS.values()) | {
    "attention_head_dim": 64,
    "time_embed_dim": None,
    "clip_embed_dim": None,
}
_UNET, _PLAIN_UNET, _PROJECTIONS = "UNet2DConditionModel", "UNet2DModel", "UnCLIPTextProjModel"
# The projections of the image embedding, beside the U-Net, add to its time embedding.
_DECODER_FIXED = UNET_FIXED | {
    **dict.fromkeys(("addition_embed_type", "encoder_hid_dim", "encoder_hid_dim_type"), None),
    "class_embed_type": "identity",
}
_PROJECTION_FIELDS: Table = {
    "embedding_dim": ("clip_embeddings_dim", 768),
    "num_image_tokens": ("clip_extra_context_tokens", 4),
    "context_dim": ("cross_attention_dim", None),
}
_PROJECTION_DEFAULTS = dict(_PROJECTION_FIELDS.values()) | {"time_embed_dim": None}
_CONDITIONING = {"default": "additive", "scale_shift": "adaptive"}


def prior_config(theirs: Theirs) -> PriorConfig:
    """Read the config of diffusers' `PriorTransformer`; raises `ConfigError` for options that ours does not have."""
    options = read_options(theirs, _PRIOR, _PRIOR_FIXED, _PRIOR_DEFAULTS)
    width = options["num_attention_heads"] * options["attention_head_dim"]
    sizes = {"time_embed_dim": width, "clip_embed_dim": options["embedding_dim"]}
    require(_PRIOR, options, {name: size for name, size in sizes.items() if options[name]})
    return load_config(PriorConfig, fields_of(options, _PRIOR_FIELDS) | {"width": width})


def prior_config_theirs(config: PriorConfig) -> dict[str, Any]:
    """Invert `prior_config`; raises `ConfigError` for fields that theirs does not have."""
    fields = dict(config) | {"text_dim": config.text_dim or config.embedding_dim}
    allowed = {"ff_mult": 4, "text_dim": config.embedding_dim, "self_conditioning": False}
    require(type(config).__name__, fields, allowed if config.num_text_tokens else allowed | {"num_text_tokens": 77})
    return {
        "_class_name": _PRIOR,
        **_PRIOR_FIXED,
        **_PRIOR_DEFAULTS,
        **options_of(config, _PRIOR_FIELDS),
        "attention_head_dim": config.width // config.num_heads,
    }


def decoder_config(unet: Theirs, projections: Theirs) -> DecoderConfig:
    """Read the configs of the decoder's `UNet2DConditionModel` and its `UnCLIPTextProjModel`.

    Raises `ConfigError` for options that ours does not have.
    """
    options = read_options(unet, _UNET, _DECODER_FIXED, UNET_DEFAULTS)
    shape = shape_ours(options, _UNET, options["in_channels"])
    levels, size = attention_levels(options, _UNET, UNET_BLOCKS), options["sample_size"]
    projection = read_options(projections, _PROJECTIONS, {}, _PROJECTION_DEFAULTS)
    allowed = {"time_embed_dim": 4 * shape["base_channels"], "cross_attention_dim": options["cross_attention_dim"]}
    require(_PROJECTIONS, projection, allowed)
    fields = {
        "text_dim": projection["clip_embeddings_dim"],
        "attention_resolutions": [size // 2**level for level in levels],
        **fields_of(options, UNET_FIELDS),
        **fields_of(projection, _PROJECTION_FIELDS),
    }
    return load_config(DecoderConfig, shape | fields)


def decoder_config_theirs(config: DecoderConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Invert `decoder_config`; raises `ConfigError` for fields that theirs do not have."""
    trunk = config.unet()
    allowed = {"patch_size": 1, "text_dim": config.embedding_dim, "text_transformer": None, "self_conditioning": False}
    unet = {
        "_class_name": _UNET,
        **UNET_DEFAULTS,
        **_DECODER_FIXED,
        **shape_theirs(config, trunk.attention_levels, allowed),
        **options_of(config, UNET_FIELDS),
        "in_channels": config.in_channels,
    }
    projections = options_of(config, _PROJECTION_FIELDS) | {"time_embed_dim": trunk.embedding_dim}
    return unet, {"_class_name": _PROJECTIONS, **projections}


def upsampler_config(theirs: Theirs, low_res_size: int) -> UpsamplerConfig:
    """Read the config of an upsampler's `UNet2DModel`; raises `ConfigError` for options that ours does not have."""
    options = read_options(theirs, _PLAIN_UNET, PLAIN_UNET_FIXED, PLAIN_UNET_DEFAULTS)
    attention_levels(options, _PLAIN_UNET, PLAIN_BLOCKS)
    if options["in_channels"] % 2 or options["resnet_time_scale_shift"] not in _CONDITIONING:
        raise ConfigError(f"{_PLAIN_UNET}: this is no upsampler of unCLIP, which takes two pictures; give one.")
    fields = {"low_res_size": low_res_size, "conditioning": _CONDITIONING[options["resnet_time_scale_shift"]]}
    return load_config(UpsamplerConfig, shape_ours(options, _PLAIN_UNET, options["in_channels"] // 2) | fields)


def upsampler_config_theirs(config: UpsamplerConfig) -> dict[str, Any]:
    """Invert `upsampler_config`; raises `ConfigError` for fields that theirs does not have."""
    allowed = {"patch_size": 1, "norm": "group", "residual": False, "noise_conditioning": False}
    return {
        "_class_name": _PLAIN_UNET,
        **PLAIN_UNET_DEFAULTS,
        **PLAIN_UNET_FIXED,
        **shape_theirs(config, (), allowed),
        "in_channels": 2 * config.in_channels,
        "resnet_time_scale_shift": {ours: name for name, ours in _CONDITIONING.items()}[config.conditioning],
    }


_PRIOR_BLOCK: Names = {
    "norm_1": "norm1",
    "qkv": ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
    "out": "attn1.to_out.0",
    "norm_2": "norm3",
    "ff_in": "ff.net.0.proj",
    "ff_out": "ff.net.2",
}


def prior_names(config: PriorConfig) -> Names:
    """Name the tensors of `Prior` as diffusers' `PriorTransformer` does."""
    return {
        "embedding_mean": row("clip_mean"),
        "embedding_std": row("clip_std"),
        "query": "prd_embedding",
        "positions": "positional_embedding",
        "text_tokens": "encoder_hidden_states_proj",
        "text_embedding": "embedding_proj",
        "noised_embedding": "proj_in",
        "norm_out": "norm_out",
        "out": "proj_to_clip_embeddings",
        **repeated("blocks", "transformer_blocks", _PRIOR_BLOCK, config.depth),
        **TIME,
    }


def decoder_names(config: DecoderConfig) -> Names:
    """Name the tensors of `Decoder`: diffusers' U-Net under "decoder", `UnCLIPTextProjModel` under "text_proj"."""
    projections: Names = {
        "null_image_embedding": "learned_classifier_free_guidance_embeddings",
        "image_embedding": "clip_image_embeddings_project_to_time_embeddings",
        "image_tokens": tokens("clip_extra_context_tokens_proj", config.num_image_tokens),
        "text_embedding": "embedding_proj",
        "text_tokens": "encoder_hidden_states_proj",
        "text_norm": "text_encoder_hidden_states_norm",
    }
    return under("", "text_proj", projections) | under("", "decoder", unet_names(config.unet()))


# With the part that makes image embeddings.
PIPELINES = {"UnCLIPPipeline": "prior", "UnCLIPImageVariationPipeline": "image_encoder"}
CLASSES = {
    "prior": _PRIOR,
    "decoder": _UNET,
    "text_proj": _PROJECTIONS,
    "text_encoder": "CLIPTextModelWithProjection",
    "image_encoder": "CLIPVisionModelWithProjection",
    "super_res_first": _PLAIN_UNET,
    "super_res_last": _PLAIN_UNET,
}
_SCHEDULERS = dict.fromkeys(("prior_scheduler", "decoder_scheduler", "super_res_scheduler"), "UnCLIPScheduler")
_NEEDED = ("text_encoder", "text_proj", "decoder", "decoder_scheduler", "tokenizer")
# By part, what it needs beside it.
_COMPANIONS = {
    "prior": "prior_scheduler",
    "super_res_first": "super_res_scheduler",
    "super_res_last": "super_res_first",
}


def import_unclip(folder: Path, index: Theirs) -> ForeignModel:
    """Open the model in a folder whose `model_index.json` holds `index`; no weights are read.

    Raises `CheckpointError` for files that are missing or damaged and tensors that do not fit, `ConfigError` for
    components and options that ours does not have.
    """
    content = read_index(folder, index)
    components = _component_names(folder, content)
    parts = {name: open_part(folder / name) for name in components if name in CLASSES}
    schedulers = {
        name.removesuffix("_scheduler"): read_json(folder / name / "scheduler_config.json")
        for name in components
        if name in _SCHEDULERS
    }
    source = str(folder)
    clip = clip_of_parts(parts["text_encoder"], parts.get("image_encoder"), folder / "feature_extractor", source)
    networks, sampling = {"clip": clip}, {}
    if "prior" in parts:
        networks["prior"] = read_prior(parts["prior"], schedulers["prior"], f"{source}/prior")
        sampling["prior"] = unclip_sampling(schedulers["prior"], "prior")
    with naming(f"{source}/decoder"):
        decoder = decoder_config(parts["decoder"].config, parts["text_proj"].config)
        decoder = with_diffusion(decoder, schedulers["decoder"])
    both = ("decoder", "text_proj")
    tensors = {f"{name}.{key}": value for name in both for key, value in parts[name].tensors.items()}
    names, constants = decoder_names(decoder), decoder_constants(decoder)
    networks["decoder"] = foreign_network(Decoder, decoder, tensors, names, source, constants=constants)
    sampling["decoder"] = unclip_sampling(schedulers["decoder"], "decoder")
    if "super_res_first" in parts:
        upsamplers = _upsamplers(parts, schedulers["super_res"], source)
        networks |= upsamplers
        sampling[next(iter(upsamplers))] = unclip_sampling(schedulers["super_res"], "super_res")
    tokenizers = {"clip": Tokenizer.from_folder(folder / "tokenizer")}
    description = f"a diffusers unCLIP folder ({content.kind})"
    return ForeignModel.of(description, networks, tokenizers, sampling, content.dropped)


def _component_names(folder: Path, index: PipelineIndex) -> list[str]:
    """List the components in the index, each of a known class; those that are null are left out."""
    kinds: dict[str, str | None] = {**CLASSES, **_SCHEDULERS, "tokenizer": "CLIPTokenizer", "feature_extractor": None}
    for name, kind in index.components.items():
        kind = kind.removesuffix("Fast") if name == "tokenizer" else kind
        if name not in kinds:
            raise ConfigError(f"{folder}: component {name} is unknown; {did_you_mean(name, kinds)}")
        check_class(folder, name, kind, kinds[name] or kind)
    names = list(index.components)
    needed = [*_NEEDED, PIPELINES[index.kind], *(_COMPANIONS[name] for name in names if name in _COMPANIONS)]
    if missing := [name for name in needed if name not in names]:
        raise CheckpointError(f"{folder}/model_index.json names no {' and no '.join(missing)}; fetch the whole folder.")
    for name in names:
        if not (folder / name).is_dir():
            raise CheckpointError(f"{folder / name} is missing, which model_index.json names; fetch the whole folder.")
    return names


def read_prior(part: Component, scheduler: Theirs, source: str) -> ForeignNetwork:
    """Import diffusers' `PriorTransformer`, which is Karlo's and Kandinsky's."""
    with naming(source):
        config = with_diffusion(prior_config(part.config), scheduler)
    return foreign_network(Prior, config, part.tensors, prior_names(config), source)


def decoder_constants(config: DecoderConfig) -> dict[str, torch.Tensor]:
    """Return the statistics of our decoder that leave embeddings as they are: theirs has none."""
    dim = config.embedding_dim
    return {"embedding_mean": torch.zeros(dim), "embedding_std": torch.ones(dim)}


def _upsamplers(parts: Mapping[str, Component], scheduler: Theirs, source: str) -> dict[str, ForeignNetwork]:
    """Import the first network, and that of the last step if there is one, by the names of their stages."""
    networks: dict[str, ForeignNetwork] = {}
    sizes: set[int] = set()
    for suffix, name in (("", "super_res_first"), ("_last", "super_res_last")):
        if name not in parts:
            continue
        with naming(f"{source}/{name}"):
            config = upsampler_config(parts[name].config, parts["decoder"].config["sample_size"])
            config = with_diffusion(config, scheduler)
        sizes.add(config.image_size)
        networks[f"upsampler_{config.image_size}{suffix}"] = foreign_network(
            Upsampler, config, parts[name].tensors, unet_names(config.unet()), f"{source}/{name}"
        )
    if len(sizes) > 1:
        raise ConfigError(f"{source}: super_res_last draws other sizes than super_res_first; give two of one size.")
    return networks
