"""Tiny models in files and folders as their makers publish them: real classes, random weights, the same nesting."""

from dataclasses import dataclass
from pathlib import Path

import diffusers
import original_names
import torch
import transformers
from diffusers.pipelines.kandinsky.text_encoder import MCLIPConfig, MultilingualCLIP
from kandinsky_configs import autoencoder_config_theirs, decoder_config_theirs
from networks import fill, lazy, read
from unclip_pipelines import Size, unclip_pipeline
from weights_files import save_script

from unclip.clip import Clip, ClipConfig
from unclip.interop.clip import openai_names
from unclip.interop.rules import to_theirs
from unclip.models import autoencoder_preset, kandinsky_decoder_preset


def openai_clip(config: ClipConfig, path: Path) -> Clip:
    """A random CLIP, written as OpenAI's TorchScript."""
    clip = Clip(config)
    fill(clip)
    state = read(to_theirs(lazy(clip.state_dict()), openai_names(config), ""))
    sizes = {name: torch.tensor(1) for name in ("input_resolution", "context_length", "vocab_size")}
    save_script(state | sizes, path)
    return clip


def clip_folder(folder: Path) -> transformers.CLIPModel:
    """A random CLIP with its tokenizer, as transformers saves them."""
    parts = unclip_pipeline(folder, variation=True)
    sections = {
        "text_config": parts.text_encoder.config.to_dict(),
        "vision_config": parts.image_encoder.config.to_dict(),
    }
    model = transformers.CLIPModel(transformers.CLIPConfig(**sections, projection_dim=Size().dim))
    fill(model)
    model.save_pretrained(folder)
    parts.feature_extractor.save_pretrained(folder)
    return model


def karlo_files(pipeline: diffusers.DiffusionPipeline, folder: Path, head_dim: int = 16) -> list[Path]:
    """The networks of a diffusers pipeline in Karlo's original files, all but CLIP."""
    prior, decoder = pipeline.prior.state_dict(), pipeline.decoder.state_dict()
    networks = {
        "prior-ckpt-step=01000000-of-01000000.ckpt": {"model": original_names.prior(prior, head_dim)},
        "decoder-ckpt-step=01000000-of-01000000.ckpt": {
            "model": original_names.unet(decoder, head_dim)
            | original_names.rename(pipeline.text_proj.state_dict(), original_names.PROJECTIONS)
        },
        "improved-sr-ckpt-step=1.2M.ckpt": {
            "model_first_steps": original_names.unet(pipeline.super_res_first.state_dict()),
            "model_last_step": original_names.unet(pipeline.super_res_last.state_dict()),
        },
    }
    for name, parts in networks.items():
        state = {f"{part}.{key}": value for part, tensors in parts.items() for key, value in tensors.items()}
        torch.save({"state_dict": state}, folder / name)
    torch.save((prior["clip_mean"][0], prior["clip_std"][0]), folder / "ViT-L-14_stats.th")
    return [*(folder / name for name in networks), folder / "ViT-L-14_stats.th"]


LATENT = {"beta_start": 0.00085, "beta_end": 0.012}
DECODER = kandinsky_decoder_preset("tiny").replace(embedding_dim=24, num_image_tokens=32)
DECODER_WITH_TEXT = DECODER.replace(context_dim=24, text_dim=32, num_image_tokens=10, normalize_image=False)
AUTOENCODER = autoencoder_preset("tiny")


@dataclass(frozen=True)
class Kandinsky:
    """A prior's and a decoder's pipeline."""

    prior: diffusers.DiffusionPipeline
    decoder: diffusers.DiffusionPipeline

    def save(self, folder: Path) -> tuple[Path, Path]:
        """Both folders."""
        self.prior.save_pretrained(folder / "prior")
        self.decoder.save_pretrained(folder / "decoder")
        return folder / "prior", folder / "decoder"


def kandinsky(folder: Path, version: str) -> Kandinsky:
    """Pipelines of "2.1" or "2.2"; `folder` gets a tokenizer's files."""
    encoders, size = unclip_pipeline(folder, variation=True), Size()
    config = DECODER_WITH_TEXT if version == "2.1" else DECODER
    unet = diffusers.UNet2DConditionModel.from_config(decoder_config_theirs(config))
    movq = diffusers.VQModel.from_config(autoencoder_config_theirs(AUTOENCODER))
    fill(unet, movq, std=0.02)
    prior = {
        "prior": unclip_pipeline(folder, size).prior,
        "image_encoder": encoders.image_encoder,
        "text_encoder": encoders.text_encoder,
        "tokenizer": encoders.tokenizer,
        "scheduler": diffusers.UnCLIPScheduler(prediction_type="sample", clip_sample_range=10.0),
        "image_processor": encoders.feature_extractor,
    }
    if version == "2.2":
        decoder = diffusers.KandinskyV22Pipeline(unet, diffusers.DDPMScheduler(**LATENT, clip_sample_range=2.0), movq)
        return Kandinsky(diffusers.KandinskyV22PriorPipeline(**prior), decoder)
    text_encoder, tokenizer = multilingual()
    scheduler = diffusers.DDIMScheduler(**LATENT, clip_sample=False, thresholding=True, sample_max_value=2.0)
    decoder = diffusers.KandinskyPipeline(text_encoder, tokenizer, unet, scheduler, movq)
    return Kandinsky(diffusers.KandinskyPriorPipeline(**prior), decoder)


def multilingual() -> tuple[MultilingualCLIP, transformers.XLMRobertaTokenizer]:
    """The text encoder of 2.1 with a vocabulary of a few words."""
    words = ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁a", "▁cat", "▁red", "▁apple", *"abcdefghijklmnopqrstuvwxyz"]
    tokenizer = transformers.XLMRobertaTokenizer(vocab=[(word, -float(index)) for index, word in enumerate(words)])
    config = MCLIPConfig(
        transformerDimSize=32,
        imageDimSize=24,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        vocab_size=len(tokenizer),
        max_position_embeddings=90,
        pad_token_id=1,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
    )
    text_encoder = MultilingualCLIP(config)
    fill(text_encoder)
    return text_encoder.eval(), tokenizer


def kandinsky_original(pipelines: Kandinsky, folder: Path) -> Path:
    """The networks of 2.1's pipelines in the files of its original release, all but CLIP."""
    prior, decoder = pipelines.prior.prior.state_dict(), pipelines.decoder
    unet = decoder.unet.state_dict()
    original = original_names.unet(unet, DECODER.head_dim) | original_names.rename(unet, original_names.KANDINSKY)
    torch.save(original, folder / "decoder_fp16.ckpt")
    torch.save(original_names.movq(decoder.movq.state_dict()), folder / "movq_final.ckpt")
    prior_state = {f"model.{name}": tensor for name, tensor in original_names.prior(prior, 16).items()}
    torch.save(prior_state, folder / "prior_fp16.ckpt")
    torch.save((prior["clip_mean"][0], prior["clip_std"][0]), folder / "ViT-L-14_stats.th")
    decoder.text_encoder.save_pretrained(folder / "text_encoder", safe_serialization=False)
    decoder.tokenizer.save_pretrained(folder / "text_encoder")
    return folder
