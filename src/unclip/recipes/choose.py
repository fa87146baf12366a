"""Sizes of the networks for somebody's own pictures, and how long each is trained. Knows arithmetic; runs nothing.

Networks are the emoji recipes' (which see), smaller for few pictures or little time and larger on a GPU. Time is
planned by operations a picture and a stated rate of the device.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from unclip.clip import ClipConfig
from unclip.config import Config
from unclip.errors import InputError
from unclip.model import Defaults
from unclip.models import DecoderConfig, PriorConfig, UpsamplerConfig
from unclip.recipes import emoji
from unclip.recipes.series import Stage
from unclip.training import (
    ClipTaskConfig,
    DataConfig,
    DecoderTaskConfig,
    OptimizerConfig,
    PriorTaskConfig,
    TrainConfig,
    UpsamplerTaskConfig,
)
from unclip.training.config import Precision
from unclip.training.plan.cost import count_flops_per_image

SHARDS = "shards"
IMAGE_SIZES = (256, 128, 64, 32)
"""Sides of the pictures that are drawn."""
SHARES = {"clip": 0.15, "upsampler": 0.15, "decoder": 0.5, "prior": 0.2}
"""Of the time, near those of the emoji series."""
MAX_EPOCHS = {"clip": 300, "upsampler": 1000, "decoder": 1000, "prior": 1000}
"""Passes over the pictures after which more of them teach a small set by heart."""
MIN_HELD_OUT_SET = 100
HELD_OUT_SHARE = 0.05
PARTS, STEPS_OF_PART = 8, 100
"""Checkpoints and held-out figures of a run: at most so many, and fewer where they would come every few steps."""
LEAST_STEPS = 300
"""Steps below which pictures stay blurs (benchmarks/quickstart_shapes.py: 20 steps are grey, 350 show the shapes)."""
NUM_STEPS = 1500
"""Steps that a stage should have at least, if its batch can be made small enough for that."""
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
    smoke: bool = False
    """Tiny networks, trained for seconds."""


class _Level(NamedTuple):
    """Shapes of the networks that go together."""

    clip: ClipConfig
    prior: tuple[int, int, int]
    """Width, blocks, heads."""
    decoder_size: int
    decoder_channels: int
    decoder_mult: tuple[int, ...]
    decoder_patch: int
    decoder_attention: tuple[int, ...]
    """Levels with attention, by their number; 0 is the finest."""
    upsampler_channels: int
    speed: float = 1.0
    """What multiplies the emoji recipes' learning rates: small networks bear more, and few steps need it."""


