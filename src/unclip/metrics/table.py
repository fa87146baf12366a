"""The table of metrics: what each needs, how it is computed, how many pictures are enough."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from unclip.errors import InputError, did_you_mean
from unclip.metrics.clip import NUM_CANDIDATES, check_pairs, clip_score, r_precision
from unclip.metrics.estimates import ConfidenceInterval, check_resampling, drawn_counts, interval_of
from unclip.metrics.features import Rows, blocks, check_dims, check_pair, check_rows, means
from unclip.metrics.frechet import Gaussian, frechet_distance
from unclip.metrics.inception_score import inception_scores
from unclip.metrics.kernel import kernel_distances, mmds
from unclip.metrics.manifold import DEFAULT_K, ManifoldMetrics, manifolds

Feature = Literal["inception", "inception_logits", "dinov2", "clip", "clip_pair"]

Function = Callable[[Tensor, Any, Tensor], Tensor]
"""From drawn rows, checked other rows and the counts of sets drawn from the first: (sets), or (figures, sets)."""


class MetricValue(NamedTuple):
    """A figure, and its interval over other draws of as many pictures; None where no set was redrawn."""

    value: float
    interval: ConfidenceInterval | None


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One figure of a set of drawn pictures."""

    name: str
    """Name in options: "fid"."""
    title: str
    """Name in tables: "FID"."""
    feature: Feature
    """The features it reads; "clip_pair" is embeddings of pictures, with embeddings of their prompts as other rows."""
    compares: bool
    """Whether the other rows are of reference pictures."""
    lower_is_better: bool
    num_least: int
    """Pictures below which it is refused."""
    num_enough: int
    """Pictures below which a warning is due."""
    counts_texts: bool
    """Whether `num_least` is of different prompts, not of pictures."""
    why: str
    """The effect of fewer pictures."""
    num_resamples: int
    """Default number of sets redrawn for an interval: fewer where one costs more."""
    function: Function
    """Computes it of checked arguments; shared functions are called once. Callers use `compute` and `measure`."""
    figure: int = 0
    """Its row in the result of `function`."""
    unit: str = ""
    """Unit, where others print the same figure otherwise."""

    def compute(self, drawn: Rows, other: Rows | Gaussian | None = None) -> float:
        """Compute the figure of the drawn rows; `other` is reference rows, the rows of the prompts, or None.

        A Fréchet distance takes its reference as a `Gaussian` too. Raises `InputError` for an `other` that is missing
        or not read, for too few rows, NaN or infinite features, and sets that do not fit each other.
        """
        return measure([self.name], drawn, other, num_resamples=0)[self.name].value


def measure(
    names: Iterable[str],
    drawn: Rows,
    other: Rows | Gaussian | None = None,
    *,
    num_resamples: int | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, MetricValue]:
    """Compute figures of one set of rows, with intervals over drawing its rows again; the reference stays fixed.

    Shared work is done once, and all sets are redrawn in one pass over the pairs. Without `num_resamples` each metric
    has its own number; 0 gives no intervals. Raises `InputError` for an unknown name, for metrics of
    different features, and like `Metric.compute` and `bootstrap`.
    """
    metrics = list[Metric]()
    for name in names:
        if name not in METRICS:
            raise InputError(f"there is no metric {name!r}; {did_you_mean(name, METRICS)}")
        metrics.append(METRICS[name])
    if len({metric.feature for metric in metrics}) > 1:
        kinds = ", ".join(f"{metric.name} of {metric.feature}" for metric in metrics)
        raise InputError(f"metrics of different features cannot share rows: {kinds}; measure them apart.")
    values: dict[str, MetricValue] = {}
    shared: dict[tuple[Function, int], Tensor] = {}
    for metric in metrics:
        _check(metric, drawn, other)
        number = metric.num_resamples if num_resamples is None else num_resamples
        if number:
            check_resampling(number, level)
        if (metric.function, number) not in shared:
            counts = drawn_counts(len(drawn), number, seed).to(drawn.device)
            shared[metric.function, number] = torch.atleast_2d(metric.function(drawn, other, counts)).cpu()
        row = shared[metric.function, number][metric.figure]
        values[metric.name] = MetricValue(row[0].item(), interval_of(row, level) if number else None)
    return values


def _check(metric: Metric, drawn: Tensor, other: Tensor | Gaussian | None) -> None:
    check_rows(drawn, metric.num_least, "the drawn features")
    if metric.function is _frechet and isinstance(other, Gaussian):
        check_dims(len(other.mean), drawn.shape[1])
    elif metric.compares and isinstance(other, Tensor):
        check_pair(other, drawn, metric.num_least, ("the reference features", "the drawn features"))
    elif metric.feature == "clip_pair" and isinstance(other, Tensor):
        check_pairs(drawn, other)
    elif other is not None or metric.compares or metric.feature == "clip_pair":
        prompts = "embeddings of the prompts" if metric.feature == "clip_pair" else "nothing"
        wanted = "rows of reference pictures" if metric.compares else prompts
        raise InputError(f"{metric.name} takes {wanted} beside the drawn rows, not {type(other).__name__}.")


