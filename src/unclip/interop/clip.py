"""CLIP of transformers, OpenAI and open_clip: names of tensors, and configs."""

import json
import math
from collections.abc import Mapping
from typing import Any, Literal

import torch

from unclip.checkpoint import NetworkWeights
from unclip.clip import Clip, ClipConfig
from unclip.clip.config import PRESETS
from unclip.clip.model import PIXEL_MEAN, PIXEL_STD
from unclip.config import load_config
from unclip.errors import CheckpointError, ConfigError, did_you_mean
from unclip.interop.options import Options, Table, one_side, other_options
from unclip.interop.rules import ForeignNetwork, Names, Tensors, Value, foreign_network, repeated, to_theirs, transposed
from unclip.interop.sources import Component

# Ours, transformers', OpenAI's.
_PARTS: tuple[tuple[str, str, Value], ...] = (
    ("logit_scale", "logit_scale", "logit_scale"),
    ("text.token_embedding", "text_model.embeddings.token_embedding", "token_embedding"),
    ("text.position_embedding", "text_model.embeddings.position_embedding.weight", "positional_embedding"),
    ("text.final_norm", "text_model.final_layer_norm", "ln_final"),
    ("text.projection.weight", "text_projection.weight", transposed("text_projection")),
    ("vision.patch_embedding", "vision_model.embeddings.patch_embedding", "visual.conv1"),
    ("vision.class_embedding", "vision_model.embeddings.class_embedding", "visual.class_embedding"),
    ("vision.position_embedding", "vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
    ("vision.pre_norm", "vision_model.pre_layrnorm", "visual.ln_pre"),
    ("vision.final_norm", "vision_model.post_layernorm", "visual.ln_post"),
    ("vision.projection.weight", "visual_projection.weight", transposed("visual.proj")),
)
_TRANSFORMERS_BLOCK: Names = {
    "norm_1": "layer_norm1",
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "out": "self_attn.out_proj",
    "norm_2": "layer_norm2",
    "ff_in": "mlp.fc1",
    "ff_out": "mlp.fc2",
}
_OPENAI_BLOCK: Names = {
    "norm_1": "ln_1",
    "qkv.weight": "attn.in_proj_weight",
    "qkv.bias": "attn.in_proj_bias",
    "out": "attn.out_proj",
    "norm_2": "ln_2",
    "ff_in": "mlp.c_fc",
    "ff_out": "mlp.c_proj",
}


def transformers_names(config: ClipConfig) -> Names:
    """Name the tensors of `Clip` as `CLIPModel` and its two towers `CLIP...WithProjection` do."""
    return {
        **{ours: theirs for ours, theirs, _ in _PARTS},
        **repeated("text.blocks", "text_model.encoder.layers", _TRANSFORMERS_BLOCK, config.text_layers),
        **repeated("vision.blocks", "vision_model.encoder.layers", _TRANSFORMERS_BLOCK, config.vision_layers),
    }


def openai_names(config: ClipConfig) -> Names:
    """Name the tensors of `Clip` as OpenAI and open_clip do, without the "text." in front of some of open_clip's."""
    return {
        **{ours: theirs for ours, _, theirs in _PARTS},
        **repeated("text.blocks", "transformer.resblocks", _OPENAI_BLOCK, config.text_layers),
        **repeated("vision.blocks", "visual.transformer.resblocks", _OPENAI_BLOCK, config.vision_layers),
    }


Resize = Literal["squash", "crop"]
# Options of open_clip that build other networks than ours unless they have these values.
_OPEN_CLIP: dict[str, Any] = {"init_logit_bias": None, "multimodal_cfg": None}
_OPEN_CLIP_IGNORED = {
    "the weights show it": ("custom_text", "cast_dtype", "output_dict", "nonscalar_logit_scale"),
    "used in training alone": ("init_logit_scale",),
}
_OPEN_CLIP_OFF = (
    *("timm_model_pretrained", "timm_pool", "timm_proj", "timm_proj_bias", "timm_drop", "timm_drop_path"),
    *("attn_pooler_queries", "attn_pooler_heads", "hf_model_pretrained", "hf_proj_type", "hf_pooler_type"),
    "output_tokens",
)
_OPEN_CLIP_VISION: dict[str, Any] = {
    **dict.fromkeys(("ls_init_value", "act_kwargs", "norm_kwargs", "block_type", "timm_model_name"), None),
    **dict.fromkeys(("attentional_pool", "no_ln_pre", "final_ln_after_pool"), False),
    "pos_embed_type": "learnable",
    "pool_type": "tok",
}
_OPEN_CLIP_TEXT: dict[str, Any] = {
    **dict.fromkeys(("ls_init_value", "act_kwargs", "norm_kwargs", "block_type", "hf_model_name"), None),
    **dict.fromkeys(("hf_tokenizer_name", "tokenizer_kwargs", "tokenizer_mode"), None),
    **dict.fromkeys(("embed_cls", "no_causal_mask", "final_ln_after_pool", "proj_bias"), False),
    "pad_id": 0,
    "pool_type": "argmax",
    "proj_type": "linear",
}


def _table(tower: str, width: int, more: Table) -> Table:
    return {
        "embedding_dim": ("projection_dim", 512),
        f"{tower}_width": ("hidden_size", width),
        f"{tower}_layers": ("num_hidden_layers", 12),
        f"{tower}_heads": ("num_attention_heads", width // 64),
        f"{tower}_ff_dim": ("intermediate_size", 4 * width),
        "activation": ("hidden_act", "quick_gelu"),
        **more,
    }


# Options of theirs that have one value here, with the reason.
_FIXED = {
    "layer_norm_eps": (1e-5, "norms have no other here"),
    "num_channels": (3, "pictures are RGB"),
    "is_decoder": (False, "the text tower is OpenAI's"),
    "add_cross_attention": (False, "the text tower is OpenAI's"),
    "pruned_heads": ({}, "attention has all its heads here"),
}
_TEXT = _table("text", 512, {"vocab_size": ("vocab_size", 49408), "context_length": ("max_position_embeddings", 77)})
_VISION = _table("vision", 768, {"image_size": ("image_size", 224), "patch_size": ("patch_size", 32)})
_NO_VISION = dict.fromkeys(("image_size", "patch_size", "vision_width", "vision_layers", "vision_heads"), 0)
_DROPPED = {
    "text_model.embeddings.position_ids": "positions are counted without it",
    "vision_model.embeddings.position_ids": "positions are counted without it",
    "input_resolution": "the shapes of the other tensors show it",
    "context_length": "the shapes of the other tensors show it",
    "vocab_size": "the shapes of the other tensors show it",
}


def clip_from_transformers(
    text: Component, vision: Component | None, source: str, *, resize: Resize = "crop"
) -> ForeignNetwork:
    """Import a CLIP from a `CLIPTextModelWithProjection` and a `CLIPVisionModelWithProjection`, or the first alone."""
    texts, others = _fields(text.config, "text", _TEXT, source)
    pictures: dict[str, Any] = dict(_NO_VISION)
    tensors = dict(text.tensors)
    if vision is not None:
        pictures, more = _fields(vision.config, "vision", _VISION, source)
        pictures["resize"] = resize
        others |= more
        tensors |= vision.tensors
    for name in sorted(texts.keys() & pictures.keys()):
        if texts[name] != pictures[name]:
            both = f"{texts[name]!r} for texts and {pictures[name]!r} for pictures"
            raise ConfigError(f"{source}: {_TEXT[name][0]} is {both}; a CLIP has one for both.")
    config = load_config(ClipConfig, texts | pictures)
    # With the 2 of old configs transformers pools at the highest id, which is the last of the vocabulary as well.
    if (end := text.config.get("eos_token_id", 2)) not in (2, config.end_token):
        raise ConfigError(f"{source}: eos_token_id={end} is not supported; texts end with id {config.end_token} here.")
    return _network(tensors, config, transformers_names(config), source).drop(others)


def clip_from_clip_model(model: Component, source: str, *, resize: Resize = "crop") -> ForeignNetwork:
    """Import a whole `CLIPModel`."""

    def section(name: str) -> dict[str, Any]:
        # Old configs keep changes to a section beside it.
        changed = (model.config.get(name) or {}) | (model.config.get(f"{name}_dict") or {})
        return changed | {"projection_dim": model.config.get("projection_dim", 512)}

    text, vision = Component(section("text_config"), model.tensors), Component(section("vision_config"), {})
    network = clip_from_transformers(text, vision, source, resize=resize)
    sections = ("text_config", "vision_config", "text_config_dict", "vision_config_dict", "projection_dim")
    return network.drop(other_options(model.config, sections, "a CLIP"))


def clip_from_openai(tensors: Tensors, source: str, *, resize: Resize = "crop") -> ForeignNetwork:
    """Import the state dict of OpenAI's TorchScript, whose heads are all 64 wide."""
    fields = _shapes(tensors, source)
    heads = {f"{tower}_heads": fields[f"{tower}_width"] // 64 for tower in ("vision", "text")}
    config = load_config(ClipConfig, fields | heads | {"activation": "quick_gelu", "resize": resize})
    return _network(tensors, config, openai_names(config), source)


def clip_from_open_clip(tensors: Tensors, source: str, options: Mapping[str, Any] | None = None) -> ForeignNetwork:
    """Import a state dict of open_clip.

    `options` is the content of its `open_clip_config.json`, or the section "model_cfg". Without it heads and
    activation are those of the preset of these shapes, which must have gelu: open_clip's own models do.
    """
    tensors = {name.removeprefix("text."): value for name, value in tensors.items()}
    fields = _shapes(tensors, source)
    fields, unread = _open_clip_fields(fields, options) if options else (_preset(fields, source), {})
    config = load_config(ClipConfig, fields)
    return _network(tensors, config, openai_names(config), source).drop(unread)


def clip_to_transformers(clip: NetworkWeights) -> tuple[dict[str, Component], dict[str, str]]:
    """Export components `text_encoder` and, with a vision tower, `image_encoder`; return also what they cannot hold."""
    config = clip.config
    assert isinstance(config, ClipConfig), config
    end = {"bos_token_id": config.end_token - 1, "eos_token_id": config.end_token, "pad_token_id": 0}
    towers = {"text_encoder": ("text", _TEXT, end), "image_encoder": ("vision", _VISION, dict[str, int]())}
    components = {}
    for name, (tower, table, ids) in list(towers.items())[: 2 if config.vision_layers else 1]:
        ours = {f"{tower}_ff_dim": 4 * getattr(config, f"{tower}_width")} | config.model_dump(exclude_none=True)
        kind = {"architectures": [f"CLIP{tower.title()}ModelWithProjection"], "model_type": f"clip_{tower}_model"}
        tensors = {key: value for key, value in clip.tensors.items() if key.startswith(f"{tower}.")}
        components[name] = Component(
            {**kind, **ids, **{option: ours[field] for field, (option, _) in table.items()}},
            to_theirs(tensors, transformers_names(config), clip.source),
        )
    return components, {"logit_scale": "towers with projections do not have it; only training reads it"}


def _network(tensors: Tensors, config: ClipConfig, names: Names, source: str) -> ForeignNetwork:
    # The scale that training starts from; nothing else reads it.
    constants = {} if "logit_scale" in tensors else {"logit_scale": torch.tensor(math.log(1 / 0.07))}
    return foreign_network(Clip, config, tensors, names, source, constants=constants, dropped=_DROPPED)


def _usual(fields: dict[str, Any]) -> dict[str, Any]:
    """Write the width of MLPs that are four times as wide as their tower as None, as the presets do."""
    for tower in ("text", "vision"):
        if fields.get(f"{tower}_ff_dim") == 4 * fields.get(f"{tower}_width", 0):
            fields[f"{tower}_ff_dim"] = None
    return fields


def _fields(config: Mapping[str, Any], tower: str, table: Table, source: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Read our fields of a tower from its config; return also the options that are not known, with the reason."""
    place = f"{source}: {tower} tower"
    sides = {name: one_side(place, name, config[name]) for name in ("image_size", "patch_size") if name in config}
    options = Options({**config, **sides}, place)
    for name, (allowed, reason) in _FIXED.items():
        options.only(name, allowed, reason)
    fields = options.fields(table)
    known = [*_FIXED, *(theirs for theirs, _ in table.values())]
    return _usual(fields), other_options(config, known, f"a {tower} tower")


def _shapes(tensors: Tensors, source: str) -> dict[str, Any]:
    """Read all fields but the numbers of heads and the activation from the shapes of tensors."""
    shapes = {name: value.shape for name, value in tensors.items()}
    try:
        vision_width, _, _, patch_size = shapes["visual.conv1.weight"]
        vocab_size, text_width = shapes["token_embedding.weight"]
        fields: dict[str, Any] = {
            "embedding_dim": shapes["text_projection"][1],
            "image_size": patch_size * math.isqrt(shapes["visual.positional_embedding"][0] - 1),
            "patch_size": patch_size,
            "vision_width": vision_width,
            "text_width": text_width,
            "vocab_size": vocab_size,
            "context_length": shapes["positional_embedding"][0],
        }
        for tower, start in (("vision", "visual.transformer.resblocks."), ("text", "transformer.resblocks.")):
            widths = [shapes[name][0] for name in shapes if name.startswith(start) and name.endswith(".c_fc.bias")]
            fields |= {f"{tower}_layers": len(widths), f"{tower}_ff_dim": widths[0]}
    except (KeyError, IndexError, ValueError) as error:
        fault = f"{source}: a tensor is missing or has a strange shape ({error})"
        raise CheckpointError(f"{fault}; give a CLIP with a ViT, as OpenAI and open_clip write it.") from None
    return _usual(fields)


def _preset(fields: dict[str, Any], source: str) -> dict[str, Any]:
    for preset in map(dict, PRESETS.values()):
        if preset == preset | fields and preset["activation"] == "gelu":
            return preset | {"resize": "crop"}
    heads = {"vision_cfg": {"head_width": 64}, "text_cfg": {"heads": fields["text_width"] // 64}}
    example = json.dumps({"model_cfg": {"quick_gelu": True, **heads}})
    raise CheckpointError(
        f"{source}: its shapes do not show the numbers of heads and the activation, as those of H/14 and bigG/14 do; "
        f"put its open_clip_config.json beside it, or a file of that name with {example}, where quick_gelu is true for "
        "the weights of OpenAI and of models called quickgelu, and false for others."
    )


def _open_clip_fields(fields: dict[str, Any], config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Update the fields by the options of a config; contradictions with the shapes show when tensors are read.

    Return also the options that do not change the network, each with the reason.
    """
    model = Options(config.get("model_cfg", config), "model_cfg")
    vision, text = (Options(model.need(name, {}), name) for name in ("vision_cfg", "text_cfg"))
    fields["embedding_dim"] = model.take("embed_dim", fields["embedding_dim"])
    for name in ("image_size", "patch_size"):
        fields[name] = vision.side(name, fields[name])
    for name in ("vision_width", "vision_layers"):
        fields[name] = vision.take(name.removeprefix("vision_"), fields[name])
    for name in ("vocab_size", "context_length", "text_width", "text_layers"):
        fields[name] = text.take(name.removeprefix("text_"), fields[name])
    fields["vision_heads"] = fields["vision_width"] // vision.take("head_width", 64)
    fields["text_heads"] = text.take("heads", 8)
    for tower, options in (("vision", vision), ("text", text)):
        fields[f"{tower}_ff_dim"] = int(fields[f"{tower}_width"] * options.take("mlp_ratio", 4.0))
    fields["activation"] = "quick_gelu" if model.take("quick_gelu", False) else "gelu"
    text.only("eos_id", fields["vocab_size"] - 1, "texts end with the last id")
    picture = Options(config.get("preprocess_cfg") or {}, "preprocess_cfg")
    picture.only("mean", list(PIXEL_MEAN), "pictures have OpenAI's statistics here")
    picture.only("std", list(PIXEL_STD), "pictures have OpenAI's statistics here")
    picture.only("mode", "RGB", "pictures are RGB")
    image_size = fields["image_size"]
    if (side := picture.side("size", image_size)) != image_size:
        raise ConfigError(
            f"preprocess_cfg.size={side} is not the image_size={image_size} of vision_cfg; make them one."
        )
    # "random" varies in training; elsewhere it is bicubic.
    if (filter_name := picture.take("interpolation", "bicubic")) not in ("bicubic", "random"):
        raise ConfigError(
            f"preprocess_cfg.interpolation={filter_name!r} is not supported; pictures are resized by bicubic here."
        )
    mode, modes = picture.take("resize_mode", "shortest"), {"shortest": "crop", "squash": "squash"}
    if mode not in modes:
        raise ConfigError(f"preprocess_cfg.resize_mode={mode!r} is not supported; {did_you_mean(mode, modes)}")
    fields["resize"] = modes[mode]
    unread = picture.finish({"nothing is filled where pictures are cropped or squashed": ("fill_color",)})
    for options, fixed, ignored in (
        (model, _OPEN_CLIP, _OPEN_CLIP_IGNORED),
        (vision, _OPEN_CLIP_VISION, {"used in training alone": ("patch_dropout",)}),
        (text, _OPEN_CLIP_TEXT, {}),
    ):
        for name, value in fixed.items():
            options.only(name, value, "CLIP has no such part here")
        unread |= options.finish({**ignored, "belongs to a part that is off": _OPEN_CLIP_OFF})
    if "model_cfg" in config:
        unread |= dict.fromkeys(config.keys() - {"model_cfg", "preprocess_cfg"}, "beside the model")
    return _usual(fields), unread
