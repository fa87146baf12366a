"""Stages whose networks read their own last x0, against the loop written out by hand."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from networks import fill
from unclip.clip import TextFeatures
from unclip.diffusion import Denoiser, bind, clip_x0, time_grid
from unclip.errors import ConfigError
from unclip.interop.unclip import decoder_config_theirs, prior_config_theirs
from unclip.model import StageSettings
from unclip.models import Decoder, Prior, decoder_preset, prior_preset
from unclip.models.dalle2_pytorch import Dalle2Prior, Dalle2PriorConfig
from unclip.pipelines import Condition, DecoderStage, Model, PriorStage
from unclip.runtime import NoiseSource

SETTINGS = StageSettings(num_steps=4, sampler="ddim", guidance_scale=1.0)
PROMPTS = ["a red apple", "a cat with sunglasses near the sun"]
SEEDS = [3, 11]


def loop(
    stage: PriorStage | DecoderStage, shown: Callable[[Tensor | None], Denoiser], shape: tuple[int, ...]
) -> Tensor:
    """DDIM by hand, every step told the x0 of the one before; the result and what nothing told would give differ."""
    ends = []
    for remembers in (True, False):
        x_t, x0 = NoiseSource.from_seeds(SEEDS)(shape), None
        times = time_grid(stage.schedule, SETTINGS.num_steps)
        for now, after in itertools.pairwise(times):
            with torch.no_grad():
                prediction = shown(x0 if remembers else None)(x_t, now)
            x0 = prediction.x0
            x_t = stage.schedule.alpha(after) * x0 + stage.schedule.sigma(after) * prediction.eps
        ends.append(x_t.float())
    assert (ends[0] - ends[1]).abs().max() > 1e-2
    return ends[0]


def texts(model: Model) -> tuple[TextFeatures, TextFeatures]:
    return model.need_clip.encode_text(PROMPTS), model.need_clip.encode_text([""])


def test_prior(model: Model) -> None:
    text, null = texts(model)
    network = Prior(model.need_prior.network.config.replace(self_conditioning=True)).requires_grad_(False)
    fill(network)
    stage = PriorStage(network, SETTINGS)
    told = {"text_embedding": text.embedding, "text_hidden": text.hidden, "text_mask": text.mask}

    def shown(x0: Tensor | None) -> Denoiser:
        return clip_x0(bind(network, stage.schedule, "x0", told | {"self_condition": x0}), 10.0)

    expected = network.unstandardize(loop(stage, shown, (network.config.embedding_dim,)))
    for _ in range(2):  # What one sampling remembers is not there in the next.
        drawn = stage.sample(text, null, NoiseSource.from_seeds(SEEDS))
        torch.testing.assert_close(drawn, expected, atol=2e-5, rtol=1e-4)


def test_decoder(model: Model, generator: torch.Generator) -> None:
    network = Decoder(decoder_preset("tiny").replace(self_conditioning=True)).requires_grad_(False)
    fill(network)
    stage = DecoderStage(network, SETTINGS)
    embedding = torch.randn(2, network.config.embedding_dim, generator=generator)
    learned = network.config.learned_variance

    def shown(x0: Tensor | None) -> Denoiser:
        told = {"image_embedding": embedding, "self_condition": x0}
        return clip_x0(bind(network, stage.schedule, network.config.prediction_type, told, learned), 1.0)

    drawn = stage.sample(embedding, Condition(*texts(model)), NoiseSource.from_seeds(SEEDS))
    expected = loop(stage, shown, stage.sample_shape((stage.image_size, stage.image_size)))
    torch.testing.assert_close(drawn, expected.clamp(-1, 1), atol=2e-5, rtol=1e-4)


def test_the_prior_of_dalle2_pytorch(model: Model) -> None:
    text, null = texts(model)
    config = Dalle2PriorConfig(
        embedding_dim=model.need_clip.embedding_dim,
        num_text_tokens=8,
        reads_text_hidden=False,
        depth=1,
        num_heads=2,
        head_dim=16,
        self_conditioning=True,
    )
    network = Dalle2Prior(config).eval().requires_grad_(False)
    stage = PriorStage(network, SETTINGS)

    def shown(x0: Tensor | None) -> Denoiser:
        told = {"text_embedding": F.normalize(text.embedding, dim=-1), "self_condition": x0}
        return clip_x0(bind(network, stage.schedule, "x0", told), 10.0)

    expected = network.unstandardize(loop(stage, shown, (config.embedding_dim,)))
    drawn = stage.sample(text, null, NoiseSource.from_seeds(SEEDS))
    torch.testing.assert_close(drawn, expected, atol=2e-5, rtol=1e-4)


def test_diffusers_has_no_place_for_it() -> None:
    with pytest.raises(ConfigError, match="PriorConfig: self_conditioning=True is not supported"):
        prior_config_theirs(prior_preset("karlo").replace(self_conditioning=True))
    with pytest.raises(ConfigError, match="DecoderConfig: self_conditioning=True is not supported"):
        decoder_config_theirs(decoder_preset("karlo").replace(self_conditioning=True))
