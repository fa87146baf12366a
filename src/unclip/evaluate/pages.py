"""Pages and model cards of an evaluation."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from unclip.errors import InputError
from unclip.evaluate.curves import sweep_plots
from unclip.evaluate.results import Evaluation, Point
from unclip.evaluate.tables import (
    Table,
    figures_table,
    label_of,
    measured_table,
    settings_table,
    suite_tables,
    suite_text,
    warnings_of,
)
from unclip.files import atomic_write
from unclip.images import grid
from unclip.pictures import open_picture
from unclip.report import Report

MOST_SINGLE = 12
"""More pictures than this are one sheet."""
COLUMNS, CELL, GAP = 8, 128, 4


def write_report(evaluation: Evaluation, folder: Path | str, *, command: str | None = None) -> Path:
    """Write `report.html`, which needs no other file, and `report.md` into `folder`; returns the path of the first.

    Pictures of the points are read from `folder`, where the evaluation's are. `command` is the line that made the
    evaluation. Raises `InputError` for a picture that cannot be read and a folder that cannot be written.
    """
    folder, points = Path(folder), evaluation.points
    report = Report(f"Evaluation of {evaluation.subject}")
    _introduce(report, evaluation)
    plots = list(sweep_plots(points))
    if plots:
        report.heading("Plots")
    for plot in plots:
        report.plot(*plot)
    for name, table in suite_tables(points).items():
        report.heading(f"Suite: {name}")
        report.text(suite_text(name))
        add_table(report, table)
    _add_pictures(report, points, folder)
    if any(point.settings for point in points):
        report.heading("Settings")
        add_table(report, settings_table(points))
    report.heading("How it was measured")
    add_table(report, measured_table(evaluation, command))
    return report.save(folder)


def add_table(report: Report, table: Table) -> None:
    """Put a table on the page."""
    report.table(table.columns, table.rows)


def _introduce(report: Report, evaluation: Evaluation) -> None:
    against = f", compared with {evaluation.num_reference:,} of {evaluation.reference}" if evaluation.reference else ""
    report.text(
        f"{evaluation.num_images:,} pictures of {evaluation.subject} at {evaluation.image_size} px{against}. "
        f"{evaluation.machine}."
    )
    report.heading("Figures")
    add_table(report, figures_table(evaluation.points))
    for warning in warnings_of(evaluation.points):
        report.text(f"Warning: {warning}")
    for note in evaluation.notes:
        report.text(f"Note: {note}")


def _add_pictures(report: Report, points: Sequence[Point], folder: Path) -> None:
    """The samples of every point; what they are of stands once where it is the same for all."""
    shown = [point for point in points if point.samples]
    if shown:
        report.heading("Pictures")
    tables = []
    for point in shown:
        images = [open_picture(folder / path) for path in point.samples]
        captions = _captions(point)
        if len(images) <= MOST_SINGLE:
            named = [f"{point.label}: {caption}" if point.label else caption for caption in captions]
            report.pictures(images, named)
            continue
        caption = f"{len(images)} pictures, {label_of(point)}; rows of {COLUMNS}"
        report.pictures([_sheet(images)], [caption], [f"{caption}: {'; '.join(captions)}"])
        table = _places(point)
        if table not in tables:
            tables.append(table)
    for table in tables:
        report.text("What the pictures of the sheet are of, row by row:")
        add_table(report, table)


def _captions(point: Point) -> list[str]:
    """The prompt and the seed of each sample, as far as they are known."""
    for name, values in (("prompts", point.prompts), ("seeds", point.seeds)):
        if values and len(values) != len(point.samples):
            raise InputError(
                f"the point {label_of(point)!r} has {len(point.samples)} samples but {len(values)} {name}; "
                "give one for each."
            )
    prompts = point.prompts or ("",) * len(point.samples)
    seeds = [f"seed {seed}" for seed in point.seeds] or [""] * len(point.samples)
    pairs = zip(prompts, seeds, point.samples, strict=True)
    return [", ".join(filter(None, (prompt, seed))) or path.name for prompt, seed, path in pairs]


def _places(point: Point) -> Table:
    places = [f"row {place // COLUMNS + 1}, column {place % COLUMNS + 1}" for place in range(len(point.samples))]
    return Table(("place", "picture"), list(zip(places, _captions(point), strict=True)))


def _sheet(images: Sequence[Image.Image]) -> Image.Image:
    """All pictures in cells of one size; small ones are enlarged pixel by pixel."""
    return grid([_cell(image) for image in images], COLUMNS, GAP)


def _cell(image: Image.Image) -> Image.Image:
    scale = CELL / max(image.size)
    size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
    shown = image.convert("RGB").resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST)
    cell = Image.new("RGB", (CELL, CELL), "white")
    cell.paste(shown, ((CELL - size[0]) // 2, (CELL - size[1]) // 2))
    return cell


START, END = "<!-- evaluation -->", "<!-- /evaluation -->"


def card_section(evaluation: Evaluation, *, command: str | None = None) -> str:
    """The figures, suites and how they were measured, as Markdown below a heading of the second level."""
    page = Report("Evaluation")
    against = f", compared with {evaluation.num_reference:,} of {evaluation.reference}" if evaluation.reference else ""
    page.text(f"{evaluation.num_images:,} pictures at {evaluation.image_size} px{against}; seed {evaluation.seed}.")
    add_table(page, figures_table(evaluation.points))
    for warning in warnings_of(evaluation.points):
        page.text(f"Warning: {warning}")
    for note in evaluation.notes:
        page.text(f"Note: {note}")
    for name, table in suite_tables(evaluation.points).items():
        page.text(suite_text(name))
        add_table(page, table)
    features = "; ".join(f"{use}: {network}" for use, network in evaluation.features.items())
    page.text(f"Measured with unclip {evaluation.version} on {evaluation.machine}. Features: {features or 'none'}.")
    if command:
        page.text(f"`{command}`")
    # A mark in a name would end the section, and the next evaluation would leave half of it behind.
    return f"#{page.markdown('')}".replace("<!--", "&lt;!--")


def embed_in_card(card: Path | str, evaluation: Evaluation, *, command: str | None = None) -> None:
    """Put `card_section` between the marks <!-- evaluation --> and <!-- /evaluation --> of a card, or at its end.

    All other bytes of the card stay as they are, and it is replaced as a whole. Raises `InputError` for a card that is
    missing or no UTF-8 text, and for marks that are not one of each in this order.
    """
    text = _read(Path(card))
    newline = "\r\n" if "\r\n" in text else "\n"
    section = f"\n{card_section(evaluation, command=command)}".replace("\n", newline)
    counts = (text.count(START), text.count(END))
    if counts == (0, 0):
        gap = "" if not text else newline if text.endswith("\n") else 2 * newline
        atomic_write(card, f"{text}{gap}{START}{section}{END}{newline}")
        return
    first, last = text.find(START), text.find(END)
    if counts != (1, 1) or last < first:
        raise InputError(
            f"{card} has {counts[0]} marks {START} and {counts[1]} marks {END}; "
            "leave one of each in this order, or none."
        )
    atomic_write(card, text[: first + len(START)] + section + text[last:])


def _read(card: Path) -> str:
    try:
        return card.read_bytes().decode()
    except UnicodeDecodeError:
        raise InputError(f"{card} is no text in UTF-8; give a Markdown file.") from None
    except OSError as error:
        raise InputError(f"cannot read {card}: {error.strerror or error}; give the model card to change.") from None


RESULTS_FILE = "results.json"


def save_evaluation(folder: Path, evaluation: Evaluation, command: str | None = None) -> None:
    """Write results.json and the reports of it; `command` is the line that asked for it."""
    atomic_write(folder / RESULTS_FILE, evaluation.model_dump_json(indent=1) + "\n")
    write_report(evaluation, folder, command=command)
