"""Measures of pictures, and pages that report them. Knows pictures, captions and CLIP; never a pipeline."""

from unclip.evaluation.clip_figures import clip_score, diversity, r_precision
from unclip.evaluation.dinov2 import DinoConfig, DinoFeatures, DinoV2, dino_config
from unclip.evaluation.estimates import Estimate, Interval, bootstrap
from unclip.evaluation.features import ClipFeatures, FeatureNetwork, ModuleFeatures
from unclip.evaluation.frechet import frechet_distance
from unclip.evaluation.gaussian import Gaussian
from unclip.evaluation.inception import Inception, InceptionFeatures
from unclip.evaluation.inception_score import inception_score
from unclip.evaluation.kernel_distance import kernel_distance, kernel_distance_of_subsets
from unclip.evaluation.manifold import ManifoldMetrics, manifold_metrics
from unclip.evaluation.metrics import METRICS, Measured, Metric, few_images_warning, measure
from unclip.evaluation.mmd import mmd
from unclip.evaluation.plot import Line, svg_plot
from unclip.evaluation.prior_cosines import COSINE_FIGURES, cosine_figures, recall_at_1
from unclip.evaluation.psnr import psnr
from unclip.evaluation.report import Report
from unclip.evaluation.retrieval import Retrieval, concept_ranks, retrieval

__all__ = [
    "COSINE_FIGURES",
    "METRICS",
    "ClipFeatures",
    "DinoConfig",
    "DinoFeatures",
    "DinoV2",
    "Estimate",
    "FeatureNetwork",
    "Gaussian",
    "Inception",
    "InceptionFeatures",
    "Interval",
    "Line",
    "ManifoldMetrics",
    "Measured",
    "Metric",
    "ModuleFeatures",
    "Report",
    "Retrieval",
    "bootstrap",
    "clip_score",
    "concept_ranks",
    "cosine_figures",
    "dino_config",
    "diversity",
    "few_images_warning",
    "frechet_distance",
    "inception_score",
    "kernel_distance",
    "kernel_distance_of_subsets",
    "manifold_metrics",
    "measure",
    "mmd",
    "psnr",
    "r_precision",
    "recall_at_1",
    "retrieval",
    "svg_plot",
]
