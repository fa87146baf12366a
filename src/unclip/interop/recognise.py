"""What a file or folder of others is, and who imports it, or what else it looks like. Reads no weights.

Files are told by the names of their tensors, folders by their `model_index.json`, `config.json` or what lies in them.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from unclip.errors import CheckpointError
from unclip.interop.clip_files import clip_stems, import_clip
from unclip.interop.dalle2_files import import_dalle2
from unclip.interop.kandinsky_folder import ORIGINAL_FILES, import_kandinsky, import_kandinsky_original
from unclip.interop.kandinsky_folder import PIPELINES as KANDINSKY
from unclip.interop.karlo import import_karlo
from unclip.interop.rules import ForeignModel
from unclip.interop.sources import open_weights, pick_files, read_index, read_json
from unclip.interop.unclip_folder import PIPELINES, import_unclip

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

    Files of a folder that are no known weights are left behind where others are, with a line that names them. Raises
    `CheckpointError` for what is damaged or unknown (with what it looks like), `ConfigError` for what has options that
    we have no equal of.
    """
    models: list[ForeignModel] = []
    files: list[Path] = []
    strays: dict[str, str] = {}
    for path in paths:
        found = _from_folder(path) if path.is_dir() else None
        if found is not None:
            models.append(found)
        elif path.is_dir():
            known, unknown = _weights_in(path)
            files += known
            strays |= unknown
        else:
            files.append(path)
    models += _from_files(files)
    return [replace(models[0], dropped={**models[0].dropped, **strays}), *models[1:]] if strays else models


def needed_weights(folder: Path, names: Sequence[str]) -> list[str]:
    """Return the weights files that importing `folder` would open if it held all of `names` (paths with "/").

    Its JSON files have to be there already. Raises like `import_foreign` for a folder of a kind that is not read.
    """
    parts: dict[str, list[str]] = {}
    for path in map(PurePosixPath, names):
        parts.setdefault(str(path.parent), []).append(path.name)
    wanted: list[str] = []
    if (folder / INDEX).exists():
        for part in sorted(parts.keys() & _pipeline(folder)[1].keys()):
            wanted += [f"{part}/{name}" for name in pick_files(folder / part, parts[part])]
        return wanted
    top = parts.get(".", [])
    if ORIGINAL_FILES["decoder"] in top:
        words = ORIGINAL_FILES["text_encoder"]
        wanted = [f"{words}/{name}" for name in pick_files(folder / words, parts.get(words, []))]
        return wanted + [name for name in top if name in ORIGINAL_FILES.values()]
    if stems := clip_stems(folder):
        return pick_files(folder, top, stems)
    safe = {name for name in top if name.endswith(WEIGHTS[0])}
    return [name for name in top if name in safe or (name.endswith(WEIGHTS) and not _has_copy(name, safe))]


def _has_copy(name: str, others: set[str]) -> bool:
    """Whether safetensors of the same name are among `others`."""
    return name.rpartition(".")[0] + WEIGHTS[0] in others


def _pipeline(folder: Path) -> tuple[str, dict[str, str]]:
    """Class of the pipeline in a folder of diffusers, and those of its components; raises where it is not read."""
    index = read_index(folder, read_json(folder / INDEX))
    if index.kind not in PIPELINES and index.kind not in KANDINSKY:
        raise CheckpointError(f"{folder} looks like a {index.kind} of diffusers, which is not read; known are {KNOWN}.")
    return index.kind, index.components


def _from_folder(folder: Path) -> ForeignModel | None:
    """The model that a folder as a whole is; None where single files of it must be looked at."""
    if (folder / INDEX).exists():
        importer = import_unclip if _pipeline(folder)[0] in PIPELINES else import_kandinsky
        return importer(folder, read_json(folder / INDEX))
    if (folder / ORIGINAL_FILES["decoder"]).exists():
        return import_kandinsky_original(folder)
    if (folder / CONFIG).exists() and (kind := read_json(folder / CONFIG).get("_class_name")):
        raise CheckpointError(f"{folder} looks like a part ({kind}) of a diffusers folder; give the whole folder.")
    return import_clip(folder) if clip_stems(folder) else None


def _weights_in(folder: Path) -> tuple[list[Path], dict[str, str]]:
    """The known weights files in a folder, and what the others look like; raises where there is none of the known."""
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
    safe = {path.name for path in weights if path.suffix == WEIGHTS[0]}
    copies = {path for path in weights if path.suffix != WEIGHTS[0] and _has_copy(path.name, safe)}
    strays = {path: why for path in weights if path not in copies and (why := _stray(path)) is not None}
    if len(strays) == len(weights) - len(copies):
        first = next(iter(strays))
        raise CheckpointError(f"{first} {strays[first]}; known are {KNOWN}.")
    strays |= dict.fromkeys(copies, "safetensors of the same name are read instead")
    return [path for path in weights if path not in strays], {path.name: why for path, why in strays.items()}


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
    if looks := _stray(path):
        raise CheckpointError(f"{path} {looks}; known are {KNOWN}.")
    names = open_weights(path).tensors.keys()
    if names == STATISTICS:
        return "karlo"
    return next(
        kind
        for kind, hallmarks in HALLMARKS.items()
        if any(name.startswith(hallmarks) or name.endswith(hallmarks) for name in names)
    )


def _stray(path: Path) -> str | None:
    """What a file looks like that no importer reads; None for one of a known kind."""
    names = open_weights(path).tensors.keys()
    hallmarks = tuple(mark for marks in HALLMARKS.values() for mark in marks)
    if names == STATISTICS or any(name.startswith(hallmarks) or name.endswith(hallmarks) for name in names):
        return None
    looks = next((what for part, what in OTHERS.items() if any(part in name for name in names)), None)
    return (
        f"looks like {looks}" if looks else f"holds {len(names)} tensors that tell nothing ({next(iter(names))!r}, …)"
    )
