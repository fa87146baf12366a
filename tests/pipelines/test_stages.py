"""Each stage against the same thing written out by hand from networks, schedules and a generator."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from unclip.clip import TextFeatures
from unclip.diffusion import bind, clip_x0, get_sampler, guide, time_grid
from unclip.images import resize
from unclip.model import StageSettings
from unclip.models import Upsampler, UpsamplerConfig
from unclip.pipelines import Condition, Model, UpsamplerStage, best_candidate, run_to_end
from unclip.runtime import NoiseSource

SEEDS = [3, 11]
PROMPTS = ["a red apple", "a cat with sunglasses near the sun"]


def texts(model: Model) -> tuple[TextFeatures, TextFeatures]:
    return model.need_clip.encode_text(PROMPTS), model.need_clip.encode_text([""])


def test_best_candidate_is_the_nearest_to_the_text(generator: torch.Generator) -> None:
    candidates = torch.randn(5, 4, 8, generator=generator) * torch.rand(5, 4, 1, generator=generator).add(0.1)
    text = torch.randn(5, 8, generator=generator)
    best = best_candidate(candidates, text)
    for row in range(5):
        cosines = [float(torch.cosine_similarity(candidate, text[row], dim=0)) for candidate in candidates[row]]
        assert torch.equal(best[row], candidates[row, cosines.index(max(cosines))])


def test_prior_is_the_sampler_on_full_features(model: Model) -> None:
    """Cache, trimming and batching change nothing; noise is start, then steps, from each picture's own generator."""
    (text, null), settings = texts(model), model.need_prior.defaults.replace(sampler="ddpm", num_steps=4)
    drawn = model.need_prior.sample(text, null, NoiseSource.from_seeds(SEEDS), settings)
    config = model.need_prior.network.config
    for row, seed in enumerate(SEEDS):
        generator = torch.Generator().manual_seed(seed)
        features = TextFeatures(*(value[row : row + 1] for value in text))
        conditional, unconditional = (
            bind(
                model.need_prior.network,
                model.need_prior.schedule,
                config.prediction_type,
                {"text_embedding": f.embedding, "text_hidden": f.hidden, "text_mask": f.mask},
            )
            for f in (features, null)
        )
        denoiser = clip_x0(guide(conditional, unconditional, settings.guidance_scale), 10.0)

        def draw(generator: torch.Generator = generator) -> Tensor:
            return torch.randn(1, config.embedding_dim, generator=generator)

        start = draw()
        steps = get_sampler("ddpm").sample(denoiser, start, time_grid(model.need_prior.schedule, 4), draw)
        expected = model.need_prior.network.unstandardize(run_to_end(steps))
        torch.testing.assert_close(drawn[row : row + 1], expected, atol=1e-5, rtol=1e-4)


def test_candidates_of_a_picture_do_not_depend_on_the_others(model: Model) -> None:
    (text, null), settings = texts(model), model.need_prior.defaults
    both = model.need_prior.sample(text, null, NoiseSource.from_seeds(SEEDS), settings, num_candidates=3)
    alone = TextFeatures(*(value[1:] for value in text))
    second = model.need_prior.sample(alone, null, NoiseSource.from_seeds(SEEDS[1:]), settings, num_candidates=3)
    torch.testing.assert_close(both[1:], second, atol=1e-5, rtol=1e-4)


def test_more_candidates_come_nearer_to_the_text(model: Model) -> None:
    text, null = texts(model)
    cosines = [
        torch.cosine_similarity(
            model.need_prior.sample(text, null, NoiseSource.from_seeds(SEEDS), num_candidates=count), text.embedding
        )
        for count in (1, 16)
    ]
    assert (cosines[1] > cosines[0]).all()


def test_decoder_is_guided_in_eps_away_from_null_image_and_empty_prompt(
    model: Model, generator: torch.Generator
) -> None:
    stage, (text, null) = model.need_decoder, texts(model)
    z = torch.randn(2, model.need_clip.embedding_dim, generator=generator)
    x_t, t = torch.randn(2, 3, 16, 16, generator=generator), torch.tensor(0.5, dtype=torch.float64)
    prediction = stage.denoiser(z, Condition(text, null), stage.defaults.replace(guidance_scale=3.0))(x_t, t)
    timestep = stage.schedule.timestep(t).expand(2)
    present = torch.ones(2, dtype=torch.bool)
    empty = [value.expand(2, *value.shape[1:]) for value in null]
    conditional = stage.network(x_t, timestep, z, present, text.embedding, text.hidden, text.mask)
    unconditional = stage.network(x_t, timestep, z, ~present, *empty)
    eps = unconditional[:, :3] + 3.0 * (conditional[:, :3] - unconditional[:, :3])
    alpha, sigma = stage.schedule.alpha(t).float(), stage.schedule.sigma(t).float()
    x0 = ((x_t - sigma * eps) / alpha).clamp(-1.0, 1.0)
    torch.testing.assert_close(prediction.x0, x0, atol=2e-5, rtol=1e-4)
    assert prediction.variance_fraction is not None
    torch.testing.assert_close(prediction.variance_fraction, (conditional[:, 3:] + 1) / 2, atol=1e-5, rtol=1e-4)


def test_decoder_without_guidance_is_the_conditional_pass(model: Model, generator: torch.Generator) -> None:
    stage, (text, null) = model.need_decoder, texts(model)
    z = torch.randn(2, model.need_clip.embedding_dim, generator=generator)
    x_t, t = torch.randn(2, 3, 16, 16, generator=generator), torch.tensor(0.25, dtype=torch.float64)
    prediction = stage.denoiser(z, Condition(text, null), stage.defaults.replace(guidance_scale=1.0))(x_t, t)
    output = stage.network(x_t, stage.schedule.timestep(t).expand(2), z, None, text.embedding, text.hidden, text.mask)
    assert prediction.variance_fraction is not None
    torch.testing.assert_close(prediction.variance_fraction, (output[:, 3:] + 1) / 2, atol=1e-5, rtol=1e-4)


