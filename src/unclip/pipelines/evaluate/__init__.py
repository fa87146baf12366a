"""Evaluations: pictures of a model or a folder against a reference. Knows pipelines and metrics; no surface."""

from unclip.pipelines.evaluate.folders import evaluate_folders
from unclip.pipelines.evaluate.models import evaluate_model
from unclip.pipelines.evaluate.options import EvaluateOptions
from unclip.pipelines.evaluate.results import Evaluation, Figure, Point

__all__ = ["EvaluateOptions", "Evaluation", "Figure", "Point", "evaluate_folders", "evaluate_model"]
