"""What an evaluation may be told, checked. Knows names and numbers; no model and no file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from unclip.data import cache_folder
from unclip.errors import InputError, did_you_mean
from unclip.evaluation import METRICS, Metric
from unclip.pipelines.evaluate.chunks import Node, check_node
from unclip.pipelines.evaluate.networks import rows_of
from unclip.pipelines.evaluate.sweep import Sweep
from unclip.pipelines.settings import PerStage, check_count, image_seeds

__all__ = ["NO_TEXTS", "EvaluateOptions", "check_metrics", "choose_metrics"]

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
