"""Metrics of pictures and embeddings, as tensors: how pictures were made does not matter here."""

from unclip.metrics.clip import COSINE_FIGURES, clip_score, cosine_figures, diversity, r_precision, recall_at_1
from unclip.metrics.dinov2 import DinoConfig, DinoFeatures, DinoV2, dino_config
from unclip.metrics.estimates import ConfidenceInterval, Estimate, bootstrap
from unclip.metrics.features import ClipFeatures, FeatureNetwork, ModuleFeatures
from unclip.metrics.frechet import Gaussian, frechet_distance
from unclip.metrics.inception import Inception, InceptionFeatures
from unclip.metrics.inception_score import inception_score
from unclip.metrics.kernel import kernel_distance, kernel_distance_of_subsets, mmd
from unclip.metrics.manifold import ManifoldMetrics, manifold_metrics
from unclip.metrics.psnr import psnr
from unclip.metrics.retrieval import Retrieval, concept_ranks, retrieval
from unclip.metrics.table import METRICS, Metric, MetricValue, few_images_warning, measure

__all__ = [
    "COSINE_FIGURES",
    "METRICS",
    "ClipFeatures",
    "ConfidenceInterval",
    "DinoConfig",
    "DinoFeatures",
    "DinoV2",
    "Estimate",
    "FeatureNetwork",
    "Gaussian",
    "Inception",
    "InceptionFeatures",
    "ManifoldMetrics",
    "Metric",
    "MetricValue",
    "ModuleFeatures",
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
]
