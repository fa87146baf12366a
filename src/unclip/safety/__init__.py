"""Safeguards: what is looked for in requests and pictures, and how pictures are marked as generated. Knows no model."""

from unclip.safety.classifier import ImageClassifier, OpenNsfw
from unclip.safety.concepts import ConceptGate
from unclip.safety.credentials import Credentials, Signer, read_credentials, sign
from unclip.safety.guard import OFF, Detection, Guard, SafetyReport, blur
from unclip.safety.marker import UNMARKED, Marker
from unclip.safety.policy import (
    ConceptRule,
    Limit,
    Provenance,
    SafetyPolicy,
    load_policy,
    shipped_policies,
)
from unclip.safety.probe import ConceptProbe
from unclip.safety.text import Hit, WordFilter, normalize, word_categories
from unclip.safety.verify import Mark, Verification, verify_picture
from unclip.safety.watermark import Watermark, detect_watermark, embed_watermark

__all__ = [
    "OFF",
    "UNMARKED",
    "ConceptGate",
    "ConceptProbe",
    "ConceptRule",
    "Credentials",
    "Detection",
    "Guard",
    "Hit",
    "ImageClassifier",
    "Limit",
    "Mark",
    "Marker",
    "OpenNsfw",
    "Provenance",
    "SafetyPolicy",
    "SafetyReport",
    "Signer",
    "Verification",
    "Watermark",
    "WordFilter",
    "blur",
    "detect_watermark",
    "embed_watermark",
    "load_policy",
    "normalize",
    "read_credentials",
    "shipped_policies",
    "sign",
    "verify_picture",
    "word_categories",
]
