"""`unclip train`: a recipe, changed by `--set`, trained into a folder. Knows options; training knows the rest."""

from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Annotated

import typer

from unclip.cli.options import Device
from unclip.errors import InputError

__all__ = ["train"]

QUICKSTART = "quickstart"
QUICKSTART_MINUTES = 25.0


def train(
    recipe: Annotated[str, typer.Argument(help="Such as emoji/decoder; emoji for all its stages; or quickstart.")],
    source: Annotated[str | None, typer.Argument(help="Of quickstart: your pictures, as `unclip data` reads.")] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Run folder; else runs/RECIPE, runs/smoke/RECIPE.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop and save after this time; quickstart: 25.")] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", help="Change a setting: key=value.")] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="Train a tiny model for seconds.")] = False,
    allow_changes: Annotated[
        bool, typer.Option("--allow-changes", help="Go on with a run whose settings were others; shows what changes.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the settings and stop.")] = False,
    captions: Annotated[str | None, typer.Option(help="Of quickstart: txt, table, folders; else found out.")] = None,
    clip: Annotated[str | None, typer.Option(help="Of quickstart: a model whose CLIP to use, not train.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of quickstart; else 0.")] = None,
    device: Device = "auto",
) -> None:
    """Train a stage, a series of them, or a model of your own pictures; the same command again resumes."""
    overrides = dict(parse_change(change) for change in changes or [])
    if minutes is not None and not 0 < minutes < inf:
        raise InputError(f"--minutes {minutes} is not a time; give a number above 0.")
    one_recipe = {"--set": overrides, "--dry-run": dry_run, "--allow-changes": allow_changes}
    if recipe == QUICKSTART:
        refuse(one_recipe, "changes one recipe; quickstart chooses its settings by itself")
        _quickstart(source, out, minutes or QUICKSTART_MINUTES, smoke, captions, clip, seed or 0, device)
        return
    own = {f"the folder {source}": source, "--captions": captions, "--clip": clip, "--seed": seed is not None}
    refuse(own, f"belongs to quickstart, not to {recipe!r}; say: unclip train quickstart FOLDER")
    from unclip import recipes, training
    from unclip.config import override

    # Apart, since the settings of a run in a folder are those that it goes on with.
    folder = out or Path("runs/smoke" if smoke else "runs") / recipe
    if recipe in recipes.SERIES:
        refuse(one_recipe, f"changes one recipe; {recipe!r} is a series: name {recipe}/decoder, say")
        tell_end(recipes.train_series(recipe, folder, minutes=minutes, smoke=smoke, device=device))
        return
    if "data.folder" in overrides:
        # Whoever names a folder means what is in it: one that is missing is not filled with emoji.
        overrides.setdefault("data.emoji_split", "null")
    config = override(recipes.get_recipe(recipe, smoke=smoke), overrides)
    if dry_run:
        print(config.model_dump_json(indent=2))
        return
    if smoke:
        recipes.prepare_smoke(config)
    training.train(config, folder, minutes=minutes, device=device, allow_changes=allow_changes)


def parse_change(change: str) -> tuple[str, str]:
    """The name and the value of `key=value`; raises `InputError` for text without them."""
    key, separator, value = change.partition("=")
    if not (key and separator):
        raise InputError(f"--set {change!r} cannot be read; write key=value, for example --set batch_size=64.")
    return key, value


def refuse(given: Mapping[str, object], reason: str) -> None:
    """Raise `InputError` with the `reason` for the first of these that was given."""
    for name, value in given.items():
        if value:
            raise InputError(f"{name} {reason}.")


def tell_end(model: Path | None) -> None:
    """The model's folder on stdout; nothing after a signal, since what to do then has been said."""
    if model is not None:
        print(model)


def _quickstart(
    source: str | None,
    out: Path | None,
    minutes: float,
    smoke: bool,
    captions: str | None,
    clip: str | None,
    seed: int,
    device: str,
) -> None:
    if source is None:
        raise InputError("quickstart needs your pictures: unclip train quickstart FOLDER.")
    from functools import partial

    from unclip.cli.progress import show_progress
    from unclip.config import load_config
    from unclip.recipes import Quickstart, quickstart

    settings = {"source": source, "captions": captions, "clip": clip, "minutes": minutes, "seed": seed, "smoke": smoke}
    asked = load_config(Quickstart, settings)
    # By its full path, since "." and ".." have no name of their own.
    folder = out or Path("runs") / (Path(source) if "://" in source else Path(source).resolve()).stem
    tell_end(quickstart(asked, folder, device=device, tell=partial(show_progress, unit="done")))
