"""`unclip train`: a recipe, changed by `--set`, trained into a folder. Knows options; training knows the rest."""

from pathlib import Path
from typing import Annotated

import typer

from unclip.errors import InputError

__all__ = ["train"]


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe, such as emoji/decoder, or emoji for all its stages.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Run folder; else runs/RECIPE, runs/smoke/RECIPE.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop and save after this time.")] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", help="Change a setting: key=value.")] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="Train a tiny model for seconds.")] = False,
    allow_changes: Annotated[
        bool, typer.Option("--allow-changes", help="Go on with a run whose settings were others; shows what changes.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the settings and stop.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Train a stage; the same command again resumes."""
    overrides = dict(parse_change(change) for change in changes or [])
    if minutes is not None and not minutes > 0:
        raise InputError(f"--minutes {minutes} is not a time; give a number above 0.")
    from unclip import recipes, training
    from unclip.config import override

    # Apart, since the settings of a run in a folder are those that it goes on with.
    folder = out or Path("runs/smoke" if smoke else "runs") / recipe
    if recipe in recipes.SERIES:
        if overrides or dry_run:
            raise InputError(
                f"--set and --dry-run change one recipe; {recipe!r} is a series: name {recipe}/decoder, say."
            )
        print(recipes.train_series(recipe, folder, minutes=minutes, smoke=smoke, device=device))
        return
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
