"""Kandinsky 2.1 and 2.2: configs, names of tensors, and folders, those of diffusers and 2.1's original one."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from unclip.clip import MultilingualClip, MultilingualConfig, MultilingualTokenizer, Tokenizer
from unclip.config import load_config
from unclip.errors import CheckpointError, ConfigError
from unclip.interop.clip_files import clip_of_parts, openai_clip
from unclip.interop.karlo import read_original_prior
from unclip.interop.movq import autoencoder_config, movq_names, movq_original_names
from unclip.interop.options import Table, fields_of, other_options, read_options, require
from unclip.interop.rules import ForeignModel, ForeignNetwork, Names, Tensors, foreign_network, repeated, row
from unclip.interop.schedulers import ORIGINAL_SAMPLING, kandinsky_sampling, unclip_sampling
from unclip.interop.sources import Component, check_class, open_part, open_weights, read_index, read_json
from unclip.interop.unclip import read_prior
from unclip.interop.unets import (
    UNET_BLOCKS,
    UNET_DEFAULTS,
    UNET_FIELDS,
    UNET_FIXED,
    attention_levels,
    shape_ours,
    unet_names,
    unet_original_names,
)
from unclip.models import (
    Autoencoder,
    AutoencoderConfig,
    KandinskyDecoder,
    KandinskyDecoderConfig,
    PriorConfig,
    autoencoder_preset,
    kandinsky_decoder_preset,
    prior_preset,
)

_UNET, _TEXT = "UNet2DConditionModel", "MultilingualCLIP"
# By whether there is text: encoder_hid_dim_type, addition_embed_type, number of image tokens.
CONDITIONING = {False: ("image_proj", "image", 32), True: ("text_image_proj", "text_image", 10)}
_TEXT_FIXED = {
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
    "type_vocab_size": 1,
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
}
_TEXT_FIELDS: Table = {
    "embedding_dim": ("numDims", 768),
    "width": ("hidden_size", 768),
    "depth": ("num_hidden_layers", 12),
    "num_heads": ("num_attention_heads", 12),
    "ff_dim": ("intermediate_size", 3072),
    "vocab_size": ("vocab_size", 30522),
    "pad_token": ("pad_token_id", 1),
    "num_positions": ("max_position_embeddings", 512),
}
_TEXT_DEFAULTS = dict(_TEXT_FIELDS.values()) | {
    "transformerDimensions": 1024,
    # Their defaults, which our network does not have.
    "layer_norm_eps": 1e-12,
    "type_vocab_size": 2,
}


def decoder_config(theirs: Mapping[str, Any]) -> KandinskyDecoderConfig:
    """Read the config of diffusers' `UNet2DConditionModel`; raises `ConfigError` for options that ours has not."""
    options = read_options(theirs, _UNET, UNET_FIXED, UNET_DEFAULTS)
    _refuse_variants(options["in_channels"], options["addition_embed_type"])
    has_text = options["addition_embed_type"] == "text_image"
    hidden_type, added_type, num_image_tokens = CONDITIONING[has_text]
    require(_UNET, options, {"addition_embed_type": added_type, "encoder_hid_dim_type": hidden_type})
    fields = {
        "embedding_dim": options["cross_attention_dim"] if has_text else options["encoder_hid_dim"],
        "text_dim": options["encoder_hid_dim"] if has_text else 0,
        "normalize_image": not has_text,
        "attention_levels": attention_levels(options, _UNET, UNET_BLOCKS),
        "num_image_tokens": num_image_tokens,
        **fields_of(options, UNET_FIELDS),
    }
    return load_config(KandinskyDecoderConfig, shape_ours(options, _UNET, options["in_channels"]) | fields)


def _refuse_variants(in_channels: int, addition_embed_type: object = None) -> None:
    """Raise `ConfigError` for decoders with more conditioning than an image and a text."""
    variants = {
        "ControlNet decoder (image_hint)": addition_embed_type == "image_hint",
        "inpainting decoder (in_channels=9)": in_channels == 9,
    }
    for variant, is_this in variants.items():
        if is_this:
            raise ConfigError(f"this is Kandinsky's {variant}, which is not supported; give the plain one.")


def kandinsky_names(config: KandinskyDecoderConfig) -> Names:
    """Name the tensors of `KandinskyDecoder` as diffusers' `UNet2DConditionModel` does."""
    return {
        "image_embedding": "add_embedding.image_proj",
        "image_embedding_norm": "add_embedding.image_norm",
        "image_tokens": "encoder_hid_proj.image_embeds",
        "image_tokens_norm": "encoder_hid_proj.norm",
        "text_embedding": "add_embedding.text_proj",
        "text_embedding_norm": "add_embedding.text_norm",
        "text_tokens": "encoder_hid_proj.text_proj",
        **unet_names(config.unet()),
    }


