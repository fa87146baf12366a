"""Measures of pictures, and pages that report them. Knows pictures, captions and CLIP; never a pipeline."""

from unclip.evaluation.dinov2 import DinoConfig, DinoFeatures, DinoV2, dino_config
from unclip.evaluation.features import ClipFeatures, FeatureNetwork, ModuleFeatures
from unclip.evaluation.frechet import frechet_distance
from unclip.evaluation.inception import Inception, InceptionFeatures
from unclip.evaluation.plot import Line, svg_plot
from unclip.evaluation.psnr import psnr
from unclip.evaluation.report import Report
from unclip.evaluation.retrieval import Retrieval, concept_ranks, retrieval

__all__ = [
    "ClipFeatures",
    "DinoConfig",
    "DinoFeatures",
    "DinoV2",
    "FeatureNetwork",
    "Inception",
    "InceptionFeatures",
    "Line",
    "ModuleFeatures",
    "Report",
    "Retrieval",
    "concept_ranks",
    "dino_config",
    "frechet_distance",
    "psnr",
    "retrieval",
    "svg_plot",
]
