"""Sizes of the networks for a user's own pictures, and how long each is trained; arithmetic only.

Networks and optimisers are those of the emoji recipes, smaller for few pictures or little time and larger on a GPU.
Time is planned by operations a picture and a given rate of the device.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from unclip.clip import ClipConfig
from unclip.config import Config
from unclip.errors import InputError
from unclip.model import Defaults, StageSettings
from unclip.models import ConvAutoencoderConfig
from unclip.recipes import emoji, pixels
from unclip.recipes.series import TrainingStage
from unclip.recipes.tiers import SMOKE, Tier, tiers_for
from unclip.training import DataConfig, TrainConfig, UpsamplerTaskConfig
from unclip.training.config import Precision
from unclip.training.plan.cost import count_flops_per_image

SHARDS, AUTOENCODER = "shards", "autoencoder"
IMAGE_SIZES = (256, 128, 64, 32)
"""Sides of the pictures that are drawn."""
LATENTS_FROM = 128
"""Side of the pictures from which the decoder draws latents, if there is time for an autoencoder."""
LATENT_CHANNELS = 8
MIN_HELD_OUT_SET = 100
HELD_OUT_SHARE = 0.05
MAX_PARTS, STEPS_OF_PART = 8, 100
"""Most checkpoints and held-out figures of a run; there are fewer where a part would have fewer steps."""
MIN_STEPS = 300
"""Steps below which pictures stay blurs (benchmarks/quickstart_shapes.py: 20 steps are grey, 350 show the shapes)."""
GOOD_STEPS = 1500
"""Steps that a stage should have, if its batch can be made small enough for that."""
SMALLEST_BATCH, FAST_BATCH = 4, 16
"""Below the second a CPU computes far fewer pictures a second."""
SMOKE_IMAGES = 32
MIN_CONTEXT, MAX_CONTEXT = 32, 77
MAX_VOCAB = 4096


class Circumstances(Config):
    """All that the choice depends on."""

    num_pictures: PositiveInt
    image_size: PositiveInt
    """Side of the pictures to draw, in pixels: one of `IMAGE_SIZES`."""
    vocab_size: PositiveInt
    """Tokens that the captions yield."""
    longest_caption: NonNegativeInt
    """Tokens of the longest caption."""
    flops_per_second: PositiveFloat
    """What the device sustains in training."""
    minutes: PositiveFloat
    """Of training, all stages together."""
    precision: Precision = "bfloat16"
    seed: int = 0
    has_alpha: bool = False
    """Whether the pictures have alpha, which an autoencoder then draws too."""
    smoke: bool = False
    """Tiny networks, trained for seconds."""


class Space(NamedTuple):
    """What the decoder draws."""

    autoencoder: ConvAutoencoderConfig | None
    """What makes the latents; None: pixels are denoised."""
    image_size: int
    """Side of the pictures that the decoder draws; where a set has larger ones, an upsampler enlarges them."""
    reason: str
    """A sentence for the user."""


_CAPTIONS_ALONE = {"positives": (), "classes": (), "class_texts": (), "teacher": None, "phrases": None}
"""Options of CLIP's task for pictures without fields of their concepts."""
_CLIP_BATCH = 256
"""Where pictures are told apart by each other alone, a batch has to be large."""
_SHARES = {"clip": 0.15, "autoencoder": 0.15, "upsampler": 0.15, "decoder": 0.5, "prior": 0.2}
"""Of the time."""
_MAX_EPOCHS = {"clip": 300, "autoencoder": 1000, "upsampler": 1000, "decoder": 1000, "prior": 1000}
"""Passes over the pictures after which more of them teach a small set by heart."""


