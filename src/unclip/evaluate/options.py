"""Options of an evaluation, its sweep, and the request that a folder was started with."""

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch

from unclip.checkpoint import NetworkWeights
from unclip.data import cache_folder
from unclip.errors import InputError, did_you_mean
from unclip.evaluate.features import Node, check_node, rows_of
from unclip.files import atomic_write
from unclip.metrics import METRICS, Metric
from unclip.model.settings import StageSettings
from unclip.pipelines.job import begin
from unclip.pipelines.model import Model
from unclip.pipelines.options import DrawOptions
from unclip.pipelines.settings import PerStage, check_count, image_seeds

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


FEATURE_BATCH = 32
MAX_SIZE = 2048
NO_TEXTS = "a CLIP and a caption for each picture"
DRAWING = (
    "num_images", "images_per_prompt", "num_steps", "guidance_scale", "sampler", "sweep", "suites", "keep_pictures",
)  # fmt: skip
"""Options that have no meaning for pictures that are there."""


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """How an evaluation is done; those of drawing have no meaning for folders."""

    metrics: Sequence[str] | None = None
    """Names in `unclip.evaluation.METRICS`; None is all that the feature networks, and what is compared, allow."""
    size: int | None = None
    """Side of the squares that are compared; None is the model's own size, and 256 for folders."""
    seed: int = 0
    """Picture k of prompt i has the seed `seed` + i * `images_per_prompt` + k; captions are chosen by it too."""
    bootstrap: int = 0
    """Sets redrawn for an interval of each figure; 0 is none."""
    batch_size: int | None = None
    """Pictures that go through a network together; None is the model's own number for drawing, and 32 for features."""
    node: Node = (0, 1)
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
    """Real pictures that the suites look at, chosen by seed."""
    keep_pictures: bool = False
    """Keep all pictures, not only the first 64 of each point."""
    pictures_per_chunk: int = 64
    """Pictures that an interruption loses at most."""
    command: str | None = None
    """The line that asked for the evaluation, for its report."""

    def __post_init__(self) -> None:
        """Raise `InputError` for what cannot be."""
        for name in ("images_per_prompt", "pictures_per_chunk", "num_suite_pictures"):
            check_count(name, getattr(self, name))
        for name in ("size", "batch_size", "num_images"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))
        check_count("bootstrap", self.bootstrap, least=0)
        if self.bootstrap == 1:
            raise InputError("bootstrap=1 gives no interval; use at least 2, such as 100, or 0 for none.")
        if self.size is not None and self.size > MAX_SIZE:
            raise InputError(f"size={self.size} is more than {MAX_SIZE}; networks look at 224 to 336 pixels: use less.")
        image_seeds(self.seed, 1)
        check_node(self.node)
        for name in self.metrics or ():
            if name not in METRICS:
                raise InputError(f"there is no metric {name!r}; {did_you_mean(name, METRICS)}")
        if self.num_images is not None and self.num_images % self.images_per_prompt:
            raise InputError(
                f"num_images={self.num_images} are not {self.images_per_prompt} of each prompt; use a multiple."
            )

    def refuse_drawing(self) -> None:
        """Raise `InputError` for an option of drawing: where pictures are given it would go unheard."""
        unheard = EvaluateOptions()
        for name in DRAWING:
            if getattr(self, name) != getattr(unheard, name):
                raise InputError(
                    f"{name}={getattr(self, name)!r} is for a model; leave it out for pictures of a folder."
                )

    @property
    def cache_folder(self) -> Path:
        """Where features of folders are kept."""
        return self.cache or cache_folder()

    @property
    def num_prompts(self) -> int | None:
        """Captions to choose; None as for `num_images`."""
        return None if self.num_images is None else self.num_images // self.images_per_prompt

    @property
    def feature_batch(self) -> int:
        """Pictures that go through a feature network together."""
        return self.batch_size or FEATURE_BATCH


def choose_metrics(
    asked: Sequence[str] | None,
    givers: Mapping[str, str],
    *,
    compares: bool,
    texts: Sequence[str] | None,
    num_images: int,
    no_texts: str = NO_TEXTS,
) -> tuple[list[Metric], tuple[str, ...]]:
    """The metrics asked for, or all that can be, in the order of the table; and notes of all others with the reason.

    `givers` names the network of each kind of features; `texts` are the prompts of the pictures, None without a CLIP or
    captions, for the reason `no_texts`. Raises `InputError` for a metric that was asked for and cannot be, naming what
    it lacks.
    """
    chosen, left_out = list[Metric](), dict[str, list[str]]()
    for metric in METRICS.values():
        if asked is not None and metric.name not in asked:
            continue
        lacking = _lacking(metric, givers, compares=compares, has_texts=texts is not None, no_texts=no_texts)
        count, what = (_num_different(texts), "different prompts") if metric.counts_texts else (num_images, "pictures")
        if lacking is None and count < metric.num_least:
            lacking = f"at least {metric.num_least} {what}, but there are {count}"
        if lacking is None:
            chosen.append(metric)
        elif asked is not None:
            raise InputError(f"{metric.name} needs {lacking}; give it, or leave {metric.name} out.")
        else:
            left_out.setdefault(lacking, []).append(metric.title)
    if not chosen:
        kinds = ", ".join(givers)
        raise InputError(f"no metric can be computed of features {kinds} alone; give a reference, or other features.")
    return chosen, tuple(_left_out(titles, lacking) for lacking, titles in left_out.items())


