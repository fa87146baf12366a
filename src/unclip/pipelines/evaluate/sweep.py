"""The points of a sweep: settings to draw with, one after the other. Knows a model's stages; draws nothing."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from unclip.errors import InputError, did_you_mean
from unclip.pipelines.job import begin
from unclip.pipelines.model import Model
from unclip.pipelines.options import DrawOptions
from unclip.pipelines.settings import StageSettings

__all__ = ["Setting", "Sweep", "plan_points"]

Sweep: TypeAlias = Mapping[str, Sequence[Any]]
"""Values by setting and stage: "guidance_scale.decoder"; without a stage they are for all stages."""

TITLES = {"guidance_scale": "guidance", "num_steps": "steps", "sampler": "sampler"}
GUIDED = ("prior", "decoder")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One point of a sweep."""

    label: str
    """What sets it apart: "decoder guidance 3"; "" where there is one point."""
    settings: Mapping[str, StageSettings]
    """Of every stage."""
    image_size: int

    @property
    def folder(self) -> str:
        """A name for files."""
        return self.label.replace(", ", "_").replace(" ", "-").replace("+", "p") or "all"

    @property
    def options(self) -> DrawOptions:
        """What a task is told to draw so."""
        guided = {stage: value.guidance_scale for stage, value in self.settings.items() if stage in GUIDED}
        return {
            "image_size": self.image_size,
            "num_steps": {stage: value.num_steps for stage, value in self.settings.items()},
            "guidance_scale": guided,
            "sampler": {stage: value.sampler for stage, value in self.settings.items()},
        }

    def described(self) -> dict[str, Any]:
        """The settings, ready for JSON."""
        stages = {stage: value.model_dump(mode="json") for stage, value in self.settings.items()}
        return {"image_size": self.image_size, **stages}


def plan_points(model: Model, size: int | None, options: DrawOptions, sweep: Sweep) -> list[Setting]:
    """Every combination of the swept values, in the order given; one point where there is no sweep.

    Pictures are drawn at the smallest size of the model that is no smaller than `size`. Raises `InputError` for a
    setting, a stage or a value that cannot be, and for a value that comes twice.
    """
    image_size = _drawn_size(model, size)
    base = Setting(label="", settings=_settle(model, {**options, "image_size": image_size}), image_size=image_size)
    for name, values in sweep.items():
        setting = name.partition(".")[0]
        if setting not in TITLES:
            raise InputError(f"{setting!r} cannot be swept; {did_you_mean(setting, TITLES)}")
        if not values or len(set(values)) != len(values):
            raise InputError(f"a sweep of {name} over {list(values)!r} has no value, or one twice; give each once.")
    return [
        _changed(model, base, dict(zip(sweep, combination, strict=True)))
        for combination in itertools.product(*sweep.values())
    ]


def _changed(model: Model, point: Setting, changes: Mapping[str, Any]) -> Setting:
    labels = []
    for name, value in changes.items():
        setting, _, stage = name.partition(".")
        given = point.options
        old: Any = given[setting]  # type: ignore[literal-required]
        given[setting] = {**old, stage: value} if stage else value  # type: ignore[literal-required]
        point = Setting(label="", settings=_settle(model, given), image_size=point.image_size)
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        labels.append(" ".join(filter(None, [stage, TITLES[setting], shown])))
    return Setting(label=", ".join(labels), settings=point.settings, image_size=point.image_size)


def _settle(model: Model, options: DrawOptions) -> Mapping[str, StageSettings]:
    return begin(model, options, uses_prior=True).settings


def _drawn_size(model: Model, size: int | None) -> int:
    sizes = model.image_sizes
    wanted = size or model.image_size or sizes[-1]
    return next((side for side in sizes if side >= wanted), sizes[-1])
