"""Curves of a sweep."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from unclip.evaluate.results import Figure, Point
from unclip.evaluate.tables import flat_settings
from unclip.report import Line

DISTANCES = ("fid", "cmmd", "fd_dinov2")


JUDGE = "clip_score"


WORDS = {"num_steps": "steps", "guidance_scale": "guidance"}


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

    Settings that vary together are one axis. Where there are several axes, points are joined over one, and there is a
    line for each combination of the others. Points that lack a value are left out, and so are plots of fewer than two.
    """
    if len(points) < 2:
        return
    for name in DISTANCES:
        shown = [point for point in points if {name, JUDGE} <= _figures(point).keys()]
        if len(shown) > 1:
            yield _trade_off(shown, name)
    axes = _axes([flat_settings(point.settings) for point in points])
    for name in _names(points):
        title, shown = _title(points, name), [point for point in points if name in _figures(point)]
        for axis in axes:
            lines = [
                _line(series, series.values, name) for series in _series(shown, axes, axis) if len(series.points) > 1
            ]
            if lines:
                yield Plot(f"{title} against {_axis_name(axis)}", lines, _axis_name(axis), title)
    seconds = [point.seconds_per_image for point in points if point.seconds_per_image is not None]
    if seconds and max(seconds) > FARTHEST * min(seconds):
        yield from against_seconds({"": points})


def against_seconds(groups: Mapping[str, Sequence[Point]]) -> Iterator[Plot]:
    """Every figure against seconds a picture: points of a group are joined over the steps, if these vary."""
    every = [point for points in groups.values() for point in points]
    for name in _names(every):
        lines = []
        for group, points in groups.items():
            timed = [point for point in points if point.seconds_per_image is not None and name in _figures(point)]
            axes = _axes([flat_settings(point.settings) for point in timed])
            for series in _series(timed, axes, _slowest(axes)):
                named = series._replace(name=", ".join(filter(None, (group, series.name))))
                lines.append(
                    _line(named, [point.seconds_per_image or 0.0 for point in series.points], name, labelled=True)
                )
        if lines:
            yield Plot(f"{_title(every, name)} against seconds", lines, "seconds per image", _title(every, name))


class _Series(NamedTuple):
    """Points that one line joins."""

    name: str
    """What they share and others do not."""
    points: list[Point]
    values: list[float]
    """Of the axis."""
    labels: list[str]
    """What tells the points of the series apart."""


def _trade_off(points: Sequence[Point], name: str) -> Plot:
    title, judge = _title(points, name), _title(points, JUDGE)
    axes = _axes([flat_settings(point.settings) for point in points])
    # Over guidance, which trades the one for the other, if it varies.
    axis = next((found for found in axes if found.endswith("guidance_scale")), axes[0] if axes else None)
    lines = [
        _line(series, [_figures(point)[JUDGE].value for point in series.points], name, labelled=True)
        for series in _series(points, axes, axis)
    ]
    return Plot(f"{title} against {judge}", lines, judge, title)


def _series(points: Sequence[Point], axes: Sequence[str], axis: str | None) -> list[_Series]:
    """Points by the values of all axes but one, each in the order of that one; all of them where no axis varies."""
    if axis is None:
        return [_Series("", list(points), [0.0] * len(points), _short_labels([point.label for point in points]))]
    flat = [flat_settings(point.settings) for point in points]
    groups: dict[str, list[int]] = {}
    for place, settings in enumerate(flat):
        if axis in settings:
            key = ", ".join(
                f"{_axis_name(other)} {_number(settings[other]):g}"
                for other in axes
                if other in settings and other != axis
            )
            groups.setdefault(key, []).append(place)
    found = []
    for key, group in groups.items():
        places = sorted(group, key=lambda place: _number(flat[place][axis]))
        values = [_number(flat[place][axis]) for place in places]
        found.append(_Series(key, [points[place] for place in places], values, [f"{value:g}" for value in values]))
    return found


def _line(series: _Series, xs: list[float], name: str, *, labelled: bool = False) -> Line:
    figures = [_figures(point)[name] for point in series.points]
    missing = (float("nan"), float("nan"))
    bars = [missing if figure.low is None or figure.high is None else (figure.low, figure.high) for figure in figures]
    return Line(series.name, xs, [figure.value for figure in figures], series.labels if labelled else (), bars)


def _slowest(axes: Sequence[str]) -> str | None:
    return next((axis for axis in axes if axis.endswith("num_steps")), axes[0] if axes else None)


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
    """decoder.num_steps is decoder steps."""
    stage, _, setting = axis.rpartition(".")
    return " ".join(filter(None, (stage, WORDS.get(setting, setting))))


def _short_labels(labels: Sequence[str]) -> list[str]:
    """Labels without the words that all begin with: decoder guidance 1, decoder guidance 2 are 1 and 2."""
    words = [label.split() for label in labels]
    shared = 0
    while all(len(found) > shared + 1 for found in words) and len({found[shared] for found in words}) == 1:
        shared += 1
    return [" ".join(found[shared:]) for found in words] if len(labels) > 1 else list(labels)


def _names(points: Sequence[Point]) -> list[str]:
    return list(dict.fromkeys(figure.name for point in points for figure in point.figures))


def _figures(point: Point) -> dict[str, Figure]:
    return {figure.name: figure for figure in point.figures}


def _title(points: Sequence[Point], name: str) -> str:
    return next(figure.title for point in points for figure in point.figures if figure.name == name)


def _number(value: object) -> float:
    assert isinstance(value, int | float), f"an axis is of numbers, not {value!r}"
    return float(value)
