"""From features to figures."""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from unclip.evaluate.features import Chunks, rows_of
from unclip.evaluate.results import Figure
from unclip.metrics import Gaussian, Measured, Metric, few_images_warning, frechet_distance, measure

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


@torch.inference_mode()
def figures_of(
    metrics: Sequence[Metric], drawn: FeatureSet, reference: FeatureSet | None, *, bootstrap: int, seed: int
) -> tuple[Figure, ...]:
    """A figure of each metric, with an interval of `bootstrap` redrawn sets; one kind of rows is in memory at a time.

    Fréchet distances without intervals need moments only, of which one chunk after the other becomes a part.
    """
    found: dict[str, Figure] = {}
    for feature in dict.fromkeys(metric.feature for metric in metrics):
        group = [metric for metric in metrics if metric.feature == feature]
        if not bootstrap and all(metric.name in FRECHET for metric in group):
            found |= {metric.name: _of_moments(metric, drawn, reference) for metric in group}
        else:
            found |= _of_rows(group, drawn, reference, bootstrap, seed)
    return tuple(found[metric.name] for metric in metrics)


def _of_moments(metric: Metric, drawn: FeatureSet, reference: FeatureSet | None) -> Figure:
    assert reference is not None, "metrics are chosen by what there is"
    kind = rows_of(metric)
    moments = drawn.gaussian(kind)
    value = frechet_distance(moments, reference.gaussian(kind))
    return _described(metric, Measured(value, None), moments.count)


def _of_rows(
    group: Sequence[Metric], drawn: FeatureSet, reference: FeatureSet | None, bootstrap: int, seed: int
) -> dict[str, Figure]:
    """Figures of metrics that share rows."""
    metric = group[0]
    rows, other = drawn.rows(rows_of(metric)), None
    if metric.feature == "clip_pair":
        other = drawn.rows("clip_text")
    elif metric.compares and reference is not None:
        other = reference.rows(rows_of(metric))
    measured = measure([one.name for one in group], rows, other, num_resamples=bootstrap, seed=seed)
    return {one.name: _described(one, measured[one.name], len(rows)) for one in group}


def _described(metric: Metric, measured: Measured, num_images: int) -> Figure:
    low, high = measured.interval or (None, None)
    return Figure(
        name=metric.name,
        title=metric.title,
        value=measured.value,
        low=low,
        high=high,
        num_images=num_images,
        warning=few_images_warning(metric, num_images),
    )
