"""CLIP in files and folders of OpenAI, transformers and open_clip, alone or as a part of another model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from unclip.checkpoint import LazyTensor
from unclip.clip import Tokenizer
from unclip.clip.config import PRESETS
from unclip.clip.model import PIXEL_MEAN, PIXEL_STD
from unclip.errors import CheckpointError, ConfigError
from unclip.interop.clip import (
    Resize,
    clip_from_clip_model,
    clip_from_open_clip,
    clip_from_openai,
    clip_from_transformers,
)
from unclip.interop.options import one_side, require
from unclip.interop.rules import ForeignModel, ForeignNetwork, Tensors
from unclip.interop.sources import STEMS, Component, open_component, open_weights, read_json

OPEN_CLIP_CONFIG = "open_clip_config.json"
OPEN_CLIP_STEMS = ("open_clip_model", "open_clip_pytorch_model")
# CLIP's preparation of a picture, but for its size.
PREPARATION = {
    "do_resize": True,
    "resample": 3,  # bicubic
    "do_rescale": True,
    "do_normalize": True,
    "image_mean": list(PIXEL_MEAN),
    "image_std": list(PIXEL_STD),
}
# Further options that have one value here, or that change no pixel.
PREPARATION_FIXED = {"rescale_factor": 1 / 255, "do_pad": False, "pad_size": None, "size_divisor": None}
PREPARATION_IDLE = {
    *("size", "crop_size", "do_center_crop", "do_convert_rgb", "use_square_size", "default_to_square"),
    *("image_processor_type", "processor_class", "feature_extractor_type", "data_format", "input_data_format"),
    *("return_tensors", "device", "disable_grouping", "image_seq_length"),
}
# OpenAI's archives hold their sizes as tensors, too.
OPENAI_HALLMARK = "input_resolution"
# Ends of a name in every CLIP that reads texts, in the layouts of transformers and of open_clip and OpenAI.
TEXT_ENDINGS = ("text_model.embeddings.token_embedding.weight", "text.token_embedding.weight", "token_embedding.weight")
CLIP_CLASSES = ("CLIPModel", "CLIPTextModelWithProjection")
# The presets of the models that open_clip trains, by its names.
OPEN_CLIP_MODELS = {
    f"ViT-{name}": f"vit-{name.lower()}" for name in ("B-32", "B-16", "L-14", "L-14-336", "H-14", "bigG-14")
}


def import_clip(path: Path) -> ForeignModel:
    """Open the CLIP in a file of OpenAI, open_clip or transformers, or in a folder of open_clip or transformers.

    A file may be a checkpoint of training. Its config is in the JSON beside it, or in the `params.txt` of open_clip's
    run. Its tokenizer is the one beside it, else OpenAI's. Raises `CheckpointError` for files that are missing, damaged
    or something else, and `ConfigError` for options that ours does not have.
    """
    is_folder, source = path.is_dir(), str(path)
    folder = path if is_folder else path.parent
    if is_folder:
        stems, dropped = clip_stems(path) or OPEN_CLIP_STEMS, dict[str, str]()
        is_transformers = stems == STEMS
        options = None if is_transformers else read_json(folder / OPEN_CLIP_CONFIG)
        tensors = open_component(path, stems)
    else:
        tensors, dropped, is_transformers = _unwrapped(path)
    if is_transformers:
        kind, network = "transformers", _from_transformers(folder, tensors, source)
    elif OPENAI_HALLMARK in tensors and not is_folder:
        kind, network = "OpenAI's", clip_from_openai(tensors, source)
    else:
        if not is_folder:
            config = folder / OPEN_CLIP_CONFIG
            options = read_json(config) if config.exists() else _training_options(path)
        kind, network = "open_clip's", clip_from_open_clip(tensors, source, options)
    has_tokenizer = any((folder / name).exists() for name in ("tokenizer.json", "vocab.json"))
    tokenizer = Tokenizer.from_folder(folder) if has_tokenizer else Tokenizer.openai()
    return ForeignModel.of(f"a CLIP of {kind}", {"clip": network.drop(dropped)}, {"clip": tokenizer}, {})


def clip_stems(folder: Path) -> tuple[str, ...] | None:
    """Return the stems of the weights files of the CLIP in a folder, by its JSON files; None without these.

    The layout of transformers goes before that of open_clip. Raises `ConfigError` for another model of
    transformers than a CLIP that reads texts.
    """
    config = read_json(folder / "config.json") if (folder / "config.json").exists() else {}
    is_open_clip = (folder / OPEN_CLIP_CONFIG).exists()
    match config.get("architectures"):
        case [kind] if kind in CLIP_CLASSES:
            return STEMS
        case None:
            return OPEN_CLIP_STEMS if is_open_clip else None
        case _ if is_open_clip:
            return OPEN_CLIP_STEMS
        case other:
            raise ConfigError(
                f"{folder}/config.json is of {other}, no CLIP that reads texts; give the folder of a CLIPModel or "
                "CLIPTextModelWithProjection."
            )


def openai_clip(path: Path, resize: Resize) -> ForeignNetwork:
    """Open the CLIP in OpenAI's TorchScript; `resize` is how the model around it makes pictures square.

    Raises `CheckpointError` for a CLIP that may be open_clip's, whose names and shapes are the same.
    """
    tensors = open_weights(path).tensors
    if OPENAI_HALLMARK not in tensors:
        raise CheckpointError(
            f"{path} is no CLIP as OpenAI published it (it has no {OPENAI_HALLMARK!r}); give ViT-L-14.pt."
        )
    return clip_from_openai(tensors, str(path), resize=resize)


def clip_statistics(path: Path, dim: int) -> tuple[Tensor, Tensor]:
    """Read mean and deviation of embeddings (`ViT-L-14_stats.th`); `CheckpointError` unless `dim` numbers each."""
    tensors = open_weights(path).tensors
    if {name: value.shape for name, value in tensors.items()} != {"0": (dim,), "1": (dim,)}:
        shown = ", ".join(f"{name} {value.shape}" for name, value in list(tensors.items())[:3])
        raise CheckpointError(f"{path} should hold a mean and a deviation of {dim} numbers each; it holds {shown}.")
    return tensors["0"].read().float(), tensors["1"].read().float()


def clip_of_parts(text: Component, vision: Component | None, processor: Path, source: str) -> ForeignNetwork:
    """Import the CLIP of a pipeline from its encoders and the folder of its image processor."""
    size = vision.config.get("image_size", 224) if vision else None
    return clip_from_transformers(text, vision, source, resize=picture_resize(processor, size))


def picture_resize(folder: Path, image_size: object = None) -> Resize:
    """Read how the image processor of transformers in a folder makes pictures square; without one, by a crop.

    Raises `ConfigError` for another preparation than CLIP's, and for pictures of another side than `image_size`.
    """
    path = folder / "preprocessor_config.json"
    options = read_json(path) if path.exists() else {}
    if not options and (folder / "processor_config.json").exists():
        # Newer versions write the processors of texts and pictures into one file.
        path = folder / "processor_config.json"
        options = read_json(path).get("image_processor") or {}
    fixed = PREPARATION | PREPARATION_FIXED
    require(str(path), fixed | {name: value for name, value in options.items() if value is not None}, fixed)
    others = options.keys() - fixed.keys() - PREPARATION_IDLE
    if unknown := sorted(name for name in others if options[name] and not name.startswith("_")):
        raise ConfigError(f"{path}: {unknown[0]}={options[unknown[0]]!r} is not supported; CLIP's processor has none.")
    crops = options.get("do_center_crop") is not False
    crop = _side(path, options, "crop_size") if crops else None
    sides: set[Any] = {_side(path, options, "size"), crop, one_side(str(path), "image_size", image_size)} - {None}
    if len(sides) > 1:
        raise ConfigError(f"{path}: pictures of {sorted(sides)} pixels are not supported; size and crop must be one.")
    # A single side is that of the shorter edge; two sides leave nothing to crop.
    value = options.get("size")
    squashes = isinstance(value, list) or (isinstance(value, dict) and "height" in value)
    return "squash" if squashes or not crops or options.get("use_square_size") else "crop"


def _side(path: Path, options: Mapping[str, Any], name: str) -> int | None:
    """Return the side of a square from an option in any form that transformers reads; None if it is absent."""
    match options.get(name):
        case None:
            return None
        case {"shortest_edge": side, **others} if not others:
            pass
        case {"height": height, "width": width, **others} if not others:
            side = one_side(str(path), name, [height, width])
        case value:
            side = one_side(str(path), name, value)
    if not isinstance(side, int) or isinstance(side, bool) or side < 1:
        raise ConfigError(
            f"{path}: {name}={options[name]!r} is no size of square pictures; give a number, shortest_edge, or height "
            "and width."
        )
    return side


def _unwrapped(path: Path) -> tuple[dict[str, LazyTensor], dict[str, str], bool]:
    """Take the weights out of the containers and wrappers of training (state_dict, module).

    Return also the rest of the file, with the reason for leaving it out, and whether the names are transformers'.
    """
    tensors = open_weights(path).tensors
    for ending in TEXT_ENDINGS:
        name = next((name for name in tensors if f".{name}".endswith(f".{ending}")), None)
        if name is not None:
            start = name.removesuffix(ending)
            inside = {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
            others = sorted({name.split(".")[0] for name in tensors if not name.startswith(start)})
            dropped = dict.fromkeys(others, f"the weights are taken from {start.removesuffix('.')!r}")
            return inside, dropped, ending.startswith("text_model.")
    raise CheckpointError(f"{path} holds no CLIP that reads texts: no tensor is called {TEXT_ENDINGS[-1]!r}.")


def _from_transformers(folder: Path, tensors: Tensors, source: str) -> ForeignNetwork:
    """Import `tensors` by the `config.json` in a folder."""
    if not (folder / "config.json").exists():
        raise CheckpointError(
            f"{source} is a CLIP of transformers, whose shapes do not show the numbers of heads and the activation; "
            "put its config.json beside it."
        )
    config = read_json(folder / "config.json")
    match config.get("architectures"):
        case ["CLIPModel"]:
            resize = picture_resize(folder, (config.get("vision_config") or {}).get("image_size", 224))
            return clip_from_clip_model(Component(config, tensors), source, resize=resize)
        case ["CLIPTextModelWithProjection"]:
            return clip_from_transformers(Component(config, tensors), None, source)
    raise ConfigError(
        f"{folder}/config.json is of {config.get('architectures')}, no CLIP that reads texts, but {source} is one; put "
        "the config.json of this CLIP beside it."
    )


def _training_options(path: Path) -> dict[str, Any] | None:
    """Read the config of a checkpoint from the `params.txt` of open_clip's run, as an `open_clip_config.json`.

    None if there is no such file, beside the checkpoint or above it, or the model is unknown.
    """
    places = (folder / "params.txt" for folder in (path.parent, path.parent.parent))
    file = next((place for place in places if place.exists()), None)
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file else []
    params = {name: value for name, colon, value in (line.partition(": ") for line in lines) if colon}
    model = params.get("model", "")
    preset = OPEN_CLIP_MODELS.get(model.removesuffix("-quickgelu"))
    if preset is None:
        return None
    config = PRESETS[preset]
    is_quick = model.endswith("-quickgelu") or params.get("force_quick_gelu") == "True"
    preparation = {
        "mean": _json(params.get("image_mean")),
        "std": _json(params.get("image_std")),
        "interpolation": params.get("image_interpolation"),
        "resize_mode": params.get("image_resize_mode"),
    }
    return {
        "model_cfg": {
            "embed_dim": config.embedding_dim,
            "quick_gelu": is_quick,
            "vision_cfg": {
                "width": config.vision_width,
                "head_width": config.vision_width // config.vision_heads,
                # open_clip truncates the product to a whole number.
                "mlp_ratio": ((config.vision_ff_dim or 4 * config.vision_width) + 0.5) / config.vision_width,
            },
            "text_cfg": {"width": config.text_width, "heads": config.text_heads},
        },
        "preprocess_cfg": {name: value for name, value in preparation.items() if value not in (None, "None")},
    }


def _json(text: str | None) -> Any:
    """Parse a list of numbers; None for other text, such as the "None" of an option that was not set."""
    try:
        return json.loads((text or "").replace("(", "[").replace(")", "]"))
    except ValueError:
        return None
