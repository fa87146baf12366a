"""Writing what an evaluation found. Knows results and files."""

from pathlib import Path

from unclip.files import atomic_write
from unclip.pipelines.evaluate.results import Evaluation

__all__ = ["RESULTS_FILE", "save_evaluation"]

RESULTS_FILE = "results.json"


def save_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Write results.json, whole or not at all."""
    atomic_write(folder / RESULTS_FILE, evaluation.model_dump_json(indent=1) + "\n")
