"""A page that compares several evaluations and timings."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from unclip.config import Config
from unclip.errors import InputError
from unclip.evaluate.curves import seconds_plots
from unclip.evaluate.pages import add_figures
from unclip.evaluate.results import Evaluation, Point
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
    """Largest memory in use; None where it was not measured."""
    machine: Machine

    @property
    def peak_gibibytes(self) -> float:
        """`peak_bytes` in GiB; NaN where it was not measured."""
        return math.nan if self.peak_bytes is None else self.peak_bytes / GIBIBYTE


def write_comparison(
    evaluations: Sequence[Evaluation], folder: Path | str, *, speeds: Sequence[Speed] = (), name: str = "comparison"
) -> Path:
    """Write `<name>.html` and `<name>.md` into `folder`; returns the path of the first.

    The page has a table of all points, each figure against seconds per picture with a line for each evaluation, and of
    `speeds` the seconds and the memory by image size. It warns of what makes figures of two evaluations incomparable,
    such as different numbers of pictures. Raises `InputError` for nothing to compare.
    """
    if not evaluations and not speeds:
        raise InputError("there is nothing to compare; give at least one evaluation or one timing.")
    page = Report("Comparison")
    if evaluations:
        _add_evaluations(page, evaluations)
    if speeds:
        _add_speeds(page, speeds)
    page.heading("How it was measured")
    rows = [(one.subject, f"{one.num_images:,}", str(one.seed), str(one.machine)) for one in evaluations]
    rows += [(speed.subject, "timed", "none", str(speed.machine)) for speed in speeds]
    page.table(("subject", "pictures", "seed", "machine"), list(dict.fromkeys(rows)))
    return page.save(folder, name)


def _add_evaluations(page: Report, evaluations: Sequence[Evaluation]) -> None:
    groups: dict[str, Sequence[Point]] = {}
    for evaluation in evaluations:
        name, number = evaluation.subject, 2
        while name in groups:
            name, number = f"{evaluation.subject} ({number})", number + 1
        groups[name] = evaluation.points
    points = {
        f"{name}: {point.label}" if point.label else name: point for name, group in groups.items() for point in group
    }
    page.heading("Figures")
    notes = list(dict.fromkeys(note for evaluation in evaluations for note in evaluation.notes))
    add_figures(page, points, notes, list(_incomparable(evaluations)))
    plots = list(seconds_plots(groups))
    if plots:
        page.heading("Quality against seconds")
    for plot in plots:
        page.plot(*plot)


def _incomparable(evaluations: Sequence[Evaluation]) -> Iterator[str]:
    """Yield the reasons why figures of these evaluations cannot be compared."""
    conditions: dict[str, Callable[[Evaluation], object]] = {
        "references": lambda one: one.reference,
        "numbers of pictures": lambda one: one.num_images,
        "numbers of reference pictures": lambda one: one.num_reference,
        "image sizes": lambda one: one.image_size,
        "features": lambda one: ", ".join(f"{metric}: {network}" for metric, network in sorted(one.features.items())),
    }
    for what, of in conditions.items():
        values = list(dict.fromkeys(str(of(one)) for one in evaluations))
        if len(values) > 1:
            yield f"the evaluations have different {what} ({'; '.join(values)}), so their figures are not comparable."


def _add_speeds(page: Report, speeds: Sequence[Speed]) -> None:
    page.heading("Seconds and memory")
    rows = [
        (
            speed.subject,
            f"{speed.image_size} px",
            speed.batch_size,
            speed.seconds_per_image,
            "none" if speed.peak_bytes is None else f"{speed.peak_gibibytes:.4g} GiB",
        )
        for speed in speeds
    ]
    page.table(("model", "image size", "batch", "seconds per image", "peak memory"), rows)
    values: dict[str, Callable[[Speed], float]] = {"seconds per image": lambda speed: speed.seconds_per_image}
    if any(speed.peak_bytes is not None for speed in speeds):
        values["peak GiB"] = lambda speed: speed.peak_gibibytes
    if len({speed.image_size for speed in speeds}) == 1:
        return
    series: dict[tuple[str, int], list[Speed]] = {}
    for speed in sorted(speeds, key=lambda speed: speed.image_size):
        series.setdefault((speed.subject, speed.batch_size), []).append(speed)
    for label, of in values.items():
        lines = [
            Line(f"{subject}, batch {batch}", [float(speed.image_size) for speed in group], list(map(of, group)))
            for (subject, batch), group in series.items()
        ]
        page.plot(f"{label} against image size", lines, "image size in pixels", label)
