"""A model's stages and the tasks they do together. Knows networks, samplers and CLIP; no training and no surface."""

from unclip.pipelines.assemble import Assembled, assemble
from unclip.pipelines.bound_stages import BoundDecoder, BoundPrior, BoundUpsampler
from unclip.pipelines.canvas import Canvas
from unclip.pipelines.clip_model import open_clip
from unclip.pipelines.conditioning import Condition
from unclip.pipelines.convert import Conversion, convert
from unclip.pipelines.decoder_stage import DecoderStage
from unclip.pipelines.draft import Draft
from unclip.pipelines.embed import EmbedReport, embed
from unclip.pipelines.embed_cluster import embed_on_ray
from unclip.pipelines.embedding_basis import BASIS_FILE, EmbeddingBasis
from unclip.pipelines.evaluate import (
    EvaluateOptions,
    Evaluation,
    Figure,
    Point,
    embed_in_card,
    evaluate_folders,
    evaluate_model,
)
from unclip.pipelines.feature_networks import open_features
from unclip.pipelines.folder import Defaults, ModelConfig, ModelSource, shipped_models
from unclip.pipelines.image_to_image import image_to_image
from unclip.pipelines.info import ModelInfo, StageInfo, describe_model
from unclip.pipelines.ingredients import TextOrPicture
from unclip.pipelines.inpaint import inpaint
from unclip.pipelines.interpolate import interpolate
from unclip.pipelines.mix import mix
from unclip.pipelines.model import Model
from unclip.pipelines.opening import find_model, open_sources
from unclip.pipelines.options import DrawOptions, ImageSize, Progress
from unclip.pipelines.outpaint import outpaint
from unclip.pipelines.presets import ModelPreset, model_preset, model_presets
from unclip.pipelines.prior_stage import PriorStage, best_candidate
from unclip.pipelines.probe import fit_basis, probe
from unclip.pipelines.result import OutputType, Result
from unclip.pipelines.sampling import last
from unclip.pipelines.settings import PerStage, StageSettings, check_prompts, image_seeds
from unclip.pipelines.text_diff import text_diff
from unclip.pipelines.text_to_image import text_to_image
from unclip.pipelines.unclip import UnClip
from unclip.pipelines.unconditional import unconditional
from unclip.pipelines.upsampler_stage import UpsamplerStage
from unclip.pipelines.variations import image_variations

__all__ = [
    "BASIS_FILE",
    "Assembled",
    "BoundDecoder",
    "BoundPrior",
    "BoundUpsampler",
    "Canvas",
    "Condition",
    "Conversion",
    "DecoderStage",
    "Defaults",
    "Draft",
    "DrawOptions",
    "EmbedReport",
    "EmbeddingBasis",
    "EvaluateOptions",
    "Evaluation",
    "Figure",
    "ImageSize",
    "Model",
    "ModelConfig",
    "ModelInfo",
    "ModelPreset",
    "ModelSource",
    "OutputType",
    "PerStage",
    "Point",
    "PriorStage",
    "Progress",
    "Result",
    "StageInfo",
    "StageSettings",
    "TextOrPicture",
    "UnClip",
    "UpsamplerStage",
    "assemble",
    "best_candidate",
    "check_prompts",
    "convert",
    "describe_model",
    "embed",
    "embed_in_card",
    "embed_on_ray",
    "evaluate_folders",
    "evaluate_model",
    "find_model",
    "fit_basis",
    "image_seeds",
    "image_to_image",
    "image_variations",
    "inpaint",
    "interpolate",
    "last",
    "mix",
    "model_preset",
    "model_presets",
    "open_clip",
    "open_features",
    "open_sources",
    "outpaint",
    "probe",
    "shipped_models",
    "text_diff",
    "text_to_image",
    "unconditional",
]