def multilingual_names(config: MultilingualConfig) -> Names:
    """Name the tensors of `MultilingualClip` as `MultilingualCLIP` does, diffusers' and the original code's."""
    block: Names = {
        "qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
        "out": "attention.output.dense",
        "norm_1": "attention.output.LayerNorm",
        "ff_in": "intermediate.dense",
        "ff_out": "output.dense",
        "norm_2": "output.LayerNorm",
    }
    return {
        "token_embedding": "transformer.embeddings.word_embeddings",
        "position_embedding": "transformer.embeddings.position_embeddings",
        "type_embedding": row("transformer.embeddings.token_type_embeddings.weight"),
        "norm": "transformer.embeddings.LayerNorm",
        "projection": "LinearTransformation",
        **repeated("blocks", "transformer.encoder.layer", block, config.depth),
    }


def read_decoder(part: Component, source: str) -> ForeignNetwork:
    """Import the decoder of 2.1 or 2.2 from diffusers' `UNet2DConditionModel`.

    Here and below: `source` names the origin of the tensors in messages. Raises `ConfigError` for options that our
    network does not have, and `CheckpointError` for tensors that are missing, left over or of the wrong shape.
    """
    config = decoder_config(part.config)
    return foreign_network(KandinskyDecoder, config, part.tensors, kandinsky_names(config), source)


def read_autoencoder(part: Component, source: str) -> ForeignNetwork:
    """Import the autoencoder from diffusers' `VQModel`."""
    config = autoencoder_config(part.config)
    network = foreign_network(Autoencoder, config, part.tensors, movq_names(config), source)
    return network.drop({"scaling_factor": "a default of diffusers; the decoders sample the latents as they are"})


def read_text_encoder(part: Component, source: str) -> ForeignNetwork:
    """Import the text encoder of 2.1 from `MultilingualCLIP`, diffusers' or the original's."""
    known = {name: value for name, value in part.config.items() if name in _TEXT_FIXED or name in _TEXT_DEFAULTS}
    options = read_options(known, _TEXT, _TEXT_FIXED, _TEXT_DEFAULTS)
    require(_TEXT, options, {"transformerDimensions": options["hidden_size"]})
    config = load_config(MultilingualConfig, fields_of(options, _TEXT_FIELDS))
    dropped = {
        "transformer.pooler.": "XLM-RoBERTa's pooler, which CLIP does not use",
        "transformer.embeddings.position_ids": "numbers that are counted here",
    }
    names = multilingual_names(config)
    network = foreign_network(MultilingualClip, config, part.tensors, names, source, dropped=dropped)
    return network.drop(other_options(part.config, [*known, "modelBase"], "XLM-RoBERTa"))


def read_original_decoder(
    tensors: Tensors, source: str, config: KandinskyDecoderConfig | None = None
) -> ForeignNetwork:
    """Import the decoder from 2.1's `decoder_fp16.ckpt`, which does not hold its shape: None is the published one."""
    if (conv_in := "input_blocks.0.0.weight") in tensors:
        _refuse_variants(tensors[conv_in].shape[1])
    config = config or kandinsky_decoder_preset("kandinsky-2.1")
    names: Names = {
        "image_embedding": "img_layer",
        "image_tokens": "clip_to_seq",
        "text_embedding": "proj_n",
        "text_embedding_norm": "ln_model_n",
        "text_tokens": "to_model_dim_n",
    }
    names = {**names, **unet_original_names(config.unet())}
    return foreign_network(KandinskyDecoder, config, tensors, names, source)


def read_original_autoencoder(tensors: Tensors, source: str, config: AutoencoderConfig | None = None) -> ForeignNetwork:
    """Import the autoencoder from 2.1's `movq_final.ckpt`; None is the published shape."""
    config = config or autoencoder_preset("kandinsky-2.2")
    return foreign_network(Autoencoder, config, tensors, movq_original_names(config), source)


_TASKS = "Img2Img Inpaint Controlnet ControlnetImg2Img Prior PriorEmb2Emb Combined Img2ImgCombined InpaintCombined"
# Pipelines that `import_kandinsky` reads, or refuses with the reason.
PIPELINES = tuple(f"Kandinsky{release}{task}Pipeline" for release in ("", "V22") for task in ("", *_TASKS.split()))
ORIGINAL_FILES = {
    "prior": "prior_fp16.ckpt",
    "statistics": "ViT-L-14_stats.th",
    "decoder": "decoder_fp16.ckpt",
    "autoencoder": "movq_final.ckpt",
    "text_encoder": "text_encoder",
    "clip": "ViT-L-14.pt",
}
# Components of a decoder: class, our stage, reader. They go by their classes, as their libraries move.
_DECODER_PARTS: dict[str, tuple[str, str, Callable[[Component, str], ForeignNetwork]]] = {
    "unet": (_UNET, "decoder", read_decoder),
    "movq": ("VQModel", "autoencoder", read_autoencoder),
    "text_encoder": (_TEXT, "text_encoder", read_text_encoder),
}
_PRIOR_PARTS = ("prior", "text_encoder", "image_encoder", "tokenizer", "scheduler", "image_processor")
_SCHEDULER = "scheduler_config.json"


