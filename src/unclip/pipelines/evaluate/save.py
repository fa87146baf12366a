"""Writing what an evaluation found. Knows results and their pages; computes nothing."""

from pathlib import Path

from unclip.files import atomic_write
from unclip.pipelines.evaluate.pages import write_report
from unclip.pipelines.evaluate.results import Evaluation

__all__ = ["RESULTS_FILE", "save_evaluation"]

RESULTS_FILE = "results.json"


def save_evaluation(folder: Path, evaluation: Evaluation, command: str | None = None) -> None:
    """Write results.json and the reports of it; `command` is the line that asked for it."""
    atomic_write(folder / RESULTS_FILE, evaluation.model_dump_json(indent=1) + "\n")
    write_report(evaluation, folder, command=command)