def test_decoder_uses_its_learned_variance(model: Model, generator: torch.Generator) -> None:
    """With the ancestral sampler the second half of the output matters: zeroing it changes the picture."""
    (text, null), z = texts(model), torch.randn(2, model.need_clip.embedding_dim, generator=generator)
    settings = model.need_decoder.defaults.replace(sampler="ddpm")
    pictures = model.need_decoder.sample(z, Condition(text, null), NoiseSource.from_seeds(SEEDS), settings)
    assert pictures.shape == (2, 3, 16, 16)
    weight = model.need_decoder.network.unet.conv_out.weight
    saved = weight.data.clone()
    weight.data[3:] = 0.0
    try:
        without = model.need_decoder.sample(z, Condition(text, null), NoiseSource.from_seeds(SEEDS), settings)
    finally:
        weight.data.copy_(saved)
    assert not torch.allclose(pictures, without, atol=1e-3)


def test_upsampler_draws_its_augmentation_after_the_start(model: Model, generator: torch.Generator) -> None:
    stage = model.need_upsampler
    low_res = torch.rand(1, 3, 16, 16, generator=generator) * 2 - 1
    settings = stage.defaults.replace(sampler="ddim", augmentation=0.2)
    drawn = stage.sample(low_res, NoiseSource.from_seeds([9]), settings)
    noise = torch.Generator().manual_seed(9)
    start, damage = torch.randn(1, 3, 32, 32, generator=noise), torch.randn(1, 3, 16, 16, generator=noise)
    denoiser = stage.denoiser(low_res + 0.2 * damage, stage.defaults.replace(augmentation=0.2))
    steps = get_sampler("ddim").sample(denoiser, start, time_grid(stage.schedule, settings.num_steps), None)
    torch.testing.assert_close(drawn, run_to_end(steps))


def test_a_deterministic_upsampler_draws_only_its_start(model: Model) -> None:
    noise = NoiseSource.from_seeds([9])
    model.need_upsampler.sample(torch.zeros(1, 3, 16, 16), noise)
    reference = torch.Generator().manual_seed(9)
    torch.randn(1, 3, 32, 32, generator=reference)
    assert torch.equal(noise.generators[0].get_state(), reference.get_state())


def local_stage(image_size: int = 1024) -> UpsamplerStage:
    """Its pixels depend on those up to 12 px away: 1 + 2 + 4 + 4 + 1 convolutions, less than half a halo of 32 px."""
    config = UpsamplerConfig(
        image_size=image_size, low_res_size=256, base_channels=32, channel_mult=(1,), num_res_blocks=1, norm="pixel",
        prediction_type="x0", residual=True, noise_conditioning=True,
    )  # fmt: skip
    network = Upsampler(config).eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.add_(0.02 * torch.randn_like(parameter))
    return UpsamplerStage(network, StageSettings(num_steps=2, sampler="ddim", augmentation=0.1))


def test_a_large_picture_drawn_by_tiles_is_the_one_of_a_single_pass(generator: torch.Generator) -> None:
    stage, low_res = local_stage(), torch.rand(1, 3, 4, 272, generator=generator) * 2 - 1
    assert (stage.tiling.tile_size, stage.tiling.halo) == (1024, 32)
    tiled = run_to_end(stage.steps(low_res, NoiseSource.from_seeds([4]), stage.defaults, size=(16, 1088)))
    noise = torch.Generator().manual_seed(4)
    start, damage = torch.randn(1, 3, 16, 1088, generator=noise), torch.randn(1, 3, 4, 272, generator=noise)
    denoiser = stage.denoiser(resize(low_res + 0.1 * damage, (16, 1088)), stage.defaults.replace(augmentation=0.1))
    expected = run_to_end(get_sampler("ddim").sample(denoiser, start, time_grid(stage.schedule, 2), None))
    torch.testing.assert_close(tiled, expected, atol=1e-5, rtol=1e-5)


def test_a_tile_is_no_smaller_than_what_the_network_was_trained_on() -> None:
    assert local_stage(2048).tiling.tile_size == 2048


@pytest.mark.parametrize("stage", ["prior", "decoder", "upsampler"])
def test_the_settings_of_a_call_say_in_what_precision_the_schedule_is(model: Model, stage: str) -> None:
    """A call that asks for float32 draws what a stage draws whose own settings say float32, and so for its times."""
    parts: dict[str, Any] = {
        "prior": model.need_prior,
        "decoder": model.need_decoder,
        "upsampler": model.need_upsampler,
    }
    part = parts[stage]
    coarse = part.defaults.replace(schedule_dtype="float32")
    own = replace(part, defaults=coarse)
    assert part.schedule_of(coarse).alphas_cumprod.tolist() == own.schedule.alphas_cumprod.tolist()
    assert part.schedule_of(coarse).alphas_cumprod.tolist() != part.schedule.alphas_cumprod.tolist()
    text, null = texts(model)
    z, small = text.embedding, torch.zeros(2, 3, 16, 16)
    inputs: dict[str, tuple[Any, ...]] = {
        "prior": (text, null),
        "decoder": (z, Condition(text, null)),
        "upsampler": (small,),
    }

    def drawn(of: Any, *settings: StageSettings) -> Tensor:
        return of.sample(*inputs[stage], NoiseSource.from_seeds(SEEDS), *settings)

    assert torch.equal(drawn(part, coarse), drawn(own))
    assert not torch.equal(drawn(part, coarse), drawn(part))