def _left_out(titles: Sequence[str], lacking: str) -> str:
    if len(titles) == 1:
        return f"{titles[0]} is left out: it needs {lacking}."
    return f"{', '.join(titles[:-1])} and {titles[-1]} are left out: they need {lacking}."


def check_metrics(asked: Sequence[str] | None, givers: Mapping[str, str], *, compares: bool, has_texts: bool) -> None:
    """Raise `InputError` where no set of pictures would do for what is asked, before any is read."""
    for name in asked or ():
        lacking = _lacking(METRICS[name], givers, compares=compares, has_texts=has_texts, no_texts=NO_TEXTS)
        if lacking is not None:
            raise InputError(f"{name} needs {lacking}; give it, or leave {name} out.")
    # Those of texts may still turn out to have none; that is seen when they are read.
    if not any(
        _lacking(metric, givers, compares=compares, has_texts=has_texts, no_texts=NO_TEXTS) is None
        for metric in METRICS.values()
    ):
        kinds = ", ".join(givers)
        raise InputError(f"no metric can be computed of features {kinds} alone; give a reference, or other features.")


def _num_different(texts: Sequence[str] | None) -> int:
    """Prompts that a CLIP tells apart: it reads neither capitals nor the number of spaces."""
    return len({" ".join(text.lower().split()) for text in texts or ()})


def _lacking(
    metric: Metric, givers: Mapping[str, str], *, compares: bool, has_texts: bool, no_texts: str
) -> str | None:
    """What a metric needs and has not, in words; None where it has all."""
    kind = rows_of(metric)
    if kind not in givers:
        return f"{kind} features, of which no network was given"
    if metric.feature == "clip_pair" and not has_texts:
        return no_texts
    if metric.compares and not compares:
        return "reference pictures"
    return None


REQUEST_FILE = "settings.json"


def check_request(folder: Path, request: Mapping[str, Any]) -> None:
    """Raise `InputError` where `folder` is no folder, or was begun by another request, with the first difference.

    `request` may be a part of the whole, of what is known already.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give a folder for the evaluation with -o.")
    path = folder / REQUEST_FILE
    if not path.exists():
        return
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); give another folder.") from None
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no settings of an evaluation; give another folder.")
    # What was written went through JSON, where a tuple is a list.
    asked = json.loads(json.dumps(request))
    found = {name: value for name, value in found.items() if name in asked}
    labels = [", ".join(label or "one setting" for label in one.get("points", {})) for one in (found, asked)]
    if labels[0] != labels[1]:
        raise InputError(
            f"{folder} holds an evaluation of {labels[0]}, but {labels[1]} is asked for; ask for the same, or give "
            "another folder."
        )
    for name, before, now in _differences("", found, asked):
        raise InputError(
            f"{folder} holds an evaluation with {name}={_short(before)}, but {_short(now)} is asked for; ask for the "
            "same, or give another folder."
        )


def write_request(folder: Path, request: Mapping[str, Any]) -> None:
    """Write the request unless it is there."""
    if not (folder / REQUEST_FILE).exists():
        atomic_write(folder / REQUEST_FILE, json.dumps(request, indent=1) + "\n")


def model_hash(model: Model) -> str:
    """SHA-256, in hexadecimal, of the configurations and weights of all networks, as they are in memory."""
    digest = hashlib.sha256()
    for name, weights in sorted(model.source().networks.items()):
        _update(digest, name, weights)
    return digest.hexdigest()


def _update(digest: Any, name: str, weights: NetworkWeights) -> None:
    digest.update(f"{name} {weights.network} {weights.config.model_dump_json()}".encode())
    for key, tensor in sorted(weights.tensors.items()):
        value = tensor.read()
        digest.update(f"{key} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _differences(place: str, before: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    """The places where two JSON values differ, as names with dots."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*before, *now]):
            # A setting is called as it is without a sweep: "prior.num_steps".
            name = key if place in ("", "points") else f"{place}.{key}" if key else place
            yield from _differences(name, before.get(key), now.get(key))
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for index, (first, second) in enumerate(zip(before, now, strict=True)):
            yield from _differences(f"{place}[{index}]", first, second)
    elif before != now:
        yield place, before, now


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:16]}..."
