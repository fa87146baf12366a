"""The command `train`: a recipe changed by --set, a series of recipes, or the quickstart."""

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from unclip.cli.options import Changes, Device, parse_changes
from unclip.errors import InputError
from unclip.progress import say, show_progress

if TYPE_CHECKING:
    from unclip.training import TrainConfig


def train(
    recipe: Annotated[str, Argument(help="Such as emoji/decoder; emoji for all its stages; or quickstart.")],
    source: Annotated[str | None, Argument(help="Of quickstart: your pictures, as `unclip data` reads.")] = None,
    out: Annotated[Path | None, Option("-o", "--out", help="Run folder; else runs/RECIPE, runs/smoke/RECIPE.")] = None,
    minutes: Annotated[float | None, Option(help="Stop and save after this time; quickstart: 25.")] = None,
    changes: Changes = None,
    smoke: Annotated[bool, Option("--smoke", help="Train a tiny model for seconds.")] = False,
    allow_changes: Annotated[
        bool, Option("--allow-changes", help="Go on with a run whose settings were others; shows what changes.")
    ] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Print the settings and stop.")] = False,
    captions: Annotated[str | None, Option(help="Of quickstart: txt, table, folders; else found out.")] = None,
    clip: Annotated[str | None, Option(help="Of quickstart: a model whose CLIP to use, not train.")] = None,
    seed: Annotated[int | None, Option(help="Of quickstart; else 0.")] = None,
    device: Device = "auto",
) -> None:
    """Train a stage, a series of them, or a model of your own pictures; the same command again resumes."""
    overrides = parse_changes(changes)
    if minutes is not None and not 0 < minutes < math.inf:
        raise InputError(f"--minutes {minutes} is not a time; give a number above 0.")
    of_one_recipe = {"--set": overrides, "--dry-run": dry_run, "--allow-changes": allow_changes}
    if recipe == "quickstart":
        _refuse(of_one_recipe, "changes one recipe; quickstart chooses its settings by itself")
        if source is None:
            raise InputError("quickstart needs your pictures: unclip train quickstart FOLDER.")
        from unclip.config import load_config
        from unclip.recipes import Quickstart, quickstart

        settings = {"source": source, "captions": captions, "clip": clip, "seed": seed or 0, "smoke": smoke}
        request = load_config(Quickstart, settings | ({} if minutes is None else {"minutes": minutes}))
        # By its full path, since "." and ".." have no name of their own.
        folder = out or Path("runs") / (Path(source) if "://" in source else Path(source).resolve()).stem
        _print_model(quickstart(request, folder, device=device, progress=partial(show_progress, unit="done")))
        return
    of_quickstart = {f"the folder {source}": source, "--captions": captions, "--clip": clip, "--seed": seed is not None}
    _refuse(of_quickstart, f"belongs to quickstart, not to {recipe!r}; say: unclip train quickstart FOLDER")
    from unclip import recipes, training
    from unclip.runtime import resolve_device

    # Smoke runs have a folder of their own: a run in a folder resumes with its settings.
    folder = out or Path("runs/smoke" if smoke else "runs") / recipe
    if recipe in recipes.SERIES:
        _refuse(of_one_recipe, f"changes one recipe; {recipe!r} is a series: name {recipe}/decoder, say")
        _print_model(recipes.train_series(recipe, folder, minutes=minutes, smoke=smoke, device=device))
        return
    # Whoever names a folder means what is in it: one that is missing is not filled with emoji.
    if "data.folder" in overrides and overrides.setdefault("data.emoji_split", "null") != "train":
        overrides.setdefault("data.compositions", "0")
    config = configure(recipe, overrides, smoke)
    if dry_run:
        print(config.model_dump_json(indent=2))
        return
    if smoke:
        resolve_device(device)  # before toy inputs are made
        recipes.prepare_smoke(config)
    next_step = advice(config, folder, smoke)
    training.train(config, folder, minutes=minutes, device=device, allow_changes=allow_changes, advice=next_step)


def _refuse(options: Mapping[str, object], reason: str) -> None:
    """Raise `InputError` with the `reason` for the first of the options that is set."""
    for name in (name for name, value in options.items() if value):
        raise InputError(f"{name} {reason}.")


def _print_model(folder: Path | None) -> None:
    """Print the model's folder; nothing after a signal, when stderr has said what to do."""
    if folder is not None:
        print(folder)


def configure(recipe: str, overrides: Mapping[str, str], smoke: bool = False) -> "TrainConfig":
    """Return the recipe with its changes, and with the sizes of the CLIP and the embeddings that it is trained on.

    Sizes that follow from those need not be set by hand; stderr names them. Sizes among `overrides` stay.
    """
    from unclip import recipes
    from unclip.config import override
    from unclip.training.fit import adopt_sizes

    config, adopted = adopt_sizes(override(recipes.get_recipe(recipe, smoke=smoke), overrides), overrides)
    if adopted:
        say(f"{config.name}  takes the sizes of what it is trained on: {' '.join(adopted)}")
    return config


def advice(config: "TrainConfig", out: Path, smoke: bool = False) -> str:
    """Name the command to run after this one: training the next stage that a model needs, else assembling all.

    Other stages are looked for beside `out`, where `unclip train` puts them.
    """
    from unclip.recipes import RECIPES

    series = config.name.split("/")[0]
    # Beside a decoder of pixels, an autoencoder is another model's.
    names = ["clip", *(["autoencoder"] if f"{series}/autoencoder" in RECIPES else []), "prior", "decoder"]
    trained = {name: out.parent / name for name in names if (out.parent / name / f"{name}.safetensors").exists()}
    trained |= {config.stage: out}
    frozen = {name: folder for name in ("clip", "autoencoder") if (folder := getattr(config.task, name, None))}
    trained |= frozen
    missing = next((name for name in names if name not in trained and f"{series}/{name}" in RECIPES), None)
    if missing is not None:
        needed = {"prior": ["clip"], "decoder": ["clip", "autoencoder"]}.get(missing, [])
        reads = "".join(f" --set task.{part}={trained[part]}" for part in needed if part in trained)
        return f"next: unclip train {series}/{missing}{' --smoke' if smoke else ''}{reads}"
    upsamplers = {path.parent for path in out.parent.glob("upsampler_*/upsampler_*.safetensors")}
    if config.stage.startswith("upsampler"):
        upsamplers.add(trained.pop(config.stage))
    options = [f"--{stage} {path}" for stage, path in trained.items()]
    options += [f"--upsampler {path}" for path in sorted(upsamplers)]
    return f"next: unclip assemble {out.parent / 'model'} {' '.join(options)}"
