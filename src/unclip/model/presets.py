"""Shapes of whole models by name, as they were published or are to be trained; without weights."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from unclip.clip import clip_preset, multilingual_preset
from unclip.config import Config
from unclip.errors import InputError, did_you_mean
from unclip.model.settings import StageSettings
from unclip.models import autoencoder_preset, decoder_preset, kandinsky_decoder_preset, prior_preset, upsampler_preset
from unclip.models.dalle2_pytorch import dalle2_decoder_preset, dalle2_prior_preset


class ModelPreset(NamedTuple):
    """The shape of every network of a model, and how each is sampled."""

    description: str
    """What it is and where its numbers come from, in one line."""
    stages: Mapping[str, Config]
    """Configuration of each network by the name of its stage."""
    sampling: Mapping[str, StageSettings]
    """Sampling settings of the stages that are sampled by themselves."""


def model_presets() -> list[str]:
    """Name the presets."""
    return sorted(_PRESETS)


def model_preset(name: str) -> ModelPreset:
    """Return the model of that name; raises `InputError` that lists the presets when there is none."""
    if name not in _PRESETS:
        raise InputError(f"there is no model preset {name!r}; {did_you_mean(name, _PRESETS)}")
    description, stages = _PRESETS[name]
    sampling = {
        stage: StageSettings(num_steps=entry.num_steps, sampler=entry.sampler, guidance_scale=entry.guidance_scale)
        for stage, entry in stages.items()
        if entry.num_steps
    }
    return ModelPreset(description, {stage: entry.shape(entry.shape_name) for stage, entry in stages.items()}, sampling)


class _Shape(NamedTuple):
    shape: Callable[[str], Config]
    shape_name: str
    num_steps: int = 0  # 0: not sampled by itself.
    guidance_scale: float = 1.0
    sampler: str = "ddpm"


_PRESETS: dict[str, tuple[str, dict[str, _Shape]]] = {
    "karlo": (
        "Karlo v1.0.alpha of Kakao Brain; the last upsampling step has a network of its own",
        {
            "clip": _Shape(clip_preset, "vit-l-14"),
            "prior": _Shape(prior_preset, "karlo", 25, 4.0),
            "decoder": _Shape(decoder_preset, "karlo", 25, 8.0),
            "upsampler_256": _Shape(upsampler_preset, "karlo", 7),
            "upsampler_256_last": _Shape(upsampler_preset, "karlo"),
        },
    ),
    # The paper samples the prior with Analytic-DPM, and finds that guiding it hurts; 1.25 is the decoder's in table 2.
    "dalle2-paper": (
        "DALL-E 2 as published, arXiv 2204.06125, table 3; its text transformers read CLIP's states, not token ids",
        {
            "clip": _Shape(clip_preset, "vit-h-16"),
            "prior": _Shape(prior_preset, "dalle2-paper", 64),
            "decoder": _Shape(decoder_preset, "dalle2-paper", 250, 1.25),
            "upsampler_256": _Shape(upsampler_preset, "dalle2-paper-256", 27, sampler="ddim"),
            "upsampler_1024": _Shape(upsampler_preset, "dalle2-paper-1024", 15, sampler="ddim"),
        },
    ),
    "reference": (
        "the model to train with this package: a prior of the paper's depth, a decoder that draws 256 px at once",
        {
            "clip": _Shape(clip_preset, "vit-l-14"),
            "prior": _Shape(prior_preset, "reference", 25, 2.0),
            "decoder": _Shape(decoder_preset, "reference", 20, 3.0, "dpm++"),
            "upsampler_1024": _Shape(upsampler_preset, "reference", 4, sampler="dpm++"),
        },
    ),
    "kandinsky-2.1": (
        "Kandinsky 2.1 of AI Forever, whose decoder reads the prompt in a hundred languages",
        {
            "clip": _Shape(clip_preset, "vit-l-14"),
            "text_encoder": _Shape(multilingual_preset, "kandinsky-2.1"),
            "prior": _Shape(prior_preset, "karlo", 25, 4.0),
            "decoder": _Shape(kandinsky_decoder_preset, "kandinsky-2.1", 50, 4.0),
            "autoencoder": _Shape(autoencoder_preset, "kandinsky-2.2"),
        },
    ),
    "kandinsky-2.2": (
        "Kandinsky 2.2 of AI Forever, whose decoder reads no text",
        {
            "clip": _Shape(clip_preset, "vit-bigg-14"),
            "prior": _Shape(prior_preset, "kandinsky-2.2", 25, 4.0),
            "decoder": _Shape(kandinsky_decoder_preset, "kandinsky-2.2", 50, 4.0),
            "autoencoder": _Shape(autoencoder_preset, "kandinsky-2.2"),
        },
    ),
    "laion-prior": (
        "LAION's prior, trained with DALLE2-pytorch 1.1; it never saw a text left out, so it takes no guidance",
        {"clip": _Shape(clip_preset, "vit-l-14"), "prior": _Shape(dalle2_prior_preset, "laion-prior", 64)},
    ),
    "laion-decoder": (
        "LAION's decoder, trained with DALLE2-pytorch 1.1",
        {
            "clip": _Shape(clip_preset, "vit-l-14"),
            "decoder": _Shape(dalle2_decoder_preset, "laion-decoder", 1000, 1.7),
        },
    ),
}
