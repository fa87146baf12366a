"""Pages of evaluations: the report, the section of a model card, and the blocks that comparisons share."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from unclip.config import flatten
from unclip.errors import InputError
from unclip.evaluate.curves import sweep_plots
from unclip.evaluate.results import RESULTS_FILE, Evaluation, Point
from unclip.evaluate.suites import DESCRIPTIONS, meaning
from unclip.files import atomic_write
from unclip.images import grid
from unclip.metrics import METRICS
from unclip.pictures import open_picture
from unclip.report import Cell, Report

MOST_SINGLE = 12
"""More pictures than this are one sheet."""
COLUMNS, CELL, GAP = 8, 128, 4
START, END = "<!-- evaluation -->", "<!-- /evaluation -->"


def save_evaluation(folder: Path, evaluation: Evaluation, command: str | None = None) -> None:
    """Write results.json and the reports of it; `command` is the command line of the evaluation."""
    atomic_write(folder / RESULTS_FILE, evaluation.model_dump_json(indent=1) + "\n")
    write_report(evaluation, folder, command=command)


def write_report(evaluation: Evaluation, folder: Path | str, *, command: str | None = None) -> Path:
    """Write `report.html`, which is complete, and `report.md` into `folder`; returns the path of the first.

    Sample pictures are read from `folder`. `command` is the command line of the evaluation. Raises `InputError` for a
    picture that cannot be read and a folder that cannot be written.
    """
    points = {point.label or "all": point for point in evaluation.points}
    page = Report(f"Evaluation of {evaluation.subject}")
    page.text(
        f"{evaluation.num_images:,} pictures of {evaluation.subject} at {evaluation.image_size} px"
        f"{_reference(evaluation)}. {evaluation.machine}."
    )
    page.heading("Figures")
    add_figures(page, points, evaluation.notes)
    plots = list(sweep_plots(evaluation.points))
    if plots:
        page.heading("Plots")
    for plot in plots:
        page.plot(*plot)
    _add_suites(page, points, has_headings=True)
    _add_pictures(page, points, Path(folder))
    settings = [flatten(point.settings) for point in evaluation.points if point.settings]
    if settings:
        page.heading("Settings")
        rows = []
        for name in dict.fromkeys(name for flat in settings for name in flat):
            values = [_text(flat[name]) for flat in settings if name in flat]
            rows.append((name, values[0] if len(set(values)) == 1 else "; ".join(values)))
        page.table(("setting", "value"), rows)
    page.heading("How it was measured")
    machine = evaluation.machine
    conditions = [
        ("subject", evaluation.subject),
        ("reference", evaluation.reference or "none"),
        ("pictures", f"{evaluation.num_images:,}"),
        ("reference pictures", f"{evaluation.num_reference:,}"),
        ("image size", f"{evaluation.image_size} px"),
        ("seed", str(evaluation.seed)),
        *((f"features of {metric}", network) for metric, network in evaluation.features.items()),
        ("processor", f"{machine.processor} ({machine.cores} cores, {machine.threads} threads)"),
        ("GPU", machine.gpu or "none"),
        ("software", f"unclip {evaluation.version}, torch {machine.torch}, Python {machine.python}"),
        ("commit", machine.commit or "of an installed package"),
        ("date", machine.date),
    ]
    page.table(("what", "value"), conditions + ([("command", command)] if command else []))
    return page.save(folder)


def add_figures(page: Report, points: Mapping[str, Point], notes: Sequence[str], warnings: Sequence[str] = ()) -> None:
    """Add a row for each figure of one point, or for each of several points; then all warnings and notes once."""
    every = [figure for point in points.values() for figure in point.figures]
    titles = {figure.name: _with_direction(figure.name, figure.title) for figure in every}
    seconds = {label: point.seconds_per_image for label, point in points.items()}
    is_timed = any(value is not None for value in seconds.values())
    rows: list[tuple[Cell, ...]]
    if len(points) == 1:
        rows = [(titles[one.name], one.value, one.interval or "none", one.num_images) for one in every]
        rows += [("seconds per image", value, "none", "all") for value in seconds.values() if value is not None]
        page.table(("figure", "value", "interval", "pictures"), rows)
    else:
        rows = []
        for label, point in points.items():
            cells: list[Cell] = [label]
            for figure in map(point.figure, titles):
                if figure is not None and figure.interval:
                    cells.append(f"{figure.value:.4g} ({figure.interval})")
                else:
                    cells.append("none" if figure is None else figure.value)
            value = seconds[label]
            rows.append((*cells, *(["none" if value is None else value] if is_timed else [])))
        page.table(("point", *titles.values(), *(["seconds per image"] if is_timed else [])), rows)
    for warning in dict.fromkeys((*warnings, *(figure.warning for figure in every if figure.warning))):
        page.text(f"Warning: {warning}")
    for note in notes:
        page.text(f"Note: {note}")


def _with_direction(name: str, title: str) -> str:
    metric = METRICS.get(name)
    if metric is None:
        return title
    unit = f"{metric.unit}, " if metric.unit else ""
    return f"{title} ({unit}{'lower' if metric.lower_is_better else 'higher'} is better)"


def _add_suites(page: Report, points: Mapping[str, Point], *, has_headings: bool = False) -> None:
    """Add the table of each suite: measures as rows for one point, points as rows for several."""
    for suite in dict.fromkeys(suite for point in points.values() for suite in point.suites):
        if has_headings:
            page.heading(f"Suite: {suite}")
        page.text(DESCRIPTIONS.get(suite, suite))
        measured = {label: point.suites[suite] for label, point in points.items() if suite in point.suites}
        rows: list[tuple[Cell, ...]]
        if len(measured) == 1:
            [measures] = measured.values()
            rows = [(name, value, meaning(suite, name)) for name, value in measures.items()]
            page.table(("figure", "value", "of"), rows)
        else:
            names = list(dict.fromkeys(name for measures in measured.values() for name in measures))
            rows = [(label, *(values.get(name, "none") for name in names)) for label, values in measured.items()]
            page.table(("point", *names), rows)


def _add_pictures(page: Report, points: Mapping[str, Point], folder: Path) -> None:
    """Add the samples of every point; captions of a contact sheet's cells once if all sheets share them."""
    if any(point.samples for point in points.values()):
        page.heading("Pictures")
    tables = []
    for label, point in points.items():
        captions = _captions(label, point)
        images = [open_picture(folder / path) for path in point.samples]
        if len(images) <= MOST_SINGLE:
            page.pictures(images, [f"{point.label}: {text}" if point.label else text for text in captions])
            continue
        caption = f"{len(images)} pictures, {label}; rows of {COLUMNS}"
        sheet = grid([_cell(image) for image in images], COLUMNS, GAP)
        page.pictures([sheet], [caption], [f"{caption}: {'; '.join(captions)}"])
        rows = [
            (f"row {place // COLUMNS + 1}, column {place % COLUMNS + 1}", text) for place, text in enumerate(captions)
        ]
        if rows not in tables:
            tables.append(rows)
    for rows in tables:
        page.text("What the pictures of the sheet are of, row by row:")
        page.table(("place", "picture"), rows)