def import_kandinsky(folder: Path, index: Mapping[str, Any]) -> ForeignModel:
    """Open the stages in a folder whose `model_index.json` holds `index`: those of a prior, of a decoder, or of both.

    Raises `CheckpointError` for files that are missing or damaged and tensors that do not fit, `ConfigError` for
    components and options that ours does not have.
    """
    kind, kinds, index_dropped = read_index(folder, index)
    networks: dict[str, ForeignNetwork] = {}
    tokenizers: dict[str, Tokenizer | MultilingualTokenizer] = {}
    sampling = {}
    dropped, used = dict(index_dropped), set[str]()
    if "unet" in kinds:
        reads_text = read_json(folder / "unet" / "config.json").get("addition_embed_type") == "text_image"
        names = list(_DECODER_PARTS)[: 3 if reads_text else 2]
        for name, (allowed, stage, read) in [(name, _DECODER_PARTS[name]) for name in names]:
            networks[stage] = read(_open(folder, name, kinds, allowed), f"{folder}/{name}")
        scheduler = read_json(folder / "scheduler" / _SCHEDULER)
        sampling["decoder"], differing = kandinsky_sampling(scheduler, kinds.get("scheduler"))
        dropped |= {f"decoder: {name}": reason for name, reason in differing.items()}
        used |= {"scheduler", "tokenizer", *names}
    if "text_encoder" in networks:
        tokenizers["text_encoder"] = MultilingualTokenizer.load(folder / "tokenizer" / "tokenizer.json")
    if "unet" not in kinds or "prior_prior" in kinds:
        start = "prior_" if "unet" in kinds else ""
        prior = _open(folder, f"{start}prior", kinds, "PriorTransformer")
        text = _open(folder, f"{start}text_encoder", kinds, "CLIPTextModelWithProjection")
        vision = _open(folder, f"{start}image_encoder", kinds, "CLIPVisionModelWithProjection")
        check_class(folder, f"{start}scheduler", kinds.get(f"{start}scheduler", "UnCLIPScheduler"), "UnCLIPScheduler")
        networks["clip"] = clip_of_parts(text, vision, folder / f"{start}image_processor", str(folder))
        tokenizers["clip"] = Tokenizer.from_folder(folder / f"{start}tokenizer")
        scheduler = read_json(folder / f"{start}scheduler" / _SCHEDULER)
        networks["prior"] = read_prior(prior, scheduler, f"{folder}/{start}prior")
        sampling["prior"] = unclip_sampling(scheduler, "prior")
        used |= {start + name for name in _PRIOR_PARTS}
    others = sorted(kinds.keys() - used)
    dropped |= {f"model_index.json: {name}": f"a {kinds[name]}, which is not read here" for name in others}
    return ForeignModel.of(f"a diffusers folder of Kandinsky ({kind})", networks, tokenizers, sampling, dropped)


def _open(folder: Path, name: str, kinds: Mapping[str, str], allowed: str) -> Component:
    if name not in kinds:
        raise CheckpointError(f"{folder}/model_index.json names no {name}; fetch the whole folder.")
    check_class(folder, name, kinds[name], allowed)
    return open_part(folder / name)


def import_kandinsky_original(
    folder: Path,
    *,
    prior: PriorConfig | None = None,
    decoder: KandinskyDecoderConfig | None = None,
    autoencoder: AutoencoderConfig | None = None,
) -> ForeignModel:
    """Open the stages of 2.1's original release, a folder of `ORIGINAL_FILES` in which prior and CLIP may be missing.

    The files do not hold the shapes of their networks: None is the published one. Raises like `import_kandinsky`.
    """
    paths = {part: folder / name for part, name in ORIGINAL_FILES.items()}
    text_encoder = paths["text_encoder"]
    networks = {
        "decoder": read_original_decoder(open_weights(paths["decoder"]).tensors, str(paths["decoder"]), decoder),
        "autoencoder": read_original_autoencoder(
            open_weights(paths["autoencoder"]).tensors, str(paths["autoencoder"]), autoencoder
        ),
        "text_encoder": read_text_encoder(open_part(text_encoder), str(text_encoder)),
    }
    tokenizers: dict[str, Tokenizer | MultilingualTokenizer] = {
        "text_encoder": MultilingualTokenizer.load(text_encoder / "tokenizer.json")
    }
    if (path := paths["prior"]).exists():
        tensors = open_weights(path).tensors
        config = prior or prior_preset("karlo")
        networks["prior"] = read_original_prior(tensors, paths["statistics"], str(path), config)
    if paths["clip"].exists():
        networks["clip"], tokenizers["clip"] = openai_clip(paths["clip"], "crop"), Tokenizer.openai()
    sampling = {stage: fields for stage, fields in ORIGINAL_SAMPLING.items() if stage in networks}
    return ForeignModel.of("Kandinsky 2.1's original files", networks, tokenizers, sampling)
