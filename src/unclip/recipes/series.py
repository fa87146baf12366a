"""Recipes trained one after the other into a model folder. Knows their order and time; not their settings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image

from unclip.checkpoint import Storage
from unclip.data import load_shards
from unclip.errors import InputError, did_you_mean
from unclip.pipelines import BASIS_FILE, Defaults, Model, UnClip
from unclip.progress import say
from unclip.recipes import emoji
from unclip.recipes.names import get_recipe
from unclip.recipes.stages import Progress, Stage, train_stages
from unclip.training import DataConfig, TrainConfig, stop_on_signal

__all__ = ["SERIES", "Series", "assemble", "fit_basis", "train_series"]


class Series(NamedTuple):
    """Recipes in the order of their needs, each with its share of the time, and how the model is sampled."""

    shares: Mapping[str, float]
    defaults: Defaults


SERIES = {
    "emoji": Series(
        {
            "emoji/clip": 0.12,
            "emoji/upsampler_256": 0.12,
            "emoji/upsampler_1024": 0.16,
            "emoji/decoder": 0.42,
            "emoji/prior": 0.18,
        },
        emoji.DEFAULTS,
    )
}


def train_series(
    name: str, out: Path | str, *, minutes: float | None = None, smoke: bool = False, device: str = "auto"
) -> Path | None:
    """Train every recipe of the series into `out/<stage>`, then join them to `out/model`, which is returned.

    `minutes` is shared among the recipes. None is returned after SIGINT or SIGTERM: the same call goes on with the
    stage that was interrupted. After a whole round the same call begins another one, in which each recipe resumes, but
    for CLIP, since the other stages have been trained on its embeddings. Raises `InputError` for an unknown series.
    """
    if name not in SERIES:
        raise InputError(f"there is no series {name!r}; {did_you_mean(name, SERIES)}")
    out, series = Path(out), SERIES[name]
    configs = [relocate(get_recipe(recipe, smoke), out) for recipe in series.shares]
    stages = [Stage(config=config, share=series.shares[config.name]) for config in configs]
    with stop_on_signal() as stopped:
        if not train_stages(_round(stages, out), out, stopped, minutes=minutes, device=device):
            return None
    model = assemble(name, [stage.name for stage in stages], series.defaults, out)
    fit_basis(model, configs[0].data)
    return model


def assemble(name: str, stages: Sequence[str], defaults: Defaults, out: Path | str, storage: Storage = "int8") -> Path:
    """Join trained stages, each in its folder below `out`, to the model folder `out/model`, which is returned."""
    out = Path(out)
    folders = {stage: out / stage for stage in stages}
    UnClip(Model.assemble(name, folders, defaults, "cpu", torch.float32)).save(out / "model", storage)
    return out / "model"


def fit_basis(model: Path, data: DataConfig) -> None:
    """Put the principal components of the training pictures' embeddings into a model folder, for `probe`."""
    pipe = UnClip.load(model, "cpu")
    pictures = load_shards(data.folder, pipe.clip.clip.config.image_size).images
    pipe.fit_basis(Image.fromarray(pixels) for pixels in pictures).save(model / BASIS_FILE)


def relocate(config: TrainConfig, out: Path) -> TrainConfig:
    """The recipe with its data and its CLIP below `out`."""
    data = config.data.replace(folder=str(out / Path(config.data.folder).name))
    has_clip = "clip" in type(config.task).model_fields
    task = config.task.replace(clip=out / "clip") if has_clip else config.task
    return config.replace(data=data, task=task)


def _round(stages: Sequence[Stage], out: Path) -> list[Stage]:
    """The stages of this call: a round that was interrupted, or a new one, without a CLIP that others hang on."""
    others, progress = [stage for stage in stages if stage.name != "clip"], Progress.load(out)
    if all(progress.of(stage.name).is_finished for stage in others):
        progress = Progress()
        progress.save(out)
    if progress.of("clip").is_finished or not any((out / name).exists() for name in ("prior", "decoder")):
        return list(stages)
    say(f"{stages[0].config.name}  left as it is: other stages were trained on it")
    return others
