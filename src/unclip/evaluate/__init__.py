"""Evaluate a model or a folder of pictures against a reference."""

from unclip.evaluate.comparison import Speed, write_comparison
from unclip.evaluate.folders import evaluate_folders
from unclip.evaluate.memorisation import Memorisation, evaluate_memorisation
from unclip.evaluate.models import evaluate_model
from unclip.evaluate.networks import open_features
from unclip.evaluate.options import EvaluateOptions
from unclip.evaluate.pages import card_section, embed_in_card, write_report
from unclip.evaluate.results import Evaluation, Figure, Point
from unclip.evaluate.suites import (
    SUITES,
    SuiteResults,
    prior_suite,
    prompt_diversity,
    round_trip,
    run_suites,
    upsampler_consistency,
)

__all__ = [
    "SUITES",
    "EvaluateOptions",
    "Evaluation",
    "Figure",
    "Memorisation",
    "Point",
    "Speed",
    "SuiteResults",
    "card_section",
    "embed_in_card",
    "evaluate_folders",
    "evaluate_memorisation",
    "evaluate_model",
    "open_features",
    "prior_suite",
    "prompt_diversity",
    "round_trip",
    "run_suites",
    "upsampler_consistency",
    "write_comparison",
    "write_report",
]