def _clip(image_size: int, embedding_dim: int, vision: tuple[int, int], text: tuple[int, int]) -> ClipConfig:
    return emoji.CLIP.replace(
        image_size=image_size,
        embedding_dim=embedding_dim,
        vision_width=vision[0],
        vision_layers=vision[1],
        vision_heads=max(1, vision[0] // 64),
        text_width=text[0],
        text_layers=text[1],
        text_heads=max(1, text[0] // 64),
    )


_SMOKE = _Level(_clip(16, 32, (32, 1), (32, 1)), (32, 1, 1), 16, 32, (1, 2), 2, (1,), 32)
_LEVELS = (
    # For minutes on a CPU: a grid of 8 x 8 with wide levels learns the most a second there.
    _Level(_clip(48, 64, (128, 3), (128, 2)), (128, 3, 2), 32, 64, (1, 2), 4, (1,), 32, 1.5),
    _Level(_clip(48, 128, (128, 4), (128, 3)), (192, 4, 3), 32, 48, (1, 2, 4), 2, (1, 2), 48),
    _Level(_clip(48, 192, (192, 6), (128, 4)), (256, 6, 4), 32, 64, (1, 2, 4), 2, (1, 2), 64),
    _Level(_clip(64, 256, (384, 8), (256, 6)), (512, 8, 8), 64, 128, (1, 2, 4), 2, (1, 2), 96),
)
LEVEL_NEEDS = ((0, 0.0), (0, 2e14), (2_000, 2e15), (10_000, 1e17))
"""Pictures, and operations that the time has room for, that a level needs.

Two cores at rest do 2e14 in some ten minutes, of which the second level's decoder makes 1,500 steps.
"""


def choose(given: Circumstances, out: Path, clip: ClipConfig | None = None) -> tuple[Stage, ...]:
    """The stages to train, in order, with the data in `out/shards` and CLIP in `out/clip`; trains CLIP unless given.

    More pictures and more time never make networks smaller nor their training cheaper, and `planned_minutes` of the
    stages add up to no more than `minutes`, unless that is less than eight batches take. From 100 pictures on some are
    held out. Raises `InputError` for a size that is not drawn.
    """
    if given.image_size not in IMAGE_SIZES:
        allowed = ", ".join(map(str, IMAGE_SIZES))
        raise InputError(f"image_size={given.image_size} is none of the sizes that are drawn; use one of {allowed}.")
    level = _level(given)
    shape = clip or _own_clip(level, given)
    configs = dict(_configs(given, level, shape, out))
    if clip is not None:
        del configs["clip"]
    total = sum(SHARES[kind] for kind in configs)
    shares = {kind: SHARES[kind] / total for kind in configs}
    stages = []
    for kind, config in configs.items():
        seconds = 60.0 * given.minutes * shares[kind]
        stages.append(Stage(config=_lasting(config, seconds, given, shape), share=shares[kind]))
    return tuple(stages)


def defaults_of(stages: tuple[Stage, ...]) -> Defaults:
    """How the trained model is sampled: as the shipped one is, at the largest size that there is a stage for."""
    settings = dict(emoji.DEFAULTS.stages)
    known = {
        stage.name: settings["upsampler_256" if stage.config.task.kind == "upsampler" else stage.name]
        for stage in stages
        if stage.name != "clip"
    }
    return emoji.DEFAULTS.replace(image_size=None, stages=known)


def planned_minutes(config: TrainConfig, flops_per_second: float, clip: ClipConfig | None) -> float:
    """Minutes that `config` takes at a rate of operations; `clip` is what its features are computed with."""
    flops = count_flops_per_image(config, clip)
    return config.num_images * flops / flops_per_second / 60.0


def most_images(config: TrainConfig, num_pictures: int) -> int:
    """Pictures that a stage should see at most: a number of passes over the set."""
    return MAX_EPOCHS[config.task.kind] * num_pictures


def with_length(config: TrainConfig, num_images: float) -> TrainConfig:
    """`config` for about so many images, no more but for eight batches, in up to 8 equal parts.

    A part ends in a checkpoint and the held-out figures, so the last of them stand at the end. Warm-up, the average's
    half-life and previews follow.
    """
    num_steps = max(PARTS, int(num_images / config.batch_size))
    parts = min(PARTS, max(1, num_steps // STEPS_OF_PART))
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
    """`config` with another batch; CLIP's learning rate follows the square root of its size.

    Elsewhere a small batch is taken where steps are few, and few steps want the whole rate: a decoder of 360 steps of
    16 ended at a loss of 0.023 at 1e-3, and of 0.040 at 4e-4.
    """
    scale = math.sqrt(batch_size / config.batch_size) if config.task.kind == "clip" else 1.0
    optimizer = config.optimizer.replace(learning_rate=config.optimizer.learning_rate * scale)
    return config.replace(batch_size=batch_size, optimizer=optimizer)


def batch_for(config: TrainConfig, num_images: float) -> int:
    """The batch of a stage that has time for `num_images`: its own, or a smaller one where that leaves too few steps.

    CLIP's stays, since its loss compares the pictures of a batch.
    """
    if config.task.kind == "clip" or num_images >= LEAST_STEPS * config.batch_size:
        return config.batch_size
    return max(min(SMALLEST_BATCH, config.batch_size), min(config.batch_size, _power_below(num_images / LEAST_STEPS)))


def _level(given: Circumstances) -> _Level:
    if given.smoke:
        return _SMOKE
    flops = given.flops_per_second * 60.0 * given.minutes
    enough = [given.num_pictures >= pictures and flops >= needed for pictures, needed in LEVEL_NEEDS]
    return _LEVELS[max(index for index, is_enough in enumerate(enough) if is_enough)]


def _own_clip(level: _Level, given: Circumstances) -> ClipConfig:
    # Prompts may be longer than the captions were; a multiple of 8 wastes no lanes.
    length = min(MAX_CONTEXT, max(MIN_CONTEXT, math.ceil(given.longest_caption / 8) * 8))
    return level.clip.replace(vocab_size=min(MAX_VOCAB, given.vocab_size), context_length=length)


def _configs(given: Circumstances, level: _Level, clip: ClipConfig, out: Path) -> Iterator[tuple[str, TrainConfig]]:
    yield "clip", _run(given, out, ClipTaskConfig(model=clip), 1e-3, 0.1, 256)
    if given.image_size > _decoder_size(given, level):
        yield "upsampler", _run(given, out, _upsampler(given, level), level.speed * 1e-3, 0.01, 64)
    yield "decoder", _run(given, out, DecoderTaskConfig(
        model=_decoder(given, level, clip), clip=out / "clip", weighting="uniform"
    ), level.speed * 8e-4, 0.01, 64)  # fmt: skip
    prior = PriorTaskConfig(model=_prior(level, clip), clip=out / "clip")
    yield "prior", _run(given, out, prior, level.speed * 7e-4, 0.06, 128)


def _run(
    given: Circumstances,
    out: Path,
    task: ClipTaskConfig | PriorTaskConfig | DecoderTaskConfig | UpsamplerTaskConfig,
    learning_rate: float,
    weight_decay: float,
    batch_size: int,
) -> TrainConfig:
    """A run of the emoji recipes' settings, whose length is still to be set."""
    betas = (0.9, 0.98) if isinstance(task, ClipTaskConfig | PriorTaskConfig) else (0.9, 0.99)
    name = f"upsampler_{task.model.image_size}" if isinstance(task, UpsamplerTaskConfig) else task.kind
    return TrainConfig(
        name=f"quickstart/{name}",
        task=task,
        data=DataConfig(
            folder=str(out / SHARDS),
            source_size=given.image_size,
            validation_share=HELD_OUT_SHARE if given.num_pictures >= MIN_HELD_OUT_SET else 0.0,
        ),
        optimizer=OptimizerConfig(
            learning_rate=learning_rate, betas=betas, weight_decay=weight_decay, warmup_images=0, decay="cosine"
        ),
        batch_size=batch_size,
        num_images=batch_size,
        seed=given.seed,
        precision=given.precision,
        num_validation=256,
    )


def _lasting(config: TrainConfig, seconds: float, given: Circumstances, clip: ClipConfig) -> TrainConfig:
    """`config` for so many seconds, with a batch small enough for many steps, and its learning rate."""
    flops = count_flops_per_image(config, clip)
    affordable = given.flops_per_second * seconds / flops
    num_images = SMOKE_IMAGES if given.smoke else min(affordable, most_images(config, given.num_pictures))
    return with_length(with_batch(config, _batch_size(config, num_images, given.num_pictures)), num_images)


def _batch_size(config: TrainConfig, num_images: float, num_pictures: int) -> int:
    """At most the recipe's, and at least 4: in CLIP what a third of the pictures fills, elsewhere what leaves steps."""
    if config.task.kind == "clip":
        # A picture that is twice in a batch would be told to differ from itself.
        return max(SMALLEST_BATCH, min(config.batch_size, _power_below(num_pictures / 3)))
    good = max(FAST_BATCH, _power_below(num_images / NUM_STEPS))
    return max(SMALLEST_BATCH, min(config.batch_size, good, _power_below(num_images / PARTS)))


def _power_below(number: float) -> int:
    """The largest power of two that is no more than `number`, and at least 1."""
    return 1 << max(0, int(number).bit_length() - 1)


def _prior(level: _Level, clip: ClipConfig) -> PriorConfig:
    width, depth, num_heads = level.prior
    return PriorConfig(
        embedding_dim=clip.embedding_dim,
        text_dim=clip.text_width,
        num_text_tokens=clip.context_length,
        width=width,
        depth=depth,
        num_heads=num_heads,
        prediction_type="x0",
        dropout=0.1,
    )


def _decoder_size(given: Circumstances, level: _Level) -> int:
    return min(level.decoder_size, given.image_size)


def _decoder(given: Circumstances, level: _Level, clip: ClipConfig) -> DecoderConfig:
    image_size, patch_size = _decoder_size(given, level), level.decoder_patch
    return DecoderConfig(
        image_size=image_size,
        embedding_dim=clip.embedding_dim,
        base_channels=level.decoder_channels,
        channel_mult=level.decoder_mult,
        num_res_blocks=1,
        attention_resolutions=tuple(image_size // patch_size // 2**number for number in level.decoder_attention),
        head_dim=level.decoder_channels if level.decoder_channels < 64 else 32,
        context_dim=3 * level.decoder_channels,
        patch_size=patch_size,
        learned_variance=False,
        prediction_type="x0",
    )


def _upsampler(given: Circumstances, level: _Level) -> UpsamplerTaskConfig:
    """Crops are a quarter of the side, so that a crop is a grid of 16 whatever the size."""
    model = UpsamplerConfig(
        image_size=given.image_size,
        low_res_size=_decoder_size(given, level),
        base_channels=level.upsampler_channels,
        channel_mult=(1, 2),
        num_res_blocks=1,
        # Of pixels, so that the grid is 64 wide, or as coarse as it can be where only seconds count.
        patch_size=min(4, given.image_size // 16) if level is _SMOKE else given.image_size // 64,
        prediction_type="x0",
        # What it has not learned yet is then as bicubic enlargement leaves it.
        residual=True,
        noise_conditioning=True,
    )
    return UpsamplerTaskConfig(model=model, crop_size=given.image_size // 4, weighting="uniform")
