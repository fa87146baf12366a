"""Measures of pictures, and pages that report them. Knows pictures, captions and CLIP; never a pipeline."""

from unclip.evaluation.frechet import frechet_distance
from unclip.evaluation.plot import Line, svg_plot
from unclip.evaluation.prior_cosines import COSINE_FIGURES, cosine_figures, recall_at_1
from unclip.evaluation.psnr import psnr
from unclip.evaluation.report import Report
from unclip.evaluation.retrieval import Retrieval, concept_ranks, retrieval

__all__ = [
    "COSINE_FIGURES",
    "Line",
    "Report",
    "Retrieval",
    "concept_ranks",
    "cosine_figures",
    "frechet_distance",
    "psnr",
    "recall_at_1",
    "retrieval",
    "svg_plot",
]
