"""Evaluations: pictures of a model or a folder against a reference. Knows pipelines and metrics; no surface."""

from unclip.pipelines.evaluate.card import card_section, embed_in_card
from unclip.pipelines.evaluate.chosen_suites import SUITES, SuiteResults, run_suites
from unclip.pipelines.evaluate.comparison import Speed, write_comparison
from unclip.pipelines.evaluate.folders import evaluate_folders
from unclip.pipelines.evaluate.models import evaluate_model
from unclip.pipelines.evaluate.options import EvaluateOptions
from unclip.pipelines.evaluate.pages import write_report
from unclip.pipelines.evaluate.results import Evaluation, Figure, Point
from unclip.pipelines.evaluate.suites import prior_suite, prompt_diversity, round_trip, upsampler_consistency

__all__ = [
    "SUITES",
    "EvaluateOptions",
    "Evaluation",
    "Figure",
    "Point",
    "Speed",
    "SuiteResults",
    "card_section",
    "embed_in_card",
    "evaluate_folders",
    "evaluate_model",
    "prior_suite",
    "prompt_diversity",
    "round_trip",
    "run_suites",
    "upsampler_consistency",
    "write_comparison",
    "write_report",
]
