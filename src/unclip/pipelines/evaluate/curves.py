"""What is plotted of a sweep: which settings are its axes, and a line for each series. Knows points; no page."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from unclip.evaluation import Line
from unclip.pipelines.evaluate.results import Figure, Point
from unclip.pipelines.evaluate.tables import flat_settings

__all__ = ["Plot", "against_seconds", "sweep_plots"]

DISTANCES = ("fid", "cmmd", "fd_dinov2")
JUDGE = "clip_score"
FARTHEST = 1.25
"""Timings that differ by a smaller factor do so by the load of the machine."""


class Plot(NamedTuple):
    """Lines in one frame."""

    title: str
    lines: list[Line]
    x_label: str
    y_label: str


def sweep_plots(points: Sequence[Point]) -> Iterator[Plot]:
    """Distances against CLIP score, and every figure against each setting that varies and against seconds.

    Settings that vary together are one axis. Where there are several axes, a plot over one has a line for each
    combination of the others. Points that lack a value are left out, and so are plots of fewer than two.
    """
    if len(points) < 2:
        return
    labels = _short_labels([point.label for point in points])
    for name in DISTANCES:
        shown = [place for place, point in enumerate(points) if {name, JUDGE} <= _figures(point).keys()]
        if len(shown) > 1:
            yield _trade_off([points[place] for place in shown], [labels[place] for place in shown], name)
    flat = [flat_settings(point.settings) for point in points]
    axes = _axes(flat)
    for name in dict.fromkeys(figure.name for point in points for figure in point.figures):
        for axis in axes:
            if lines := list(_lines(points, flat, name, axis, [other for other in axes if other != axis])):
                title = _title(points, name)
                yield Plot(f"{title} against {_axis_name(axis)}", lines, _axis_name(axis), title)
    seconds = [point.seconds_per_image for point in points if point.seconds_per_image is not None]
    if seconds and max(seconds) > FARTHEST * min(seconds):
        yield from against_seconds({"": points})


def against_seconds(groups: Mapping[str, Sequence[Point]]) -> Iterator[Plot]:
    """Every figure against seconds a picture, a line for each group; points are joined in their order."""
    every = [point for points in groups.values() for point in points]
    for name in dict.fromkeys(figure.name for point in every for figure in point.figures):
        lines = []
        for group, points in groups.items():
            timed = [point for point in points if point.seconds_per_image is not None and name in _figures(point)]
            if timed:
                xs = [point.seconds_per_image or 0.0 for point in timed]
                lines.append(_line(group, xs, timed, name, _short_labels([point.label for point in timed])))
        if lines:
            title = _title(every, name)
            yield Plot(f"{title} against seconds", lines, "seconds per image", title)


def _trade_off(points: Sequence[Point], labels: Sequence[str], name: str) -> Plot:
    title, judge = _title(points, name), _title(points, JUDGE)
    xs = [_figures(point)[JUDGE].value for point in points]
    return Plot(f"{title} against {judge}", [_line("", xs, points, name, labels)], judge, title)


def _lines(
    points: Sequence[Point], flat: Sequence[Mapping[str, object]], name: str, axis: str, others: Sequence[str]
) -> Iterator[Line]:
    """A line for each combination of the other axes that has two points or more."""
    series: dict[str, list[int]] = {}
    for place, settings in enumerate(flat):
        if axis in settings and name in _figures(points[place]):
            key = ", ".join(f"{_axis_name(other)} {settings.get(other)}" for other in others)
            series.setdefault(key, []).append(place)
    for key, found in series.items():
        places = sorted(found, key=lambda place: _number(flat[place][axis]))
        if len(places) > 1:
            yield _line(
                key, [_number(flat[place][axis]) for place in places], [points[place] for place in places], name
            )


def _line(group: str, xs: list[float], points: Sequence[Point], name: str, labels: Sequence[str] = ()) -> Line:
    figures = [_figures(point)[name] for point in points]
    missing = (float("nan"), float("nan"))
    bars = [missing if figure.low is None or figure.high is None else (figure.low, figure.high) for figure in figures]
    return Line(group, xs, [figure.value for figure in figures], labels, bars)


def _axes(flat: Sequence[Mapping[str, object]]) -> list[str]:
    """Names of numeric settings that differ between points, but one of those that differ together."""
    patterns: dict[tuple[int, ...], str] = {}
    for name in dict.fromkeys(name for settings in flat for name in settings):
        values = [settings[name] for settings in flat if name in settings]
        is_number = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        distinct = list(dict.fromkeys(map(str, values)))
        if is_number and len(distinct) > 1:
            pattern = tuple(distinct.index(str(settings[name])) if name in settings else -1 for settings in flat)
            patterns.setdefault(pattern, name)
    return list(patterns.values())


def _axis_name(axis: str) -> str:
    """decoder.num_steps is num_steps of decoder."""
    stage, _, setting = axis.rpartition(".")
    return f"{setting} of {stage}" if stage else setting


def _short_labels(labels: Sequence[str]) -> list[str]:
    """Labels without the words that all begin with: decoder guidance 1, decoder guidance 2 are 1 and 2."""
    words = [label.split() for label in labels]
    shared = 0
    while all(len(found) > shared + 1 for found in words) and len({found[shared] for found in words}) == 1:
        shared += 1
    return [" ".join(found[shared:]) for found in words] if len(labels) > 1 else list(labels)


def _figures(point: Point) -> dict[str, Figure]:
    return {figure.name: figure for figure in point.figures}


def _title(points: Sequence[Point], name: str) -> str:
    return next(figure.title for point in points for figure in point.figures if figure.name == name)


def _number(value: object) -> float:
    assert isinstance(value, int | float), f"an axis is of numbers, not {value!r}"
    return float(value)
