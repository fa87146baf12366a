"""Recognise the format of third-party weights and choose the importer; no weights are read.

Files are recognised by the names of their tensors, folders by their `model_index.json`, `config.json` or files.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from unclip.errors import CheckpointError
from unclip.interop.clip_files import clip_stems, import_clip
from unclip.interop.dalle2_files import import_dalle2
from unclip.interop.kandinsky import ORIGINAL_FILES, import_kandinsky, import_kandinsky_original
from unclip.interop.kandinsky import PIPELINES as KANDINSKY
from unclip.interop.karlo import import_karlo
from unclip.interop.rules import ForeignModel
from unclip.interop.sources import PipelineIndex, open_weights, pick_files, read_index, read_json
from unclip.interop.unclip import PIPELINES as UNCLIP
from unclip.interop.unclip import import_unclip

INDEX, CONFIG = "model_index.json", "config.json"
WEIGHTS = (".safetensors", ".ckpt", ".pth", ".pt", ".th", ".bin")
# The mean and the standard deviation of CLIP's embeddings, in a file beside a prior.
STATISTICS = {"0", "1"}
# By kind, the beginnings or ends of names of tensors that only this kind has.
HALLMARKS = {
    "karlo": ("state_dict.model.prd_emb", "state_dict.model.cf_param", "state_dict.model_first_steps."),
    # These may hold a CLIP too.
    "dalle2": ("learned_query", "to_time_hiddens.1.weight"),
    "clip": ("visual.class_embedding", "token_embedding.weight"),
}
# Weights that people may try, by a part of a tensor's name.
UNSUPPORTED = {
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
    """Open the models, or parts of models, at `paths`; no weights are read.

    Files of a folder that are no known weights are named in `dropped` of the first model if there are known ones.
    Raises `CheckpointError` for damaged and unknown files (with what they look like), `ConfigError` for options that
    ours do not have.
    """
    models: list[ForeignModel] = []
    files: list[Path] = []
    strays: dict[str, str] = {}
    for path in paths:
        if not path.is_dir():
            files.append(path)
        elif model := _from_folder(path):
            models.append(model)
        else:
            known, unknown = _weights_in(path)
            files += known
            strays |= unknown
    models += _from_files(files)
    return [replace(models[0], dropped={**models[0].dropped, **strays}), *models[1:]] if strays else models


def needed_weights(folder: Path, names: Sequence[str]) -> list[str]:
    """Return the weights files that importing `folder` would open if it held all of `names` (paths with "/").

    Its JSON files have to be there already. Raises like `import_foreign` for a folder of an unknown kind.
    """
    parts: dict[str, list[str]] = {}
    for path in map(PurePosixPath, names):
        parts.setdefault(str(path.parent), []).append(path.name)
    if (folder / INDEX).exists():
        components = sorted(parts.keys() & _pipeline(folder).components.keys())
        return [f"{part}/{name}" for part in components for name in pick_files(folder / part, parts[part])]
    top = parts.get(".", [])
    if ORIGINAL_FILES["decoder"] in top:
        part = ORIGINAL_FILES["text_encoder"]
        encoder = [f"{part}/{name}" for name in pick_files(folder / part, parts.get(part, []))]
        return encoder + [name for name in top if name in ORIGINAL_FILES.values()]
    if stems := clip_stems(folder):
        return pick_files(folder, top, stems)
    copies = _copies(top)
    return [name for name in top if name.endswith(WEIGHTS) and name not in copies]


def _copies(names: Sequence[str]) -> set[str]:
    """Find the weights files of which there are safetensors of the same name."""
    safe = {name for name in names if name.endswith(WEIGHTS[0])}
    others = [name for name in names if name.endswith(WEIGHTS[1:])]
    return {name for name in others if name.rpartition(".")[0] + WEIGHTS[0] in safe}


def _pipeline(folder: Path) -> PipelineIndex:
    """Read the index of a diffusers folder; raises `CheckpointError` for an unknown pipeline."""
    index = read_index(folder, read_json(folder / INDEX))
    if index.kind not in UNCLIP and index.kind not in KANDINSKY:
        raise CheckpointError(f"{folder} looks like a {index.kind} of diffusers, which is not read; known are {KNOWN}.")
    return index


def _from_folder(folder: Path) -> ForeignModel | None:
    """Open a folder that is one model as a whole; None if its files must be looked at one by one."""
    if (folder / INDEX).exists():
        importer = import_unclip if _pipeline(folder).kind in UNCLIP else import_kandinsky
        return importer(folder, read_json(folder / INDEX))
    if (folder / ORIGINAL_FILES["decoder"]).exists():
        return import_kandinsky_original(folder)
    if (folder / CONFIG).exists() and (kind := read_json(folder / CONFIG).get("_class_name")):
        raise CheckpointError(f"{folder} looks like a part ({kind}) of a diffusers folder; give the whole folder.")
    return import_clip(folder) if clip_stems(folder) else None


def _weights_in(folder: Path) -> tuple[list[Path], dict[str, str]]:
    """Sort the weights files in a folder into known ones, and others with the reason; raises if none is known."""
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    weights = [path for path in paths if path.suffix in WEIGHTS]
    if not weights:
        folders = sorted(path.name for path in folder.iterdir() if path.is_dir())
        shown = ", ".join([*folders, *(path.name for path in paths)][:3])
        if folders:
            looks = f"has neither weights nor a {INDEX} ({shown}, … are there); fetch the whole folder"
        else:
            looks = f"has {len(paths)} files ({shown}), none of them weights" if paths else "is an empty folder"
        raise CheckpointError(f"{folder} {looks}; known are {KNOWN}.")
    copies = _copies([path.name for path in weights])
    strays = {path.name: why for path in weights if path.name not in copies and (why := _recognise(path)[1])}
    if len(strays) == len(weights) - len(copies):
        name, looks = next(iter(strays.items()))
        raise CheckpointError(f"{folder / name} {looks}; known are {KNOWN}.")
    strays |= dict.fromkeys(copies, "safetensors of the same name are read instead")
    return [path for path in weights if path.name not in strays], strays


def _from_files(files: Sequence[Path]) -> list[ForeignModel]:
    """Open single files: Karlo's make one model, with the CLIP that lies beside them; each of the others is one."""
    kinds: dict[str, list[Path]] = {kind: [] for kind in HALLMARKS}
    for path in files:
        kind, looks = _recognise(path)
        if looks:
            raise CheckpointError(f"{path} {looks}; known are {KNOWN}.")
        kinds[kind].append(path)
    models = [import_karlo([*kinds["karlo"], *kinds["clip"]])] if kinds["karlo"] else []
    models += map(import_dalle2, kinds["dalle2"])
    return models if kinds["karlo"] else [*models, *map(import_clip, kinds["clip"])]


def _recognise(path: Path) -> tuple[str, str]:
    """Return the kind of a weights file, one of `HALLMARKS`, and "", or for other files what they look like."""
    names = open_weights(path).tensors.keys()
    if names == STATISTICS:
        return "karlo", ""
    for kind, hallmarks in HALLMARKS.items():
        if any(name.startswith(hallmarks) or name.endswith(hallmarks) for name in names):
            return kind, ""
    looks = next((what for part, what in UNSUPPORTED.items() if any(part in name for name in names)), None)
    unknown = f"holds {len(names)} tensors that match no known model ({next(iter(names))!r}, …)"
    return "", f"looks like {looks}" if looks else unknown