def choose(given: Circumstances, out: Path, clip: ClipConfig | None = None) -> tuple[TrainingStage, ...]:
    """Choose the stages to train, in order, with the data in `out/shards` and CLIP in `out/clip`.

    CLIP is trained first unless the shape of an existing one is given. More pictures and more time never make networks
    smaller nor their training cheaper, and `planned_minutes` of the stages add up to no more than `minutes`, unless
    that is less than eight batches take. From 100 pictures on some are held out. Raises `InputError` for an
    `image_size` that is not in `IMAGE_SIZES`.
    """
    if given.image_size not in IMAGE_SIZES:
        allowed = ", ".join(map(str, IMAGE_SIZES))
        raise InputError(f"image_size={given.image_size} is not a size that can be drawn; use one of {allowed}.")
    tier, space = _tiers(given)[-1], space_of(given)
    # Prompts may be longer than the captions were; a multiple of 8 wastes no lanes.
    context_length = min(MAX_CONTEXT, max(MIN_CONTEXT, math.ceil(given.longest_caption / 8) * 8))
    shape = clip or tier.clip.replace(vocab_size=min(MAX_VOCAB, given.vocab_size), context_length=context_length)
    recipes = []
    if clip is None:
        recipes.append(_change(emoji.clip(), dict(shape), _CAPTIONS_ALONE).replace(batch_size=_CLIP_BATCH))
    if space.autoencoder is not None:
        recipes.append(_autoencoder(space.autoencoder, space.image_size))
    if given.image_size > space.image_size:
        recipes.append(_upsampler(given, space, tier))
    if space.autoencoder is not None:
        recipes.append(_latent_decoder(space.autoencoder, space.image_size, tier, shape, out))
    else:
        recipes.append(_decoder(space.image_size, tier, shape, out))
    recipes.append(_prior(tier, shape, out))
    total = sum(_SHARES[recipe.task.kind] for recipe in recipes)
    stages = []
    for recipe in recipes:
        config, share = _on_own_data(recipe, given, out, tier), _SHARES[recipe.task.kind] / total
        num_images: float = SMOKE_IMAGES
        if not given.smoke:
            seconds = 60.0 * given.minutes * share
            affordable = given.flops_per_second * seconds / count_flops_per_image(config, shape)
            num_images = min(affordable, most_images(config, given.num_pictures))
        config = with_batch(config, _batch_size(config, num_images, given.num_pictures))
        stages.append(TrainingStage(config=with_length(config, num_images), share=share))
    return tuple(stages)


def space_of(given: Circumstances) -> Space:
    """Return what the decoder draws: latents of large pictures, where their autoencoder has steps enough.

    That is `GOOD_STEPS` batches in its share of the time. Of the autoencoders of the tiers up to the chosen one it is
    the largest, for whole pictures if one is fast enough and else for 128 px.
    """
    size, tiers = given.image_size, _tiers(given)
    if size < LATENTS_FROM:
        drawn = min(size, tiers[-1].decoder_size)
        return Space(None, drawn, f"the decoder draws pixels: {size} px are few, latents begin at {LATENTS_FROM} px")
    seconds, least = 60.0 * given.minutes * _SHARES[AUTOENCODER], GOOD_STEPS * emoji.autoencoder().batch_size
    grid, alpha = tiers[-1].latent_size, " with their coverage" if given.has_alpha else ""
    for drawn in dict.fromkeys((size, LATENTS_FROM)):
        for tier in reversed(tiers):
            shape = _autoencoder_shape(tier.autoencoder_widths, drawn, grid, given.has_alpha)
            needed = least * count_flops_per_image(_autoencoder(shape, drawn)) / given.flops_per_second
            if given.smoke or needed <= seconds:
                ratio = shape.in_channels * drawn**2 // (LATENT_CHANNELS * grid**2)
                return Space(
                    shape,
                    drawn,
                    f"the decoder draws latents, {grid} x {grid} x {LATENT_CHANNELS} numbers: pictures of {drawn} px"
                    f"{alpha} have {ratio} times as many",
                )
    minutes = math.ceil(given.minutes * needed / seconds)
    return Space(
        None,
        tiers[-1].decoder_size,
        f"the decoder draws pixels, which an upsampler enlarges: an autoencoder, whose latents it could draw, takes "
        f"--minutes {minutes} or more here",
    )


def defaults_of(stages: tuple[TrainingStage, ...]) -> Defaults:
    """Return how the trained model is sampled, at the largest size that there is a stage for."""
    # Not the shipped model's guidance, which was chosen for that model alone.
    settings = dict(emoji.DEFAULTS.stages) | {
        "prior": StageSettings(num_steps=25, sampler="ddpm", guidance_scale=2.5),
        "decoder": StageSettings(num_steps=16, sampler="dpm++", guidance_scale=2.0, augmentation=0.2),
    }
    stage_settings = {
        stage.name: settings["upsampler_256" if stage.config.task.kind == "upsampler" else stage.name]
        for stage in stages
        if stage.name not in ("clip", AUTOENCODER)
    }
    return emoji.DEFAULTS.replace(image_size=None, stages=stage_settings, presets={})


