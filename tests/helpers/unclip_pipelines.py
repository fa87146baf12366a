"""diffusers' own unCLIP pipelines, tiny and random, in memory and on disk: the reference of every whole-loop test."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import PriorTransformer, UnCLIPScheduler, UNet2DConditionModel, UNet2DModel
from diffusers.pipelines.deprecated import unclip as theirs
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
from networks import fill
from safetensors.torch import load_file, save_file
from torch import Tensor

from unclip.clip import Tokenizer
from unclip.interop import ForeignModel
from unclip.interop.sources import read_json
from unclip.interop.unclip import import_unclip
from unclip.runtime import forked_random_state

# Where the pipelines lived when they saved the folders that are published.
diffusers.pipelines.unclip = theirs

TEXTS = ["a red apple, noto style", "a cat with sunglasses", "the quick brown fox", "an old house near the yellow sun"]
VOCABULARY = 560


@dataclass(frozen=True)
class Size:
    """What the tests vary."""

    dim: int = 24
    length: int = 11
    """With the 4 image tokens it must not equal the pixels of a level: diffusers then forgets to extend its mask."""
    prior_heads: int = 2
    head_dim: int = 16
    channels: tuple[int, ...] = (32, 64, 96)
    attention: tuple[bool, ...] = (False, True, True)
    layers: int = 2
    size: int = 16
    context_dim: int = 40
    super_res: int = 32


def unclip_pipeline(folder: Path, size: Size = Size(), *, variation: bool = False) -> diffusers.DiffusionPipeline:
    """A pipeline of real classes; `folder` gets its tokenizer's files."""
    parts = {
        "decoder": _decoder(size),
        "text_encoder": _text_encoder(size),
        "tokenizer": _tokenizer(folder, size),
        "text_proj": UnCLIPTextProjModel(
            clip_embeddings_dim=size.dim, time_embed_dim=4 * size.channels[0], cross_attention_dim=size.context_dim
        ),
        "super_res_first": _super_res(size),
        "super_res_last": _super_res(size),
        "decoder_scheduler": UnCLIPScheduler(variance_type="learned_range"),
        "super_res_scheduler": UnCLIPScheduler(),
    }
    if variation:
        parts["image_encoder"] = _image_encoder(size)
        parts["feature_extractor"] = transformers.CLIPImageProcessor(
            size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}
        )
    else:
        parts["prior"] = PriorTransformer(
            num_attention_heads=size.prior_heads,
            attention_head_dim=16,
            num_layers=2,
            embedding_dim=size.dim,
            num_embeddings=size.length,
        )
        parts["prior_scheduler"] = UnCLIPScheduler(prediction_type="sample", clip_sample_range=5.0)
    fill(*(part for part in parts.values() if isinstance(part, torch.nn.Module)), std=0.02)
    kind = theirs.UnCLIPImageVariationPipeline if variation else theirs.UnCLIPPipeline
    pipeline = kind(**parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def unclip_folder(path: Path) -> Path:
    """A text-to-image folder as diffusers saves it, the same every time."""
    with forked_random_state(0):
        unclip_pipeline(path / "tokenizer files").save_pretrained(path / "karlo")
    return path / "karlo"


def _decoder(size: Size) -> UNet2DConditionModel:
    down = ["SimpleCrossAttnDownBlock2D" if attends else "ResnetDownsampleBlock2D" for attends in size.attention]
    up = ["SimpleCrossAttnUpBlock2D" if attends else "ResnetUpsampleBlock2D" for attends in size.attention[::-1]]
    return UNet2DConditionModel(
        sample_size=size.size,
        in_channels=3,
        out_channels=6,
        layers_per_block=size.layers,
        block_out_channels=size.channels,
        down_block_types=down,
        up_block_types=up,
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        cross_attention_dim=size.context_dim,
        attention_head_dim=size.head_dim,
        class_embed_type="identity",
        resnet_time_scale_shift="scale_shift",
    )


def _super_res(size: Size) -> UNet2DModel:
    return UNet2DModel(
        sample_size=size.super_res,
        in_channels=6,
        layers_per_block=1,
        block_out_channels=(32, 64),
        down_block_types=("ResnetDownsampleBlock2D",) * 2,
        up_block_types=("ResnetUpsampleBlock2D",) * 2,
        add_attention=False,
    )


def _text_encoder(size: Size) -> torch.nn.Module:
    config = transformers.CLIPTextConfig(
        vocab_size=VOCABULARY,
        hidden_size=size.dim,
        intermediate_size=2 * size.dim,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=size.length,
        projection_dim=size.dim,
        bos_token_id=VOCABULARY - 2,
        eos_token_id=VOCABULARY - 1,
        pad_token_id=0,
    )
    return transformers.CLIPTextModelWithProjection(config)


def _image_encoder(size: Size) -> torch.nn.Module:
    config = transformers.CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
        projection_dim=size.dim,
    )
    return transformers.CLIPVisionModelWithProjection(config)


def _tokenizer(folder: Path, size: Size) -> transformers.CLIPTokenizer:
    vocab, merges = Tokenizer.train(TEXTS * 3, VOCABULARY).vocab_and_merges()
    tokens = transformers.CLIPTokenizer(vocab=vocab, merges=merges, pad_token="!", model_max_length=size.length)
    tokens.save_pretrained(folder)
    return tokens


def imported(folder: Path) -> ForeignModel:
    """What our importer makes of a folder."""
    return import_unclip(folder, read_json(folder / "model_index.json"))


def change_json(path: Path, change: Mapping[str, Any]) -> None:
    """Set options; those that become `...` are removed."""
    content = read_json(path) | change
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not ...}))


def change_tensors(path: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    """Let `change` have its way with the tensors of a file."""
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
