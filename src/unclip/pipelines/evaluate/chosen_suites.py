"""The suites that a model has the parts for, run one after the other. Knows their names; not what they measure."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

from unclip.errors import InputError, did_you_mean
from unclip.pictures import Picture
from unclip.pipelines.evaluate.suites import prior_suite, round_trip, upsampler_consistency
from unclip.pipelines.model import Model
from unclip.pipelines.options import Progress, silent
from unclip.pipelines.settings import StageSettings

__all__ = ["SUITES", "SuiteResults", "run_suites"]

SUITES = ("prior", "round_trip", "upsampler")
"""Names of the suites, as they stand in an evaluation."""


class SuiteResults(NamedTuple):
    """What `run_suites` found."""

    figures: dict[str, dict[str, float]]
    """By the name of the suite."""
    notes: tuple[str, ...]
    """Why a suite was left out."""


def run_suites(
    model: Model,
    captions: Sequence[str],
    pictures: Sequence[Picture],
    *,
    seed: int,
    suites: Sequence[str] | None = None,
    settings: Mapping[str, StageSettings] | None = None,
    num_candidates: int | None = None,
    batch_size: int | None = None,
    progress: Progress = silent,
) -> SuiteResults:
    """The suites named, or with None all that the model has the parts for and a note for each that it has not.

    `settings` are by stage, as a task settles them; a stage that they lack has the model's own. Raises `InputError` for
    an unknown suite, and for one that was named but needs a part that the model lacks.
    """
    for name in suites or ():
        if name not in SUITES:
            raise InputError(f"there is no suite {name!r}; {did_you_mean(name, SUITES)}")
    given = dict(settings or {})
    prior = partial(prior_suite, model, captions, settings=given.get("prior"), num_candidates=num_candidates)
    ways = {
        "prior": prior,
        "round_trip": partial(round_trip, model, settings=given.get("decoder")),
        "upsampler": partial(upsampler_consistency, model, settings=given),
    }
    missing = _missing(model) if suites is None else {}
    chosen = [name for name in SUITES if name not in missing and (suites is None or name in suites)]
    figures = {name: ways[name](pictures, seed=seed, batch_size=batch_size, progress=progress) for name in chosen}
    return SuiteResults(
        figures, tuple(f"The suite {name} was left out: the model has no {lacks}." for name, lacks in missing.items())
    )


def _missing(model: Model) -> dict[str, str]:
    """The suites that cannot be, and the parts that each lacks."""
    parts: dict[str, dict[str, object]] = {
        "prior": {"CLIP": model.clip, "prior": model.prior},
        "round_trip": {"CLIP": model.clip, "decoder": model.decoder},
        "upsampler": {"upsampler": model.upsamplers or None},
    }
    lacks = {name: [what for what, part in needed.items() if part is None] for name, needed in parts.items()}
    return {name: " and no ".join(found) for name, found in lacks.items() if found}
