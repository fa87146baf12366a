"""CLIP by itself, of OpenAI, transformers or open_clip, as a foreign model; and what other models keep of it."""

from pathlib import Path

from torch import Tensor

from unclip.clip import Tokenizer
from unclip.clip.model import PIXEL_MEAN, PIXEL_STD
from unclip.errors import CheckpointError, ConfigError
from unclip.interop.clip import (
    Resize,
    clip_from_clip_model,
    clip_from_open_clip,
    clip_from_openai,
    clip_from_transformers,
)
from unclip.interop.foreign import ForeignModel, ForeignNetwork
from unclip.interop.options import require
from unclip.interop.sources import open_component, open_part, open_weights, read_json

__all__ = ["clip_statistics", "import_clip", "openai_clip", "picture_resize"]

OPEN_CLIP_CONFIG = "open_clip_config.json"
OPEN_CLIP_STEMS = ("open_clip_model", "open_clip_pytorch_model")
# What a picture goes through, but for its size.
PREPARATION = {
    "do_resize": True,
    "resample": 3,  # bicubic
    "do_rescale": True,
    "do_normalize": True,
    "image_mean": list(PIXEL_MEAN),
    "image_std": list(PIXEL_STD),
}
# OpenAI's archives tell their sizes in tensors too.
OPENAI_HALLMARK = "input_resolution"


def import_clip(path: Path) -> ForeignModel:
    """The CLIP in OpenAI's TorchScript, a weights file of open_clip, or a folder of open_clip or transformers.

    Its tokenizer is the one beside it, else OpenAI's. Raises `CheckpointError` for files that are missing, damaged or
    something else, and `ConfigError` for a configuration that we have no equal of.
    """
    folder = path if path.is_dir() else path.parent
    if not path.is_dir():
        kind, network = _from_file(path)
    elif (folder / "config.json").exists():
        kind, network = _from_transformers(folder)
    else:
        options = read_json(folder / OPEN_CLIP_CONFIG)
        tensors = open_component(folder, OPEN_CLIP_STEMS)
        kind, network = "open_clip's", clip_from_open_clip(tensors, str(folder), options)
    return ForeignModel.of(f"a CLIP of {kind}", {"clip": network}, {"clip": _tokenizer(folder)}, {})


def openai_clip(path: Path, resize: Resize) -> ForeignNetwork:
    """The CLIP in OpenAI's TorchScript; `resize` is what the model around it does to pictures."""
    return clip_from_openai(open_weights(path).tensors, str(path), resize=resize)


def clip_statistics(path: Path, dim: int) -> tuple[Tensor, Tensor]:
    """Mean and deviation of image embeddings (`ViT-L-14_stats.th`); `CheckpointError` unless `dim` numbers each."""
    tensors = open_weights(path).tensors
    if {name: value.shape for name, value in tensors.items()} != {"0": (dim,), "1": (dim,)}:
        found = ", ".join(f"{name} {value.shape}" for name, value in list(tensors.items())[:3])
        raise CheckpointError(f"{path} should hold a mean and a deviation of {dim} numbers each; it holds {found}.")
    return tensors["0"].read().float(), tensors["1"].read().float()


def picture_resize(folder: Path) -> Resize:
    """How the `preprocessor_config.json` in a folder makes pictures square; the middle of them if there is none.

    Raises `ConfigError` for another preparation than CLIP's.
    """
    path = folder / "preprocessor_config.json"
    options = read_json(path) if path.exists() else {}
    for name, allowed in PREPARATION.items():
        require(str(path), name, options.get(name, allowed), allowed)
    crops = options.get("do_center_crop", True)
    given = [options.get(name, {}) for name in (("size", "crop_size") if crops else ("size",))]
    sides = {side for size in given for side in (size.values() if isinstance(size, dict) else [size])}
    if len(sides) > 1:
        raise ConfigError(f"{path}: pictures of {sorted(sides)} pixels are not supported; size and crop must be one.")
    return "crop" if crops else "squash"


def _from_file(path: Path) -> tuple[str, ForeignNetwork]:
    tensors, beside = open_weights(path).tensors, path.parent / OPEN_CLIP_CONFIG
    if OPENAI_HALLMARK in tensors:
        return "OpenAI's", openai_clip(path, "crop")
    options = read_json(beside) if beside.exists() else None
    return "open_clip's", clip_from_open_clip(tensors, str(path), options)


def _from_transformers(folder: Path) -> tuple[str, ForeignNetwork]:
    config, source = read_json(folder / "config.json"), str(folder)
    match config.get("architectures"):
        case ["CLIPModel"]:
            found = clip_from_clip_model(open_part(folder), source, resize=picture_resize(folder))
        case ["CLIPTextModelWithProjection"]:
            found = clip_from_transformers(open_part(folder), None, source)
        case other:
            raise ConfigError(
                f"{folder}/config.json is of {other}, no CLIP that reads texts; give the folder of a CLIPModel or "
                "CLIPTextModelWithProjection."
            )
    return "transformers", found


def _tokenizer(folder: Path) -> Tokenizer:
    there = any((folder / name).exists() for name in ("tokenizer.json", "vocab.json"))
    return Tokenizer.from_folder(folder) if there else Tokenizer.openai()