def planned_minutes(config: TrainConfig, flops_per_second: float, clip: ClipConfig | None) -> float:
    """Return the minutes that `config` takes at a rate of operations; `clip` computes its features."""
    flops = count_flops_per_image(config, clip)
    return config.num_images * flops / flops_per_second / 60.0


def most_images(config: TrainConfig, num_pictures: int) -> int:
    """Return how many pictures a stage should see at most: a number of passes over the set."""
    return _MAX_EPOCHS[config.task.kind] * num_pictures


def with_length(config: TrainConfig, num_images: float) -> TrainConfig:
    """Return `config` for about so many images, no more except for eight batches, in up to 8 equal parts.

    A part ends in a checkpoint and the held-out figures, so the last of them stand at the end. Warm-up, the average's
    half-life and previews follow.
    """
    num_steps = max(MAX_PARTS, int(num_images / config.batch_size))
    parts = min(MAX_PARTS, max(1, num_steps // STEPS_OF_PART))
    part = num_steps // parts * config.batch_size
    return config.replace(
        num_images=parts * part,
        optimizer=config.optimizer.replace(warmup_images=parts * part // 25),
        ema_images=parts * part / 25,
        checkpoint_images=part,
        validation_images=part,
        preview_images=2 * part,
    )


def with_batch(config: TrainConfig, batch_size: int) -> TrainConfig:
    """Return `config` with another batch; CLIP's learning rate follows the square root of its size.

    In other stages a small batch is taken where steps are few, and few steps want the whole rate: a decoder of 360
    steps of 16 ended at a loss of 0.023 at 1e-3, and of 0.040 at 4e-4.
    """
    scale = math.sqrt(batch_size / config.batch_size) if config.task.kind == "clip" else 1.0
    optimizer = config.optimizer.replace(learning_rate=config.optimizer.learning_rate * scale)
    return config.replace(batch_size=batch_size, optimizer=optimizer)


def batch_for(config: TrainConfig, num_images: float) -> int:
    """Return the batch of a stage that has time for `num_images`: smaller than its own where that leaves too few steps.

    CLIP's stays, since its loss compares the pictures of a batch.
    """
    if config.task.kind == "clip" or num_images >= MIN_STEPS * config.batch_size:
        return config.batch_size
    return max(min(SMALLEST_BATCH, config.batch_size), min(config.batch_size, _power_below(num_images / MIN_STEPS)))


def _change(recipe: TrainConfig, model: Mapping[str, Any], task: Mapping[str, Any] | None = None) -> TrainConfig:
    """Return `recipe` with other values of these fields of its network, and of its task."""
    return recipe.replace(task=recipe.task.replace(model=recipe.task.model.replace(**model), **(task or {})))


def _on_own_data(recipe: TrainConfig, given: Circumstances, out: Path, tier: Tier) -> TrainConfig:
    """Return a run of the recipe on the user's pictures, whose length is not set yet."""
    task, rate = recipe.task, recipe.optimizer.learning_rate
    name = f"upsampler_{task.model.image_size}" if isinstance(task, UpsamplerTaskConfig) else task.kind
    return recipe.replace(
        name=f"quickstart/{name}",
        data=DataConfig(
            folder=str(out / SHARDS),
            source_size=given.image_size,
            validation_share=HELD_OUT_SHARE if given.num_pictures >= MIN_HELD_OUT_SET else 0.0,
        ),
        optimizer=recipe.optimizer.replace(
            learning_rate=rate if task.kind == "clip" else rate * tier.speed, warmup_images=0
        ),
        seed=given.seed,
        precision=given.precision,
        num_validation=256,
    )


def _batch_size(config: TrainConfig, num_images: float, num_pictures: int) -> int:
    """Return 4 at least, the stage's own at most: for CLIP a third of the pictures, else what leaves enough steps."""
    if config.task.kind == "clip":
        # The loss would push a picture that is twice in a batch away from itself.
        return max(SMALLEST_BATCH, min(config.batch_size, _power_below(num_pictures / 3)))
    good = max(FAST_BATCH, _power_below(num_images / GOOD_STEPS))
    return max(SMALLEST_BATCH, min(config.batch_size, good, _power_below(num_images / MAX_PARTS)))


def _power_below(number: float) -> int:
    """Return the largest power of two that is no more than `number`, and at least 1."""
    return 1 << max(0, int(number).bit_length() - 1)


def _tiers(given: Circumstances) -> list[Tier]:
    flops = given.flops_per_second * 60.0 * given.minutes
    return [SMOKE] if given.smoke else tiers_for(given.num_pictures, flops)


def _prior(tier: Tier, clip: ClipConfig, out: Path) -> TrainConfig:
    width, depth, num_heads = tier.prior
    inputs = {"text_dim": clip.text_width, "num_text_tokens": clip.context_length, "embedding_dim": clip.embedding_dim}
    return _change(
        emoji.prior(),
        inputs | {"width": width, "depth": depth, "num_heads": num_heads},
        {"clip": out / "clip", "paraphrases": None},
    )


def _decoder(image_size: int, tier: Tier, clip: ClipConfig, out: Path) -> TrainConfig:
    channels, grid_size = tier.decoder_channels, image_size // tier.decoder_patch
    model = {
        "image_size": image_size,
        "embedding_dim": clip.embedding_dim,
        "base_channels": channels,
        "channel_mult": tier.decoder_mult,
        "attention_resolutions": tuple(grid_size // 2**level for level in tier.decoder_attention),
        "head_dim": channels if channels < 64 else 32,
        "context_dim": 3 * channels,
        "patch_size": tier.decoder_patch,
    }
    return _change(pixels.decoder(), model, {"clip": out / "clip"})


def _autoencoder_shape(
    widths: tuple[int, ...], image_size: int, latent_size: int, has_alpha: bool
) -> ConvAutoencoderConfig:
    shape = emoji.autoencoder().task.model
    assert isinstance(shape, ConvAutoencoderConfig), shape
    num_levels = (image_size // shape.patch_size // latent_size).bit_length()
    widths = (widths + widths[-1:] * num_levels)[:num_levels]
    return shape.replace(in_channels=4 if has_alpha else 3, latent_channels=LATENT_CHANNELS, widths=widths)


def _autoencoder(shape: ConvAutoencoderConfig, image_size: int) -> TrainConfig:
    return _change(emoji.autoencoder(), dict(shape), {"image_size": image_size})


def _latent_decoder(
    autoencoder: ConvAutoencoderConfig, image_size: int, tier: Tier, clip: ClipConfig, out: Path
) -> TrainConfig:
    grid_size, mult = image_size // autoencoder.downsampling, tier.latent_decoder_mult
    model = {
        "image_size": grid_size,
        "in_channels": autoencoder.latent_channels,
        "embedding_dim": clip.embedding_dim,
        "text_dim": 0,
        "base_channels": tier.latent_decoder_channels,
        "channel_mult": mult,
        "attention_resolutions": tuple(grid_size // 2**level for level in range(1, len(mult))),
        "context_dim": 3 * tier.latent_decoder_channels // 2,
    }
    return _change(
        emoji.decoder(), model, {"clip": out / "clip", "autoencoder": out / AUTOENCODER, "paraphrases": None}
    )


def _upsampler(given: Circumstances, space: Space, tier: Tier) -> TrainConfig:
    image_size = given.image_size
    model = {
        "image_size": image_size,
        "low_res_size": space.image_size,
        "in_channels": 3 if space.autoencoder is None else space.autoencoder.in_channels,
        "base_channels": tier.upsampler_channels,
        # A grid 64 wide, or as coarse as possible where only seconds count.
        "patch_size": min(4, image_size // 16) if tier is SMOKE else image_size // 64,
        # What it has not learned yet is then as bicubic enlargement leaves it.
        "residual": True,
    }
    # A crop of a quarter of the side is a grid of 16 whatever the size.
    return _change(pixels.upsampler_256(), model, {"crop_size": image_size // 4})
