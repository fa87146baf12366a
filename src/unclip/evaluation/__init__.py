"""Measures of pictures. Knows pictures, captions and CLIP; never a pipeline."""

from unclip.evaluation.psnr import psnr
from unclip.evaluation.retrieval import Retrieval, concept_ranks, retrieval

__all__ = ["Retrieval", "concept_ranks", "psnr", "retrieval"]
