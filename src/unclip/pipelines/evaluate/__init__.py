"""Evaluations: pictures of a model or a folder against a reference. Knows pipelines and metrics; no surface."""

from unclip.pipelines.evaluate.chosen_suites import SUITES, SuiteResults, run_suites
from unclip.pipelines.evaluate.results import Evaluation, Figure, Point
from unclip.pipelines.evaluate.suites import prior_suite, prompt_diversity, round_trip, upsampler_consistency

__all__ = [
    "SUITES",
    "Evaluation",
    "Figure",
    "Point",
    "SuiteResults",
    "prior_suite",
    "prompt_diversity",
    "round_trip",
    "run_suites",
    "upsampler_consistency",
]
