"""A page that compares several evaluations."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from unclip.config import Config
from unclip.errors import InputError
from unclip.evaluate.curves import Plot, against_seconds
from unclip.evaluate.pages import add_table
from unclip.evaluate.results import Evaluation, Point
from unclip.evaluate.tables import Cell, Table, figures_table, warnings_of
from unclip.machine import Machine
from unclip.report import Line, Report

GIBIBYTE = 2**30


class Speed(Config):
    """How fast a model draws, and in how much memory."""

    subject: str
    """The model or preset."""
    image_size: int
    batch_size: int = 1
    seconds_per_image: float
    peak_bytes: int | None = None
    """Most memory that was in use; None where nobody looked."""
    machine: Machine


def write_comparison(
    evaluations: Sequence[Evaluation], folder: Path | str, *, speeds: Sequence[Speed] = (), name: str = "comparison"
) -> Path:
    """Write `<name>.html` and `<name>.md` into `folder`; returns the path of the first.

    It has a table of all points, each figure against seconds a picture with a line for each evaluation, and of
    `speeds` the seconds and the memory by image size. What makes figures of two evaluations not comparable, such as
    other numbers of pictures, is said. Raises `InputError` where there is nothing to compare.
    """
    if not evaluations and not speeds:
        raise InputError("there is nothing to compare; give at least one evaluation or one timing.")
    report = Report("Comparison")
    if evaluations:
        _add_evaluations(report, evaluations)
    if speeds:
        _add_speeds(report, speeds)
    report.heading("How it was measured")
    add_table(report, _sources(evaluations, speeds))
    return report.save(folder, name)


def _add_evaluations(report: Report, evaluations: Sequence[Evaluation]) -> None:
    groups = _grouped(evaluations)
    points = [point for several in groups.values() for point in several]
    report.heading("Figures")
    add_table(report, figures_table([_renamed(name, point) for name, several in groups.items() for point in several]))
    for warning in [*_differences(evaluations), *warnings_of(points)]:
        report.text(f"Warning: {warning}")
    for note in dict.fromkeys(note for evaluation in evaluations for note in evaluation.notes):
        report.text(f"Note: {note}")
    plots = list(against_seconds(groups))
    if plots:
        report.heading("Quality against seconds")
    for plot in plots:
        report.plot(*plot)


def _grouped(evaluations: Sequence[Evaluation]) -> dict[str, tuple[Point, ...]]:
    """The points of each evaluation, by its subject; a number tells apart those of one subject."""
    groups: dict[str, tuple[Point, ...]] = {}
    for evaluation in evaluations:
        name, number = evaluation.subject, 2
        while name in groups:
            name, number = f"{evaluation.subject} ({number})", number + 1
        groups[name] = evaluation.points
    return groups


def _renamed(name: str, point: Point) -> Point:
    return point.replace(label=f"{name}: {point.label}" if point.label else name)


def _differences(evaluations: Sequence[Evaluation]) -> Iterator[str]:
    """Why figures of these evaluations cannot be put beside each other."""
    conditions: dict[str, Callable[[Evaluation], object]] = {
        "references": lambda one: one.reference,
        "numbers of pictures": lambda one: one.num_images,
        "numbers of reference pictures": lambda one: one.num_reference,
        "image sizes": lambda one: one.image_size,
        "features": lambda one: ", ".join(f"{use}: {network}" for use, network in sorted(one.features.items())),
    }
    for what, of in conditions.items():
        found = list(dict.fromkeys(str(of(one)) for one in evaluations))
        if len(found) > 1:
            yield f"the evaluations have different {what} ({'; '.join(found)}), so their figures are not comparable."


def _add_speeds(report: Report, speeds: Sequence[Speed]) -> None:
    report.heading("Seconds and memory")
    rows: list[tuple[Cell, ...]] = [
        (
            speed.subject,
            f"{speed.image_size} px",
            speed.batch_size,
            speed.seconds_per_image,
            "none" if speed.peak_bytes is None else f"{speed.peak_bytes / GIBIBYTE:.4g} GiB",
        )
        for speed in speeds
    ]
    add_table(report, Table(("model", "image size", "batch", "seconds per image", "peak memory"), rows))
    if len({speed.image_size for speed in speeds}) > 1:
        report.plot(*_by_size(speeds, "seconds per image", lambda speed: speed.seconds_per_image))
        if any(speed.peak_bytes is not None for speed in speeds):
            report.plot(*_by_size(speeds, "peak GiB", _gibibytes))


def _by_size(speeds: Sequence[Speed], y_label: str, value: Callable[[Speed], float]) -> Plot:
    lines = []
    for subject, batch in dict.fromkeys((speed.subject, speed.batch_size) for speed in speeds):
        own = [speed for speed in speeds if (speed.subject, speed.batch_size) == (subject, batch)]
        own.sort(key=lambda speed: speed.image_size)
        sizes = [float(speed.image_size) for speed in own]
        lines.append(Line(f"{subject}, batch {batch}", sizes, [value(speed) for speed in own]))
    return Plot(f"{y_label} against image size", lines, "image size in pixels", y_label)


def _gibibytes(speed: Speed) -> float:
    return math.nan if speed.peak_bytes is None else speed.peak_bytes / GIBIBYTE


def _sources(evaluations: Sequence[Evaluation], speeds: Sequence[Speed]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (one.subject, f"{one.num_images:,}", str(one.seed), str(one.machine)) for one in evaluations
    ]
    rows += [(speed.subject, "timed", "none", str(speed.machine)) for speed in speeds]
    return Table(("subject", "pictures", "seed", "machine"), list(dict.fromkeys(rows)))
