"""Join stages that were trained one by one to a model folder, one tensor in memory at a time."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unclip.checkpoint import Storage, read_metadata
from unclip.errors import InputError
from unclip.files import atomic_folder
from unclip.model.families import family_of
from unclip.model.folder import (
    CONFIG_FILE,
    TOKENIZERS,
    Defaults,
    ModelSource,
    bytes_in,
    check_new,
    join_sources,
    open_network,
    upsampler_names,
    write_model,
)
from unclip.model.opening import check_source, open_sources
from unclip.model.settings import StageSettings

# Networks that a stage brings along from a model.
COMPANIONS = {"decoder": ("autoencoder", "text_encoder")}
# Parts that other stages were trained on, and that are not sampled.
FROZEN = ("clip", "autoencoder")


@dataclass(frozen=True, eq=False)
class Assembled:
    """A model that was written."""

    source: ModelSource
    origins: Mapping[str, str]
    """The file or model of each network."""
    notes: Sequence[str]
    """What was chosen by default, and what could not be checked."""
    folder: Path
    num_bytes: int


def assemble(
    folder: str | Path,
    *,
    clip: str | Path | None = None,
    prior: str | Path | None = None,
    decoder: str | Path | None = None,
    autoencoder: str | Path | None = None,
    upsamplers: Sequence[str | Path] = (),
    storage: Storage | None = None,
) -> Assembled:
    """Join stages to a model in a new folder, named after it.

    Each part is the folder of a training run, a stage's file, or a model whose stage is taken. Without `clip` and
    `autoencoder`, those that the prior and the decoder were trained with are taken if their runs name them. A model's
    stages keep their sampling settings, others get those of their kind. Weights keep their number format unless
    `storage` is another. Raises `InputError` where the folder exists or a part lacks its stage, and `CheckpointError`
    for stages that do not fit each other; the folder appears whole or not at all.
    """
    folder = Path(folder)
    check_new(folder)
    stages = {stage: part for stage, part in (("prior", prior), ("decoder", decoder)) if part is not None}
    clips = {stage: path for stage, part in stages.items() if (path := _frozen_of_run(part, "clip")) is not None}
    notes: list[str] = []
    if clip is None and len({path.resolve() for path in clips.values()}) == 1:
        clip = next(iter(clips.values()))
        notes.append(f"the CLIP is {clip}, which {' and '.join(clips)} were trained with")
    elif clip is not None:
        notes += [
            f"the {stage} was trained with the CLIP {path}, not {clip}; they must be the same but for their storage"
            for stage, path in clips.items()
            if path.resolve() != _folder(clip).resolve()
        ]
    if autoencoder is None and decoder is not None and (path := _frozen_of_run(decoder, "autoencoder")) is not None:
        autoencoder = path
        notes.append(f"the autoencoder is {path}, which the decoder was trained on")
    if clip is not None:
        stages = {"clip": clip, **stages}
    if autoencoder is not None:
        stages = {**stages, "autoencoder": autoencoder}
    sources = [open_part(stage, part) for stage, part in stages.items()]
    sources += [open_part("upsampler", part) for part in upsamplers]
    if not sources:
        raise InputError("there is nothing to join; name runs, files or models for clip, prior, decoder or upsampler.")
    joined = join_sources(folder.absolute().name, sources, InputError)
    check_source(joined)
    with atomic_folder(folder) as temporary:
        write_model(joined, temporary, storage)
        num_bytes = bytes_in(temporary)
    origins = {name: weights.source for name, weights in joined.networks.items()}
    return Assembled(joined, origins, notes, folder, num_bytes)


def open_part(stage: str, part: str | Path) -> ModelSource:
    """Open one stage of a run's folder, of a file or of a model; for "upsampler", all of them.

    Raises `InputError` for a part that lacks the stage.
    """
    path, folder = Path(part).expanduser(), _folder(part)
    run = _run_settings(folder)
    # A folder without a `config.json` holds a stage alone; the one of a run has the run's settings there.
    if path.is_file() or (path.is_dir() and (run or not (folder / CONFIG_FILE).exists())):
        files = [path] if path.is_file() else sorted(path.glob(f"{stage}*.safetensors"))
        kinds = {read_metadata(file).get("kind", ""): file for file in files}
        networks = {kind: open_network(file, kind) for kind, file in kinds.items() if kind.startswith(stage)}
        if not networks:
            raise InputError(f"{part} holds no {stage}; give the folder of its run, its file, or a model that has one.")
        tokenizers = {name: kind.load(folder / file) for name, (kind, file) in TOKENIZERS.items() if name in networks}
        sampled = {name: weights for name, weights in networks.items() if name not in FROZEN}
        settings = {name: _settings(weights.config, run) for name, weights in sampled.items()}
        return ModelSource("", networks, tokenizers, Defaults(stages=settings))
    source = open_sources([part]).source
    names = upsampler_names(source.networks) if stage == "upsampler" else [stage]
    if not set(names) & source.networks.keys():
        raise InputError(f"the model {part} has no {stage}, only {', '.join(source.networks)}; give another.")
    names += [*(f"{name}_last" for name in names), *COMPANIONS.get(stage, ())]
    return ModelSource(
        "",
        {name: weights for name, weights in source.networks.items() if name in names},
        {name: tokenizer for name, tokenizer in source.tokenizers.items() if name in names},
        Defaults(stages={name: value for name, value in source.defaults.stages.items() if name in names}),
    )


def _settings(config: Any, run: Mapping[str, Any]) -> StageSettings:
    """Choose the settings of its kind for a stage; without guidance if it was not trained for it."""
    kind = family_of(config).stage
    if kind == "upsampler":
        few = config.prediction_type == "x0"
        return StageSettings(num_steps=2, sampler="dpm++") if few else StageSettings(num_steps=7, sampler="ddpm")
    if kind == "decoder":
        is_guided = run.get("image_drop_prob", 1.0) > 0.0
        return StageSettings(num_steps=16, sampler="dpm++", guidance_scale=1.5 if is_guided else 1.0)
    is_guided = run.get("text_drop_prob", 1.0) > 0.0
    return StageSettings(num_steps=25, sampler="ddpm", guidance_scale=2.5 if is_guided else 1.0)


def _run_settings(folder: Path) -> Mapping[str, Any]:
    """Read the task from the settings of the run in a folder; empty if there is no run."""
    try:
        content = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    task = content.get("task") if isinstance(content, dict) else None
    return task if isinstance(task, dict) else {}


def _frozen_of_run(part: str | Path, name: str) -> Path | None:
    """Return the folder of the CLIP or the autoencoder that a run learned from, if it is still there."""
    folder = _run_settings(_folder(part)).get(name)
    return Path(folder) if folder and (Path(folder) / f"{name}.safetensors").exists() else None


def _folder(part: str | Path) -> Path:
    path = Path(part).expanduser()
    return path.parent if path.is_file() else path
