"""Kandinsky's networks, imported from the classes of diffusers and from the names of 2.1's original code."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import original_names
import pytest
import torch
from diffusers import PriorTransformer, UNet2DConditionModel, VQModel
from kandinsky_configs import autoencoder_config_theirs, decoder_config_theirs
from networks import close, fill, lazy, read, same
from torch import Tensor, nn

from unclip.clip import MultilingualClip, multilingual_preset
from unclip.config import Config
from unclip.errors import CheckpointError, ConfigError
from unclip.interop.kandinsky import (
    kandinsky_names,
    multilingual_names,
    read_autoencoder,
    read_decoder,
    read_original_autoencoder,
    read_original_decoder,
    read_text_encoder,
)
from unclip.interop.karlo import read_original_prior
from unclip.interop.movq import movq_names
from unclip.interop.rules import ForeignNetwork, to_theirs
from unclip.interop.sources import Component
from unclip.interop.unclip import prior_config_theirs, read_prior
from unclip.models import (
    Autoencoder,
    KandinskyDecoder,
    KandinskyDecoderConfig,
    Prior,
    PriorConfig,
    autoencoder_preset,
    kandinsky_decoder_preset,
    prior_preset,
)

TINY: KandinskyDecoderConfig = kandinsky_decoder_preset("tiny").replace(num_image_tokens=32)
WITH_TEXT = TINY.replace(text_dim=24, num_image_tokens=10, normalize_image=False)
DEEP = {"channel_mult": (1, 2, 3), "num_res_blocks": 2, "attention_levels": (1, 2), "head_dim": 16}
DECODERS = {
    "2.2": TINY.replace(embedding_dim=20),
    "2.2 deep": TINY.replace(embedding_dim=20, **DEEP),
    "2.1": WITH_TEXT,
    "2.1 deep": WITH_TEXT.replace(**DEEP),
    "2.1 everywhere": WITH_TEXT.replace(attention_levels=(0, 1), head_dim=8),
    "2.1 no variance": WITH_TEXT.replace(learned_variance=False, in_channels=3),
}
TIMESTEP = torch.tensor([7.0, 950.0])


def part(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> Component:
    return Component(config, lazy(state))


def built(found: ForeignNetwork, cls: type[nn.Module], config: Config) -> nn.Module:
    """The network that was imported, after a look at what is said of it."""
    assert (found.weights.network, found.weights.config, found.weights.source) == (cls.__name__, config, "a file")
    network = cls(found.weights.config).eval()
    network.load_state_dict(read(found.weights.tensors))
    return network


def published(config: KandinskyDecoderConfig) -> UNet2DConditionModel:
    theirs = UNet2DConditionModel.from_config(decoder_config_theirs(config))
    fill(theirs, std=0.05)
    return theirs


@torch.no_grad()
@pytest.mark.parametrize("name", DECODERS)
def test_decoders_equal_diffusers(name: str) -> None:
    config = DECODERS[name]
    theirs = published(config)
    found = read_decoder(part(theirs.config, theirs.state_dict()), "a file")
    ours = built(found, KandinskyDecoder, config)
    assert found.dropped == {}
    image, x_t = torch.randn(2, config.embedding_dim), torch.randn(2, config.in_channels, 8, 12)
    texts, conditions, hidden, mask, their_mask = {}, {"image_embeds": image}, None, None, None
    if config.text_dim:
        embedding, hidden = torch.randn(2, config.context_dim), torch.randn(2, 5, config.text_dim)
        texts, conditions = (
            {"text_embedding": embedding, "text_hidden": hidden},
            conditions | {"text_embeds": embedding},
        )
        mask = torch.arange(5) < torch.tensor([[2], [5]])
        their_mask = nn.functional.pad(mask, (config.num_image_tokens, 0), value=True)
    expected = theirs(x_t, TIMESTEP, hidden, added_cond_kwargs=conditions).sample
    assert expected.shape[1] == config.in_channels * (1 + config.learned_variance)
    close(ours(x_t, TIMESTEP, image, **texts), expected)
    masked = theirs(x_t, TIMESTEP, hidden, attention_mask=their_mask, added_cond_kwargs=conditions).sample
    close(ours(x_t, TIMESTEP, image, **texts, text_mask=mask), masked)
    same(read(to_theirs(found.weights.tensors, kandinsky_names(config), "")), theirs.state_dict())


@pytest.mark.parametrize("name", ["2.1", "2.1 deep", "2.1 everywhere"])
def test_original_decoders_become_what_diffusers_made_of_them(name: str) -> None:
    config = DECODERS[name]
    state = published(config).state_dict()
    original = original_names.unet(state, config.head_dim) | original_names.rename(state, original_names.KANDINSKY)
    found = read_original_decoder(lazy(original), "a file", config)
    expected = read_decoder(part(decoder_config_theirs(config), state), "a file")
    same(read(found.weights.tensors), read(expected.weights.tensors))
    assert found.dropped == {}


@torch.no_grad()
@pytest.mark.parametrize("changes", [{}, {"channel_mult": (1, 1, 3), "attention_levels": (0, 2), "num_res_blocks": 2}])
@pytest.mark.parametrize("norm", ["spatial", "group"])
def test_autoencoders_equal_diffusers(changes: dict[str, object], norm: str) -> None:
    config = autoencoder_preset("tiny").replace(norm=norm, **changes)
    theirs = VQModel.from_config(autoencoder_config_theirs(config))
    fill(theirs)
    found = read_autoencoder(part(theirs.config, theirs.state_dict()), "a file")
    ours = built(found, Autoencoder, config)
    assert found.dropped.keys() == {"scaling_factor"}
    latents = torch.randn(1, 4, 8, 6)
    close(ours.decode(latents), theirs.decode(latents, force_not_quantize=True).sample)
    same(read(to_theirs(found.weights.tensors, movq_names(config), "")), theirs.state_dict())
    original = original_names.movq(theirs.state_dict())
    again = read_original_autoencoder(lazy(original), "a file", config)
    same(read(again.weights.tensors), read(found.weights.tensors))


@torch.no_grad()
@pytest.mark.parametrize("text_embedding_dim", [None, 20])
def test_priors_equal_diffusers(text_embedding_dim: int | None, tmp_path: Path) -> None:
    config = PriorConfig(
        embedding_dim=24, text_embedding_dim=text_embedding_dim, num_text_tokens=5, width=32, depth=2, num_heads=4
    )
    theirs = PriorTransformer.from_config(prior_config_theirs(config))
    fill(theirs, std=0.05)
    found = read_prior(part(theirs.config, theirs.state_dict()), {"prediction_type": "sample"}, "a file")
    ours = built(found, Prior, config)
    assert found.dropped == {}
    x_t, text, hidden = torch.randn(2, 24), torch.randn(2, text_embedding_dim or 24), torch.randn(2, 5, 24)
    mask = torch.arange(5) < torch.tensor([[2], [5]])
    expected = theirs(x_t, TIMESTEP, text, hidden, mask).predicted_image_embedding
    close(ours(x_t, TIMESTEP, text, hidden, mask), expected)

    original = {f"model.{name}": tensor for name, tensor in original_names.prior(theirs.state_dict(), 8).items()}
    extra = {"cf_token": torch.zeros(1, 5), "model.padding_embedding": torch.zeros(9, 32)}
    torch.save((ours.embedding_mean, ours.embedding_std), tmp_path / "stats.th")
    again = read_original_prior(lazy(original | extra), tmp_path / "stats.th", "a file", config)
    same(read(again.weights.tensors), read(found.weights.tensors))
    assert again.dropped.keys() == extra.keys()


def test_the_text_encoder_is_imported() -> None:
    ours = MultilingualClip(multilingual_preset("tiny").replace(context_length=77, num_positions=90))
    fill(ours)
    state = read(to_theirs(lazy(ours.state_dict()), multilingual_names(ours.config), ""))
    pooler = {"transformer.pooler.dense.weight": torch.zeros(32, 32)}
    config = {
        "model_type": "M-CLIP",
        "hidden_size": 32,
        "transformerDimensions": 32,
        "numDims": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "vocab_size": 64,
        "max_position_embeddings": 90,
        "pad_token_id": 1,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
        "hidden_act": "gelu",
        "use_cache": True,
    }
    found = read_text_encoder(part(config, state | pooler), "a file")
    same(built(found, MultilingualClip, ours.config).state_dict(), ours.state_dict())
    assert found.dropped.keys() == pooler.keys()
    for name in ("layer_norm_eps", "type_vocab_size"):
        with pytest.raises(ConfigError, match=f"MultilingualCLIP: {name}=.* is not supported; only"):
            read_text_encoder(part({key: value for key, value in config.items() if key != name}, state), "a file")


def test_published_shapes_are_assumed_for_files_that_do_not_say_theirs(tmp_path: Path) -> None:
    config = kandinsky_decoder_preset("kandinsky-2.1")
    with torch.device("meta"):
        state = UNet2DConditionModel.from_config(decoder_config_theirs(config)).state_dict()
        original = original_names.unet(state, config.head_dim) | original_names.rename(state, original_names.KANDINSKY)
    found = read_original_decoder(lazy(original), "a file")
    assert (found.weights.config, found.dropped) == (config, {})
    torch.save((torch.zeros(768), torch.ones(768)), tmp_path / "stats.th")
    with pytest.raises(CheckpointError, match=r"^a file: tensor 'model\.prd_emb' is missing; "):
        read_original_prior({}, tmp_path / "stats.th", "a file", prior_preset("karlo"))
    with pytest.raises(CheckpointError, match=r"^a file: tensor 'quantize\.embedding\.weight' is missing; "):
        read_original_autoencoder({}, "a file")


def test_an_original_inpainting_decoder_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"inpainting decoder \(in_channels=9\), which is not supported"):
        read_original_decoder(lazy({"input_blocks.0.0.weight": torch.zeros(32, 9, 3, 3)}), "a file", WITH_TEXT)
