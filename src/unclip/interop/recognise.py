"""What a file or folder of others is, and who imports it, or what else it looks like. Reads no weights.

Files are told by the names of their tensors, folders by their `model_index.json`, `config.json` or what lies in them.
"""

from collections.abc import Sequence
from pathlib import Path

from unclip.errors import CheckpointError
from unclip.interop.clip_files import OPEN_CLIP_CONFIG, import_clip
from unclip.interop.dalle2_files import import_dalle2
from unclip.interop.foreign import ForeignModel
from unclip.interop.kandinsky_folder import ORIGINAL_FILES, import_kandinsky, import_kandinsky_original
from unclip.interop.kandinsky_folder import PIPELINES as KANDINSKY
from unclip.interop.karlo import import_karlo
from unclip.interop.sources import open_weights, read_json
from unclip.interop.unclip_folder import PIPELINES, import_unclip

__all__ = ["import_foreign"]

INDEX, CONFIG = "model_index.json", "config.json"
WEIGHTS = (".safetensors", ".ckpt", ".pth", ".pt", ".th", ".bin")
# The mean and the standard deviation of CLIP's embeddings, which lie beside a prior.
STATISTICS = {"0", "1"}
# By kind, the beginnings or ends of names of tensors that only this kind has.
HALLMARKS = {
    "karlo": ("state_dict.model.prd_emb", "state_dict.model.cf_param", "state_dict.model_first_steps."),
    # These may hold a CLIP too.
    "dalle2": ("learned_query", "to_time_hiddens.1.weight"),
    "clip": ("visual.class_embedding", "token_embedding.weight"),
}
# What people may try, by a part of a tensor's name.
OTHERS = {
    "model.diffusion_model.": "a Stable Diffusion checkpoint",
    "lora_": "LoRA weights, which come on top of a model",
    "double_blocks.": "a FLUX transformer",
    "model.prd_emb": "the prior of Kandinsky 2.1; give the folder that holds all its files",
    "clip_to_seq": "the decoder of Kandinsky 2.1; give the folder that holds all its files",
    "quantize.embedding": "a VQ autoencoder; give the folder of the whole model",
    "transformer_blocks.": "a part of a diffusers folder; give the folder that holds its model_index.json",
    "down_blocks.": "a part of a diffusers folder; give the folder that holds its model_index.json",
}
KNOWN = (
    "an unCLIP or Kandinsky 2.x folder of diffusers, the original files of Karlo or of Kandinsky 2.1, a checkpoint of "
    "DALLE2-pytorch, or a CLIP"
)


def import_foreign(paths: Sequence[Path]) -> list[ForeignModel]:
    """The models, or parts of models, at `paths`, none of whose weights are read yet.

    Raises `CheckpointError` for what is damaged or unknown (with what it looks like), `ConfigError` for what has
    options that we have no equal of.
    """
    models: list[ForeignModel] = []
    files: list[Path] = []
    for path in paths:
        found = _from_folder(path) if path.is_dir() else None
        if found is not None:
            models.append(found)
        else:
            files += _weights_in(path) if path.is_dir() else [path]
    return models + _from_files(files)


def _from_folder(folder: Path) -> ForeignModel | None:
    """The model that a folder as a whole is; None where single files of it must be looked at."""
    if (folder / INDEX).exists():
        index = read_json(folder / INDEX)
        kind = index.get("_class_name")
        if kind in PIPELINES:
            return import_unclip(folder, index)
        if kind in KANDINSKY:
            return import_kandinsky(folder, index)
        raise CheckpointError(f"{folder} looks like a {kind} of diffusers, which is not read; known are {KNOWN}.")
    if (folder / ORIGINAL_FILES["decoder"]).exists():
        return import_kandinsky_original(folder)
    if (folder / OPEN_CLIP_CONFIG).exists():
        return import_clip(folder)
    if (folder / CONFIG).exists():
        config = read_json(folder / CONFIG)
        if kind := config.get("_class_name"):
            raise CheckpointError(f"{folder} looks like a part ({kind}) of a diffusers folder; give the whole folder.")
        if "architectures" in config:
            return import_clip(folder)
    return None


def _weights_in(folder: Path) -> list[Path]:
    names = sorted(path for path in folder.iterdir() if path.is_file())
    weights = [path for path in names if path.suffix in WEIGHTS]
    if not weights:
        folders = sorted(path.name for path in folder.iterdir() if path.is_dir())
        shown = ", ".join([*folders, *(path.name for path in names)][:3])
        if folders:
            looks = f"has neither weights nor a {INDEX} ({shown}, … are there); fetch the whole folder"
        else:
            looks = f"has {len(names)} files ({shown}), none of them weights" if names else "is an empty folder"
        raise CheckpointError(f"{folder} {looks}; known are {KNOWN}.")
    return weights


def _from_files(files: Sequence[Path]) -> list[ForeignModel]:
    """Karlo's files make one model, with the CLIP that lies beside them; each of the others is one."""
    kinds = {path: _kind(path) for path in files}
    karlo = [path for path, kind in kinds.items() if kind == "karlo"]
    if karlo:
        karlo += [path for path, kind in kinds.items() if kind == "clip"]
    models = [import_karlo(karlo)] if karlo else []
    models += [import_dalle2(path) for path, kind in kinds.items() if kind == "dalle2"]
    return models + [import_clip(path) for path, kind in kinds.items() if kind == "clip" and path not in karlo]


def _kind(path: Path) -> str:
    names = open_weights(path).tensors.keys()
    if names == STATISTICS:
        return "karlo"
    for kind, hallmarks in HALLMARKS.items():
        if any(name.startswith(hallmarks) or name.endswith(hallmarks) for name in names):
            return kind
    looks = next((what for part, what in OTHERS.items() if any(part in name for name in names)), None)
    seen = (
        f"looks like {looks}" if looks else f"holds {len(names)} tensors that tell nothing ({next(iter(names))!r}, …)"
    )
    raise CheckpointError(f"{path} {seen}; known are {KNOWN}.")
