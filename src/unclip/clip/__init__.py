"""CLIP: images and texts in one embedding space (arXiv 2103.00020)."""

from unclip.clip.config import ClipConfig, clip_preset
from unclip.clip.encoder import TextImageEncoder, clip_hash, save_encoder
from unclip.clip.model import Clip, TextFeatures, contrastive_loss
from unclip.clip.multilingual import (
    MultilingualClip,
    MultilingualConfig,
    MultilingualEncoder,
    MultilingualTokenizer,
    multilingual_preset,
)
from unclip.clip.sentence import SentenceEncoder, sentence_folder
from unclip.clip.tokenizer import TokenBatch, Tokenizer

__all__ = [
    "Clip",
    "ClipConfig",
    "MultilingualClip",
    "MultilingualConfig",
    "MultilingualEncoder",
    "MultilingualTokenizer",
    "SentenceEncoder",
    "TextFeatures",
    "TextImageEncoder",
    "TokenBatch",
    "Tokenizer",
    "clip_hash",
    "clip_preset",
    "contrastive_loss",
    "multilingual_preset",
    "save_encoder",
    "sentence_folder",
]