def _captions(label: str, point: Point) -> list[str]:
    """Return the prompt and the seed of each sample, as far as they are known."""
    for name, values in (("prompts", point.prompts), ("seeds", point.seeds)):
        if values and len(values) != len(point.samples):
            raise InputError(
                f"the point {label!r} has {len(point.samples)} samples but {len(values)} {name}; give one for each."
            )
    prompts = point.prompts or ("",) * len(point.samples)
    seeds = [f"seed {seed}" for seed in point.seeds] or [""] * len(point.samples)
    return [", ".join(filter(None, pair)) for pair in zip(prompts, seeds, strict=True)]


def _cell(image: Image.Image) -> Image.Image:
    """Return a picture in a cell of the sheet; small pictures are enlarged pixel by pixel."""
    scale = CELL / max(image.size)
    size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
    scaled = image.convert("RGB").resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST)
    cell = Image.new("RGB", (CELL, CELL), "white")
    cell.paste(scaled, ((CELL - size[0]) // 2, (CELL - size[1]) // 2))
    return cell


def _reference(evaluation: Evaluation) -> str:
    return f", compared with {evaluation.num_reference:,} of {evaluation.reference}" if evaluation.reference else ""


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)


def card_section(evaluation: Evaluation, *, command: str | None = None) -> str:
    """Return figures, suites and how they were measured, as Markdown below a heading of the second level."""
    points = {point.label or "all": point for point in evaluation.points}
    page = Report("Evaluation")
    page.text(
        f"{evaluation.num_images:,} pictures at {evaluation.image_size} px{_reference(evaluation)}; "
        f"seed {evaluation.seed}."
    )
    add_figures(page, points, evaluation.notes)
    _add_suites(page, points)
    features = "; ".join(f"{metric}: {network}" for metric, network in evaluation.features.items())
    page.text(f"Measured with unclip {evaluation.version} on {evaluation.machine}. Features: {features or 'none'}.")
    if command:
        page.text(f"`{command}`")
    # A mark in a name would end the section, and the next evaluation would leave half of it behind.
    return f"#{page.markdown('')}".replace("<!--", "&lt;!--")


def embed_in_card(card: Path | str, evaluation: Evaluation, *, command: str | None = None) -> None:
    """Put `card_section` between the marks <!-- evaluation --> and <!-- /evaluation --> of a card, or at its end.

    All other bytes of the card stay, and it is replaced as a whole. Raises `InputError` for a card that is missing or
    not UTF-8, and for marks that are not one of each in this order.
    """
    try:
        text = Path(card).read_bytes().decode()
    except UnicodeDecodeError:
        raise InputError(f"{card} is not text in UTF-8; give a Markdown file.") from None
    except OSError as error:
        raise InputError(f"cannot read {card}: {error.strerror or error}; give the model card to change.") from None
    newline = "\r\n" if "\r\n" in text else "\n"
    section = f"\n{card_section(evaluation, command=command)}".replace("\n", newline)
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if START not in text and END not in text:
        gap = "" if not text else newline if text.endswith("\n") else 2 * newline
        atomic_write(card, f"{text}{gap}{START}{section}{END}{newline}")
    elif (text.count(START), text.count(END), end) == (1, 1, END):
        atomic_write(card, before + start + section + end + after)
    else:
        raise InputError(
            f"{card} has {text.count(START)} marks {START} and {text.count(END)} marks {END}; leave one of each in "
            "this order, or none."
        )
