"""Tables of an evaluation as rows of text."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from unclip.evaluate.results import Evaluation, Figure, Point
from unclip.metrics import COSINE_FIGURES, METRICS

Cell = str | int | float


SUITE_TEXTS = {
    "prior": "The prior: cosines in the model's own CLIP, which the prior was trained to please.",
    "round_trip": "The decoder's round trip: z is CLIP's embedding of a real picture, and CLIP looks at what is drawn.",
    "upsampler": "The upsamplers: PSNR in dB of their pictures, shrunk again, against what they got.",
    "diversity": "Diversity: how far pictures of one prompt are apart, as the mean over pairs of 1 - cosine.",
}


MEANINGS: Mapping[str, Mapping[str, str]] = {
    "prior": COSINE_FIGURES,
    "round_trip": {
        "cosine_mean": "z and what was drawn of it, mean",
        "cosine_median": "z and what was drawn of it, median",
        "recall_at_1": "share of drawn pictures whose nearest z is their own",
        "floor_mean": "the z of another picture and what was drawn, mean: what a decoder that ignores z has",
        "floor_median": "the z of another picture and what was drawn, median",
        "shrunk_mean": "z and the real picture at the decoder's size: what the size alone leaves",
    },
    "diversity": {
        "diversity": "mean over prompts",
        "least": "of the prompt whose pictures are most alike",
    },
}


BICUBIC = "_bicubic"


class Table(NamedTuple):
    """Names of columns, and rows of as many cells."""

    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]]


def label_of(point: Point) -> str:
    """What a row or a caption calls a point."""
    return point.label or "all"


def shown_figure(figure: Figure) -> str:
    """A value with its interval, if it has one: 12.3 (11.9 to 12.8)."""
    return f"{figure.value:.4g}" + (f" ({interval})" if (interval := _interval(figure)) else "")


def figures_table(points: Sequence[Point]) -> Table:
    """A row for each figure of one point, or a row for each of several points."""
    if len(points) == 1:
        rows: list[tuple[Cell, ...]] = [
            (_with_direction(figure), figure.value, _interval(figure) or "none", figure.num_images)
            for figure in points[0].figures
        ]
        if points[0].seconds_per_image is not None:
            rows.append(("seconds per image", points[0].seconds_per_image, "none", "all"))
        return Table(("figure", "value", "interval", "pictures"), rows)
    titles = {figure.name: _with_direction(figure) for point in points for figure in point.figures}
    is_timed = any(point.seconds_per_image is not None for point in points)
    columns = ("point", *titles.values(), *(["seconds per image"] if is_timed else []))
    return Table(columns, [_row(point, list(titles), is_timed) for point in points])


def warnings_of(points: Sequence[Point]) -> list[str]:
    """Every warning once, in the order of the figures."""
    found = [figure.warning for point in points for figure in point.figures if figure.warning]
    return list(dict.fromkeys(found))


def suite_tables(points: Sequence[Point]) -> dict[str, Table]:
    """The table of each suite by its name: measures as rows for one point, points as rows for several."""
    names = dict.fromkeys(name for point in points for name in point.suites)
    return {name: _suite_table(name, [point for point in points if name in point.suites]) for name in names}


def suite_text(name: str) -> str:
    """What a suite is of."""
    return SUITE_TEXTS.get(name, name)


def flat_settings(settings: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Settings by dotted name: `{"decoder": {"num_steps": 25}}` has decoder.num_steps."""
    flat: dict[str, object] = {}
    for name, value in settings.items():
        inside = isinstance(value, Mapping)
        flat |= flat_settings(value, f"{prefix}{name}.") if inside else {f"{prefix}{name}": value}  # type: ignore[arg-type]
    return flat


def settings_table(points: Sequence[Point]) -> Table:
    """Every sampling setting; one that differs between points has all its values, in the order of the points."""
    flat = [flat_settings(point.settings) for point in points]
    rows: list[tuple[Cell, ...]] = []
    for name in dict.fromkeys(name for settings in flat for name in settings):
        values = [_shown(settings[name]) for settings in flat if name in settings]
        rows.append((name, values[0] if len(set(values)) == 1 else "; ".join(values)))
    return Table(("setting", "value"), rows)


def measured_table(evaluation: Evaluation, command: str | None = None) -> Table:
    """All that someone needs to measure the same again."""
    machine = evaluation.machine
    rows: list[tuple[Cell, ...]] = [
        ("subject", evaluation.subject),
        ("reference", evaluation.reference or "none"),
        ("pictures", f"{evaluation.num_images:,}"),
        ("reference pictures", f"{evaluation.num_reference:,}"),
        ("image size", f"{evaluation.image_size} px"),
        ("seed", str(evaluation.seed)),
        *((f"features of {use}", network) for use, network in evaluation.features.items()),
        ("processor", f"{machine.processor} ({machine.cores} cores, {machine.threads} threads)"),
        ("GPU", machine.gpu or "none"),
        ("software", f"unclip {evaluation.version}, torch {machine.torch}, Python {machine.python}"),
        ("commit", machine.commit or "of an installed package"),
        ("date", machine.date),
    ]
    return Table(("what", "value"), rows + ([("command", command)] if command else []))


def _row(point: Point, names: Sequence[str], is_timed: bool) -> tuple[Cell, ...]:
    figures = {figure.name: figure for figure in point.figures}
    cells: list[Cell] = [label_of(point)]
    for name in names:
        figure = figures.get(name)
        has_interval = figure is not None and _interval(figure) != ""
        cells.append("none" if figure is None else shown_figure(figure) if has_interval else figure.value)
    seconds = point.seconds_per_image
    return (*cells, *(["none" if seconds is None else seconds] if is_timed else []))


def _interval(figure: Figure) -> str:
    return "" if figure.low is None or figure.high is None else f"{figure.low:.4g} to {figure.high:.4g}"


def _with_direction(figure: Figure) -> str:
    metric = METRICS.get(figure.name)
    if metric is None or metric.lower_is_better is None:
        return figure.title
    unit = f"{metric.unit}, " if metric.unit else ""
    return f"{figure.title} ({unit}{'lower' if metric.lower_is_better else 'higher'} is better)"


def _suite_table(name: str, points: Sequence[Point]) -> Table:
    if len(points) == 1:
        rows: list[tuple[Cell, ...]] = [
            (measure, value, _meaning(name, measure)) for measure, value in points[0].suites[name].items()
        ]
        return Table(("figure", "value", "of"), rows)
    measures = list(dict.fromkeys(measure for point in points for measure in point.suites[name]))
    several: list[tuple[Cell, ...]] = [
        (label_of(point), *(point.suites[name].get(measure, "none") for measure in measures)) for point in points
    ]
    return Table(("point", *measures), several)


def _meaning(suite: str, measure: str) -> str:
    if suite == "upsampler":
        return "bicubic interpolation, for comparison" if measure.endswith(BICUBIC) else "the upsampler's own pictures"
    return MEANINGS.get(suite, {}).get(measure, "")


def _shown(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value))
    return f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)
