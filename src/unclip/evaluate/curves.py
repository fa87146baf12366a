"""Curves over the settings of a sweep."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from unclip.config import flatten
from unclip.evaluate.options import SWEPT
from unclip.evaluate.results import Figure, Point
from unclip.report import Line

DISTANCES = ("fid", "cmmd", "fd_dinov2")
JUDGE = "clip_score"
MIN_RATIO = 1.25
"""Timings that differ by a smaller factor do so by the load of the machine."""


Plot = tuple[str, list[Line], str, str]
"""The arguments of `Report.plot`: title, lines, and the labels of both axes."""


def sweep_plots(points: Sequence[Point]) -> Iterator[Plot]:
    """Yield distances against CLIP score, and every figure against each varied setting and against seconds.

    Settings that vary together are one axis. With several axes, points are joined along one, and there is a line for
    each combination of the others. Points without a value are left out, and so are plots of fewer than two.
    """
    if len(points) < 2:
        return
    for name in DISTANCES:
        shown = [point for point in points if point.figure(name) and point.figure(JUDGE)]
        if len(shown) > 1:  # along guidance, which trades one for the other
            lines = _lines(shown, name, _axis(shown, "guidance_scale"), lambda point: _figures([point])[JUDGE].value)
            yield _plot(shown, name, lines, _figures(shown)[JUDGE].title)
    for name in _figures(points):
        shown = [point for point in points if point.figure(name)]
        for axis in _axes(points):
            lines = _lines(shown, name, axis)
            if any(len(line.x) > 1 for line in lines):
                yield _plot(shown, name, [line for line in lines if len(line.x) > 1], _words(axis))
    seconds = [point.seconds_per_image for point in points if point.seconds_per_image is not None]
    if seconds and max(seconds) > MIN_RATIO * min(seconds):
        yield from seconds_plots({"": points})


def seconds_plots(groups: Mapping[str, Sequence[Point]]) -> Iterator[Plot]:
    """Yield every figure against seconds per picture: points of a group are joined along the steps, if these vary."""
    every = [point for points in groups.values() for point in points]
    for name in _figures(every):
        lines = list[Line]()
        for group, points in groups.items():
            timed = [point for point in points if point.seconds_per_image is not None and point.figure(name)]
            axis = _axis(timed, "num_steps")
            lines += _lines(timed, name, axis, lambda point: point.seconds_per_image or 0.0, group)
        if lines:
            yield _plot(every, name, lines, "seconds per image", "seconds")


def _lines(
    points: Sequence[Point],
    name: str,
    axis: str | None,
    x: Callable[[Point], float] | None = None,
    group: str = "",
) -> list[Line]:
    """Return a line for each combination of the settings that vary, `axis` excepted, with the points in its order.

    `x` gives the place of a point, which is then labelled with its value of `axis`; without it that value is the place.
    """
    others = [other for other in _axes(points) if other != axis]
    series: dict[str, list[tuple[float, str, Point]]] = {}
    for point in points:
        flat = flatten(point.settings)
        if axis is None:
            series.setdefault(group, []).append((0.0, point.label, point))
        elif axis in flat:
            parts = [f"{_words(other)} {flat[other]:g}" for other in others if other in flat]
            key = ", ".join(filter(None, (group, *parts)))
            series.setdefault(key, []).append((float(flat[axis]), f"{flat[axis]:g}", point))
    lines = []
    for key, members in series.items():
        members.sort(key=lambda member: member[0])
        figures = [_figures([point])[name] for *_, point in members]
        bars = [(one.low, one.high) if one.low is not None and one.high is not None else () for one in figures]
        xs, ys = [value if x is None else x(point) for value, _, point in members], [one.value for one in figures]
        lines.append(Line(key, xs, ys, () if x is None else [label for _, label, _ in members], bars))
    return lines


def _axes(points: Sequence[Point]) -> list[str]:
    """Return the numeric settings that differ between points; of settings that vary together the first."""
    flat = [flatten(point.settings) for point in points]
    patterns: dict[tuple[int, ...], str] = {}
    for name in dict.fromkeys(name for settings in flat for name in settings):
        values = [settings[name] for settings in flat if name in settings]
        is_number = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        distinct = list(dict.fromkeys(values)) if is_number else []
        if len(distinct) > 1:
            pattern = tuple(distinct.index(settings[name]) if name in settings else -1 for settings in flat)
            patterns.setdefault(pattern, name)
    return list(patterns.values())


def _axis(points: Sequence[Point], setting: str) -> str | None:
    """Return the axis of a setting, else the first axis, or None if no number varies."""
    axes = _axes(points)
    return next((axis for axis in axes if axis.endswith(setting)), axes[0] if axes else None)


def _words(axis: str) -> str:
    """Write decoder.num_steps as decoder steps."""
    stage, _, setting = axis.rpartition(".")
    return " ".join(filter(None, (stage, SWEPT.get(setting, setting))))


def _figures(points: Sequence[Point]) -> dict[str, Figure]:
    """Return a figure of each metric."""
    return {figure.name: figure for point in points for figure in point.figures}


def _plot(points: Sequence[Point], name: str, lines: list[Line], x_label: str, against: str = "") -> Plot:
    title = _figures(points)[name].title
    return f"{title} against {against or x_label}", lines, x_label, title
