"""The figures of an evaluation as a part of a model card. Knows results and a text with marks; no other page."""

from pathlib import Path

from unclip.errors import InputError
from unclip.evaluation import Report
from unclip.files import atomic_write
from unclip.pipelines.evaluate.pages import add_table
from unclip.pipelines.evaluate.results import Evaluation
from unclip.pipelines.evaluate.tables import figures_table, suite_tables, suite_text, warnings_of

__all__ = ["card_section", "embed_in_card"]

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
