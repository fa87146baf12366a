"""Stages, and the tasks that draw with them; `UnClip` is a loaded model with a method per task."""

from unclip.model.family import Condition
from unclip.pipelines.decoder import DecoderStage
from unclip.pipelines.inputs import TextOrPicture
from unclip.pipelines.model import Model
from unclip.pipelines.options import DrawOptions, ImageSize, Progress
from unclip.pipelines.prior import PriorStage, best_candidate
from unclip.pipelines.result import OutputType, Result
from unclip.pipelines.settings import PerStage, check_prompts, image_seeds
from unclip.pipelines.stage import Stage, Start, run_to_end
from unclip.pipelines.tasks.drafts import Draft
from unclip.pipelines.tasks.image_to_image import image_to_image
from unclip.pipelines.tasks.inpaint import inpaint
from unclip.pipelines.tasks.interpolate import interpolate
from unclip.pipelines.tasks.mix import mix
from unclip.pipelines.tasks.outpaint import extended_size, outpaint
from unclip.pipelines.tasks.probe import fit_basis, probe
from unclip.pipelines.tasks.text_diff import text_diff
from unclip.pipelines.tasks.text_to_image import text_to_image
from unclip.pipelines.tasks.unconditional import unconditional
from unclip.pipelines.tasks.variations import image_variations
from unclip.pipelines.unclip import BoundDecoder, BoundPrior, BoundUpsampler, UnClip
from unclip.pipelines.upsampler import UpsamplerStage

__all__ = [
    "BoundDecoder",
    "BoundPrior",
    "BoundUpsampler",
    "Condition",
    "DecoderStage",
    "Draft",
    "DrawOptions",
    "ImageSize",
    "Model",
    "OutputType",
    "PerStage",
    "PriorStage",
    "Progress",
    "Result",
    "Stage",
    "Start",
    "TextOrPicture",
    "UnClip",
    "UpsamplerStage",
    "best_candidate",
    "check_prompts",
    "extended_size",
    "fit_basis",
    "image_seeds",
    "image_to_image",
    "image_variations",
    "inpaint",
    "interpolate",
    "mix",
    "outpaint",
    "probe",
    "run_to_end",
    "text_diff",
    "text_to_image",
    "unconditional",
]
