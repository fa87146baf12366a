"""Options of an evaluation, the settings of its sweep, and the choice of metrics."""

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from unclip.data import cache_folder
from unclip.errors import InputError, did_you_mean
from unclip.evaluate.features import kind_of
from unclip.metrics import METRICS, Metric
from unclip.model.settings import StageSettings
from unclip.pipelines.job import begin
from unclip.pipelines.model import Model
from unclip.pipelines.options import DrawOptions
from unclip.pipelines.settings import PerStage, check_count, image_seeds

Sweep: TypeAlias = Mapping[str, Sequence[Any]]
"""Values by setting and stage: "guidance_scale.decoder"; without a stage they are for all stages."""

FEATURE_BATCH = 32
MAX_SIZE = 2048
SAMPLING = (
    "num_images", "images_per_prompt", "num_steps", "guidance_scale", "sampler", "sweep", "suites", "keep_pictures",
)  # fmt: skip
"""Options of pictures that are drawn."""


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """How an evaluation is done; sampling options are for models, not for folders."""

    metrics: Sequence[str] | None = None
    """Names in `unclip.metrics.METRICS`; None is all that the feature networks and the data allow."""
    size: int | None = None
    """Side of the squares that are compared; None is the model's own size, and 256 for folders."""
    seed: int = 0
    """Picture k of prompt i has the seed `seed` + i * `images_per_prompt` + k; captions are chosen by it too."""
    bootstrap: int = 0
    """Sets redrawn for an interval of each figure; 0 is none."""
    batch_size: int | None = None
    """Pictures that go through a network together; None is the model's own number for drawing, and 32 for features."""
    node: tuple[int, int] = (0, 1)
    """This process's share of the work, (i, n): processes that share the folders divide it."""
    cache: Path | None = None
    """Where features of folders are kept; None is UNCLIP_CACHE, or ~/.cache/unclip."""
    num_images: int | None = None
    """Pictures to draw; None is one for every caption, or for 30,000 of COCO's, times `images_per_prompt`."""
    images_per_prompt: int = 1
    num_steps: PerStage[int] = None
    guidance_scale: PerStage[float] = None
    sampler: PerStage[str] = None
    sweep: Sweep = field(default_factory=dict)
    """Values of settings to draw with in turn: `{"guidance_scale.decoder": [1.0, 2.0, 4.0]}`."""
    suites: Sequence[str] = ()
    """Measures of single stages: prior, round_trip, upsampler, diversity."""
    num_suite_pictures: int = 64
    """Real pictures that the suites measure, chosen by seed."""
    keep_pictures: bool = False
    """Keep all pictures, not only the first 64 of each setting."""
    pictures_per_chunk: int = 64
    """Pictures that an interruption loses at most."""
    command: str | None = None
    """The command line of the evaluation, for its report."""

    def __post_init__(self) -> None:
        """Raise `InputError` for an invalid option."""
        for name in ("images_per_prompt", "pictures_per_chunk", "num_suite_pictures"):
            check_count(name, getattr(self, name))
        for name in ("size", "batch_size", "num_images"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))
        check_count("bootstrap", self.bootstrap, least=0)
        if self.bootstrap == 1:
            raise InputError("bootstrap=1 gives no interval; use at least 2, such as 100, or 0 for none.")
        if self.size is not None and self.size > MAX_SIZE:
            raise InputError(f"size={self.size} is more than {MAX_SIZE}; networks read 224 to 336 pixels: use less.")
        image_seeds(self.seed, 1)
        first, step = self.node
        if not 0 <= first < step:
            raise InputError(f"node={first}/{step} is no share of the work; use 0/{step} to {step - 1}/{step}.")
        for name in self.metrics or ():
            if name not in METRICS:
                raise InputError(f"there is no metric {name!r}; {did_you_mean(name, METRICS)}")
        if self.num_images is not None and self.num_images % self.images_per_prompt:
            raise InputError(
                f"num_images={self.num_images} are not {self.images_per_prompt} of each prompt; use a multiple."
            )

    def refuse_sampling(self) -> None:
        """Raise `InputError` if a sampling option is set: pictures in a folder are not sampled."""
        defaults = EvaluateOptions()
        for name in SAMPLING:
            if getattr(self, name) != getattr(defaults, name):
                raise InputError(
                    f"{name}={getattr(self, name)!r} is for a model; leave it out for pictures of a folder."
                )

    @property
    def cache_folder(self) -> Path:
        """Where features of folders are kept."""
        return self.cache or cache_folder()

    @property
    def feature_batch(self) -> int:
        """Pictures that go through a feature network together."""
        return self.batch_size or FEATURE_BATCH


