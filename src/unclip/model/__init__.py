"""What a model is: families of networks, folder format, opening, checks, presets, information."""

from unclip.model.assemble import Assembled, assemble
from unclip.model.basis import BASIS_FILE, EmbeddingBasis
from unclip.model.convert import Conversion, convert
from unclip.model.folder import Defaults, ModelConfig, ModelSource, shipped_models
from unclip.model.hashes import write_hashes
from unclip.model.info import ModelInfo, StageInfo, describe_model
from unclip.model.opening import find_model, open_clip, open_sources
from unclip.model.presets import ModelPreset, model_preset, model_presets
from unclip.model.settings import StageSettings

__all__ = [
    "BASIS_FILE",
    "Assembled",
    "Conversion",
    "Defaults",
    "EmbeddingBasis",
    "ModelConfig",
    "ModelInfo",
    "ModelPreset",
    "ModelSource",
    "StageInfo",
    "StageSettings",
    "assemble",
    "convert",
    "describe_model",
    "find_model",
    "model_preset",
    "model_presets",
    "open_clip",
    "open_sources",
    "shipped_models",
    "write_hashes",
]