def few_images_warning(metric: Metric, num_images: int) -> str | None:
    """Return a warning if `num_images` are too few to compare `metric` with the figures of others, else None."""
    if num_images >= metric.num_enough:
        return None
    return f"{metric.title} of {num_images:,} pictures (at least {metric.num_enough:,} are enough): {metric.why}."


def _frechet(drawn: Tensor, other: Tensor | Gaussian, counts: Tensor) -> Tensor:
    # Summed up once for all sets; few rows are faster as they are.
    reference = Gaussian.of(other) if isinstance(other, Tensor) and len(other) > other.shape[1] else other
    values = [frechet_distance(drawn.repeat_interleave(times.long(), dim=0), reference) for times in counts.T]
    return torch.tensor(values, dtype=torch.float64)


def _inception(drawn: Tensor, other: None, counts: Tensor) -> Tensor:
    return inception_scores(drawn, counts)


def _cmmd(drawn: Tensor, other: Tensor, counts: Tensor) -> Tensor:
    first, second = (torch.cat([normalize(block) for block in blocks(rows)]) for rows in (drawn, other))
    return mmds(first, second, counts)


def _clip_score(drawn: Tensor, other: Tensor, counts: Tensor) -> Tensor:
    return means(clip_score(drawn, other), counts)


def _r_precision(drawn: Tensor, other: Tensor, counts: Tensor) -> Tensor:
    return means(r_precision(drawn, other), counts)


ROWS, PAIRS, EACH = 1000, 200, 100
"""Redrawn sets: of metrics with a value per row, of those that read pairs in one pass, and of the others."""


def _distance(name: str, title: str, feature: Feature, function: Function, num_enough: int, why: str) -> Metric:
    return Metric(
        name=name, title=title, feature=feature, compares=True, lower_is_better=True, num_least=2,
        num_enough=num_enough, counts_texts=False, why=why, num_resamples=EACH if function is _frechet else PAIRS,
        function=function,
    )  # fmt: skip


def _neighbour_metric(name: str) -> Metric:
    why = f"distances to the {DEFAULT_K} nearest shrink as sets grow; compare it with figures of as many pictures alone"
    return Metric(
        name=name, title=name.capitalize(), feature="inception", compares=True, lower_is_better=False,
        num_least=DEFAULT_K + 1, num_enough=10_000, counts_texts=False, why=why, num_resamples=PAIRS,
        function=manifolds, figure=ManifoldMetrics._fields.index(name),
    )  # fmt: skip


def _score(
    name: str, title: str, feature: Feature, function: Function, num_least: int, num_enough: int, why: str
) -> Metric:
    return Metric(
        name=name, title=title, feature=feature, compares=False, lower_is_better=False, num_least=num_least,
        num_enough=num_enough, counts_texts=function is _r_precision, why=why, num_resamples=ROWS, function=function,
    )  # fmt: skip


_RANK = (
    "up to as many pictures as features ({}) the covariance lacks full rank, and the bias falls only with 1 / "
    "pictures; compare it with figures of as many pictures alone"
)
_TABLE = (
    _distance("fid", "FID", "inception", _frechet, 10_000, _RANK.format("2,048")),
    _distance(
        "kid", "KID", "inception", kernel_distances, 1000, "it has no bias, but scatters by more than models differ"
    ),
    _score("is", "IS", "inception_logits", _inception, 2, 5000, "it rises with pictures until all classes were seen"),
    *map(_neighbour_metric, ManifoldMetrics._fields),
    _distance("cmmd", "CMMD", "clip", _cmmd, 5000, "its bias is as 1 / pictures; compare it with figures of as many"),
    _distance("fd_dinov2", "FD-DINOv2", "dinov2", _frechet, 10_000, _RANK.format("1,024 of ViT-L/14")),
    _distance("fd_clip", "FD-CLIP", "clip", _frechet, 10_000, _RANK.format("512 to 1,280")),
    replace(
        _score("clip_score", "CLIP score", "clip_pair", _clip_score, 1, 1000, "prompts differ by more than models do"),
        unit="100 x cosine",
    ),
    _score(
        "r_precision", "R-precision", "clip_pair", _r_precision, NUM_CANDIDATES, 1000,
        f"{NUM_CANDIDATES} candidates are most of its texts, and hits are counted in few steps",
    ),
)  # fmt: skip

METRICS: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in _TABLE})
"""Metrics by name, in the order of tables."""
