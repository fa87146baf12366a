"""Figures of feature rows: value, interval, warning. Knows metrics and chunks; not what the pictures are of."""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from unclip.evaluation import Gaussian, Metric, few_images_warning, frechet_distance
from unclip.pipelines.evaluate.chunks import Chunks
from unclip.pipelines.evaluate.networks import rows_of
from unclip.pipelines.evaluate.results import Figure

__all__ = ["FeatureSet", "figures_of"]

FRECHET = ("fid", "fd_dinov2", "fd_clip")
"""Metrics that need no rows but their first two moments."""


class FeatureSet(NamedTuple):
    """Where the rows of a set of pictures are, by kind."""

    chunks: Mapping[str, Chunks]
    texts: Tensor | None = None
    """Rows of the captions, one for each picture; None where they are kept in chunks, or there are none."""

    def rows(self, kind: str) -> Tensor:
        """All rows of a kind."""
        if kind == "clip_text" and self.texts is not None:
            return self.texts
        return self.chunks[kind].rows(kind)

    def gaussian(self, kind: str) -> Gaussian:
        """Their moments, with one chunk in memory at a time."""
        return reduce(Gaussian.merge, (Gaussian.of(rows) for rows in self.chunks[kind].each(kind)))


def figures_of(
    metrics: Sequence[Metric], drawn: FeatureSet, reference: FeatureSet | None, *, bootstrap: int, seed: int
) -> tuple[Figure, ...]:
    """A figure of each metric; rows of one metric are in memory at a time."""
    return tuple(_figure(metric, drawn, reference, bootstrap, seed) for metric in metrics)


@torch.inference_mode()
def _figure(metric: Metric, drawn: FeatureSet, reference: FeatureSet | None, bootstrap: int, seed: int) -> Figure:
    kind = rows_of(metric)
    if metric.name in FRECHET and not bootstrap:
        assert reference is not None, "metrics are chosen by what there is"
        first, second = drawn.gaussian(kind), reference.gaussian(kind)
        return _described(metric, frechet_distance(first, second), first.count)
    rows, other = drawn.rows(kind), _other(metric, kind, drawn, reference)
    figure = _described(metric, metric.compute(rows, other), len(rows))
    if not bootstrap:
        return figure
    low, high = metric.interval(rows, other, num_resamples=bootstrap, seed=seed)
    return figure.replace(low=low, high=high)


def _other(metric: Metric, kind: str, drawn: FeatureSet, reference: FeatureSet | None) -> Tensor | None:
    """What a metric compares the drawn rows with."""
    if metric.feature == "clip_pair":
        return drawn.rows("clip_text")
    return reference.rows(kind) if metric.compares and reference is not None else None


def _described(metric: Metric, value: float, num_images: int) -> Figure:
    warning = few_images_warning(metric, num_images)
    return Figure(name=metric.name, title=metric.title, value=value, num_images=num_images, warning=warning)
