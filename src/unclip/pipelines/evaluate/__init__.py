"""Evaluations: pictures of a model or a folder against a reference. Knows pipelines and metrics; no surface."""

from unclip.pipelines.evaluate.results import Evaluation, Figure, Point

__all__ = ["Evaluation", "Figure", "Point"]
