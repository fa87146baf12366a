"""Features of pictures by feature networks, and figures from features."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from unclip.errors import DataError, InputError
from unclip.evaluate.results import Figure
from unclip.metrics import (
    ClipFeatures,
    FeatureNetwork,
    Gaussian,
    Metric,
    MetricValue,
    few_images_warning,
    frechet_distance,
    measure,
)

RowsByKind = Mapping[str, Float32[Tensor, "_rows _dim"]]
"""Features by kind, on the CPU."""
RowSource = Callable[[str], Iterable[Tensor]]
"""Maps a kind to the rows of a set of pictures, a chunk at a time."""
FRECHET = ("fid", "fd_dinov2", "fd_clip")
"""Metrics that need only the first two moments of rows."""


def networks_by_kind(networks: Sequence[FeatureNetwork]) -> dict[str, FeatureNetwork]:
    """Map each kind of features to its network; raises `InputError` for no network, or two of one kind or name."""
    if not networks:
        raise InputError("no feature network was given; name one, such as inception.")
    by_kind: dict[str, FeatureNetwork] = {}
    for network in networks:
        for kind in network.kinds:
            if kind in by_kind:
                raise InputError(
                    f"{by_kind[kind].name} and {network.name} both give {kind!r} features; use one of them."
                )
            by_kind[kind] = network
    names = [network.name for network in networks]
    if len(set(names)) < len(names):
        raise InputError(f"feature networks have one name ({', '.join(names)}); give each its own.")
    return by_kind


def clip_of(networks: Iterable[FeatureNetwork]) -> ClipFeatures | None:
    """Return the CLIP among the networks, which reads captions too."""
    return next((network for network in networks if isinstance(network, ClipFeatures)), None)


def kind_of(metric: Metric) -> str:
    """Return the kind of features that a metric reads of pictures."""
    return "clip" if metric.feature == "clip_pair" else metric.feature


@torch.inference_mode()
def picture_rows(
    networks: Iterable[FeatureNetwork],
    pictures: UInt8[Tensor, "batch 3 height width"],
    names: Sequence[str],
    batch_size: int,
) -> RowsByKind:
    """Compute features of pictures (pictures, 3, size, size), `batch_size` at a time.

    Raises `DataError` for a row that is not finite, with the name of its picture.
    """
    rows: dict[str, Tensor] = {}
    for network in networks:
        parts = [network(batch) for batch in pictures.split(batch_size)]
        for kind in parts[0]:
            rows[kind] = torch.cat([part[kind].float().cpu() for part in parts])
            finite = rows[kind].isfinite().all(dim=1)
            if not finite.all():
                place = int(finite.logical_not().nonzero()[0])
                raise DataError(
                    f"{network.name} makes {kind} features that are not finite of {names[place]}; check that picture, "
                    "and the network's weights."
                )
    return rows


@torch.inference_mode()
def text_rows(clip: ClipFeatures, texts: Sequence[str], batch_size: int) -> Tensor:
    """Compute CLIP's features of captions, on the CPU; repeated captions are read once."""
    unique = list(dict.fromkeys(texts))
    parts = [unique[first : first + batch_size] for first in range(0, len(unique), batch_size)]
    rows = torch.cat([clip.texts(part).float().cpu() for part in parts])
    places = {text: row for row, text in enumerate(unique)}
    return rows[[places[text] for text in texts]]


@torch.inference_mode()
def compute_figures(
    metrics: Sequence[Metric], drawn: RowSource, reference: RowSource | None, *, bootstrap: int, seed: int
) -> tuple[Figure, ...]:
    """Compute a figure of each metric, with an interval of `bootstrap` redrawn sets.

    One kind of rows is in memory at a time; of Fréchet distances without intervals one chunk, as moments suffice.
    """
    figures: dict[str, Figure] = {}
    for feature in dict.fromkeys(metric.feature for metric in metrics):
        group = [metric for metric in metrics if metric.feature == feature]
        kind = kind_of(group[0])
        if not bootstrap and reference is not None and all(metric.name in FRECHET for metric in group):
            moments, other = (reduce(Gaussian.merge, map(Gaussian.of, source(kind))) for source in (drawn, reference))
            count, value = moments.count, MetricValue(frechet_distance(moments, other), None)
            values = {metric.name: value for metric in group}
        else:
            source, other_kind = (drawn, "clip_text") if feature == "clip_pair" else (reference, kind)
            needs_other = feature == "clip_pair" or group[0].compares
            rows = torch.cat(list(drawn(kind)))
            others = torch.cat(list(source(other_kind))) if needs_other and source is not None else None
            names = [metric.name for metric in group]
            count, values = len(rows), measure(names, rows, others, num_resamples=bootstrap, seed=seed)
        for metric in group:
            low, high = values[metric.name].interval or (None, None)
            figures[metric.name] = Figure(
                name=metric.name,
                title=metric.title,
                value=values[metric.name].value,
                low=low,
                high=high,
                num_images=count,
                warning=few_images_warning(metric, count),
            )
    return tuple(figures[metric.name] for metric in metrics)