SWEPT = {"guidance_scale": "guidance", "num_steps": "steps", "sampler": "sampler"}
"""Settings that a sweep may change, and their names in labels."""
GUIDED = ("prior", "decoder")


def sweep_settings(model: Model, image_size: int, options: EvaluateOptions) -> dict[str, Mapping[str, StageSettings]]:
    """Return the stages' settings for every combination of swept values, by label; without a sweep for the label "".

    Raises `InputError` for an invalid setting, stage or value, and for a value that is repeated.
    """
    for name, values in options.sweep.items():
        setting = name.partition(".")[0]
        if setting not in SWEPT:
            raise InputError(f"{setting!r} cannot be swept; {did_you_mean(setting, SWEPT)}")
        if not values or len(set(values)) != len(values):
            raise InputError(f"a sweep of {name} over {list(values)!r} has no value, or one twice; give each once.")
    options_by_name: dict[str, Any] = {name: getattr(options, name) for name in SWEPT}
    settings: dict[str, Mapping[str, StageSettings]] = {}
    for combination in itertools.product(*options.sweep.values()):
        stages, words = _settle(model, image_size, options_by_name), []
        for name, value in zip(options.sweep, combination, strict=True):
            setting, _, stage = name.partition(".")
            current: dict[str, Any] = dict(draw_options(stages))
            stages = _settle(
                model, image_size, current | {setting: {**current[setting], stage: value} if stage else value}
            )
            shown = f"{value:g}" if isinstance(value, float) else str(value)
            words.append(" ".join(filter(None, [stage, SWEPT[setting], shown])))
        settings[", ".join(words)] = stages
    return settings


def draw_options(stages: Mapping[str, StageSettings]) -> DrawOptions:
    """Return the options of a task that draws with these settings."""
    return {
        "num_steps": {stage: settings.num_steps for stage, settings in stages.items()},
        "guidance_scale": {stage: stages[stage].guidance_scale for stage in GUIDED if stage in stages},
        "sampler": {stage: settings.sampler for stage, settings in stages.items()},
    }


def _settle(model: Model, image_size: int, options: Mapping[str, Any]) -> Mapping[str, StageSettings]:
    draw: DrawOptions = {"image_size": image_size, **options}  # type: ignore[typeddict-item]
    return begin(model, draw, uses_prior=True).settings


NO_TEXTS = "a CLIP and a caption for each picture"


def choose_metrics(
    names: Sequence[str] | None,
    kinds: Collection[str],
    *,
    compares: bool,
    num_images: int,
    num_texts: int | None,
    no_texts: str = NO_TEXTS,
) -> tuple[list[Metric], tuple[str, ...]]:
    """Return the named metrics, or all that can be computed, in the order of the table; and notes of all others.

    `kinds` are the features that there are networks for; `num_texts` counts different prompts, None without a CLIP or
    captions, for the reason `no_texts`. Raises `InputError` for a named metric that lacks something, and for none.
    """
    chosen, left_out = list[Metric](), dict[str, list[str]]()
    for metric in METRICS.values():
        if names is not None and metric.name not in names:
            continue
        count, what = (num_texts or 0, "different prompts") if metric.counts_texts else (num_images, "pictures")
        lacking = None
        if kind_of(metric) not in kinds:
            lacking = f"{kind_of(metric)} features, of which no network was given"
        elif metric.feature == "clip_pair" and num_texts is None:
            lacking = no_texts
        elif metric.compares and not compares:
            lacking = "reference pictures"
        elif count < metric.num_least:
            lacking = f"at least {metric.num_least} {what}, but there are {count}"
        if lacking is None:
            chosen.append(metric)
        elif names is not None:
            raise InputError(f"{metric.name} needs {lacking}; give it, or leave {metric.name} out.")
        else:
            left_out.setdefault(lacking, []).append(metric.title)
    if not chosen:
        raise InputError(
            f"no metric can be computed of features {', '.join(kinds)} alone; give a reference, or other features."
        )
    return chosen, tuple(
        f"{', '.join(others)} and {last} are left out: they need {lacking}."
        if others
        else f"{last} is left out: it needs {lacking}."
        for lacking, (*others, last) in left_out.items()
    )


def count_different(texts: Sequence[str]) -> int:
    """Count the prompts that a CLIP tells apart: it reads neither capitals nor the number of spaces."""
    return len({" ".join(text.lower().split()) for text in texts})
