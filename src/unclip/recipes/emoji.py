"""The recipes of the shipped emoji model.

All five train in order with `make train-emoji MINUTES=180`; each alone with `unclip train emoji/<stage> --out …`.
Minutes and losses are those of the shipped model on two cores with avx512_bf16, the losses means of its last 100 steps.
FLOPs are those of one forward pass of one picture; training costs three times as much.
"""

from pathlib import Path

from unclip.clip import ClipConfig
from unclip.model import Defaults, StageSettings
from unclip.models import DecoderConfig, PriorConfig, UpsamplerConfig
from unclip.recipes.smoke import shrink_task
from unclip.training import (
    ClipTaskConfig,
    DataConfig,
    DecoderTaskConfig,
    OptimizerConfig,
    PriorTaskConfig,
    TrainConfig,
    UpsamplerTaskConfig,
)

ROOT = Path("runs/emoji")
CLIP_FOLDER = ROOT / "clip"
NUM_PICTURES = 13_235
CLIP = ClipConfig(
    embedding_dim=192,
    image_size=48,
    patch_size=8,
    vision_width=192,
    vision_layers=6,
    vision_heads=3,
    text_width=128,
    text_layers=4,
    text_heads=2,
    context_length=32,
    vocab_size=4096,
    activation="gelu",
)
DEFAULTS = Defaults(
    image_size=256,
    num_candidates=2,
    stages={
        "prior": StageSettings(num_steps=25, sampler="ddpm", guidance_scale=2.5),
        "decoder": StageSettings(num_steps=16, sampler="dpm++", guidance_scale=1.5),
        "upsampler_256": StageSettings(num_steps=1, sampler="dpm++"),
        "upsampler_1024": StageSettings(num_steps=2, sampler="dpm++"),
    },
)


def clip() -> TrainConfig:
    """Train CLIP on all captions of the emoji set.

    `unclip train emoji/clip --out runs/emoji/clip`; 370,000 pictures in 22 minutes, loss 0.33.
    """
    return TrainConfig(
        name="emoji/clip",
        task=ClipTaskConfig(model=CLIP),
        data=_data(),
        optimizer=OptimizerConfig(
            learning_rate=1e-3, betas=(0.9, 0.98), weight_decay=0.1, warmup_images=20_000, decay="cosine"
        ),
        batch_size=256,
        num_images=370_000,
        ema_images=10_000,
    )


def prior() -> TrainConfig:
    """Train a causal transformer from text features to image embeddings, predicting x0.

    `unclip train emoji/prior --out runs/emoji/prior`, after `emoji/clip`; 146,000 pictures in 12 minutes, loss 0.119.
    """
    model = PriorConfig(
        embedding_dim=CLIP.embedding_dim,
        text_dim=CLIP.text_width,
        num_text_tokens=CLIP.context_length,
        width=256,
        depth=6,
        num_heads=4,
        prediction_type="x0",
        dropout=0.1,
    )
    return TrainConfig(
        name="emoji/prior",
        task=PriorTaskConfig(model=model, clip=CLIP_FOLDER),
        data=_data(),
        optimizer=OptimizerConfig(learning_rate=7e-4, betas=(0.9, 0.98), weight_decay=0.06, decay="cosine"),
        batch_size=128,
        num_images=200_000,
        ema_images=20_000,
    )


def decoder() -> TrainConfig:
    """Train a U-Net at 32 px that works on a 16 px grid (pixel-unshuffle 2), conditioned on the image embedding.

    `unclip train emoji/decoder --out runs/emoji/decoder`, after `emoji/clip`; 520,000 pictures in 127 minutes, loss
    0.026.
    """
    model = DecoderConfig(
        image_size=32,
        embedding_dim=CLIP.embedding_dim,
        base_channels=64,
        channel_mult=(1, 2, 4),
        num_res_blocks=1,
        attention_resolutions=(8, 4),
        head_dim=32,
        context_dim=192,
        patch_size=2,
        learned_variance=False,
        prediction_type="x0",
    )
    return TrainConfig(
        name="emoji/decoder",
        task=DecoderTaskConfig(model=model, clip=CLIP_FOLDER, weighting="uniform"),
        data=_data(),
        optimizer=OptimizerConfig(learning_rate=8e-4, weight_decay=0.01, warmup_images=10_000, decay="cosine"),
        batch_size=64,
        num_images=520_000,
        ema_images=10_000,
        checkpoint_images=40_000,
        preview_images=40_000,
    )


def upsampler_256() -> TrainConfig:
    """Train a convolutional U-Net from 32 to 256 px on 64 px crops.

    `unclip train emoji/upsampler_256 --out runs/emoji/upsampler_256`; needs no other stage;
    90,000 crops in 15 minutes, loss 0.0125.
    """
    model = UpsamplerConfig(
        image_size=256,
        low_res_size=32,
        base_channels=64,
        channel_mult=(1, 2),
        num_res_blocks=1,
        patch_size=4,
        prediction_type="x0",
        noise_conditioning=True,
    )
    return TrainConfig(
        name="emoji/upsampler_256",
        task=UpsamplerTaskConfig(model=model, crop_size=64, weighting="uniform"),
        data=_data(),
        optimizer=OptimizerConfig(learning_rate=1e-3, weight_decay=0.01, warmup_images=4_000, decay="cosine"),
        batch_size=64,
        num_images=90_000,
        ema_images=5_000,
        checkpoint_images=30_000,
        preview_images=30_000,
    )


def upsampler_1024() -> TrainConfig:
    """Train a convolutional U-Net from 256 to 1024 px on 128 px crops, which couples pixels by convolutions alone.

    `unclip train emoji/upsampler_1024 --out runs/emoji/upsampler_1024`; needs no other stage, and rasterises every
    seventh picture at 1024 px (6 GB of cache). 88 GFLOP at 1024 px. 30,000 crops in 52 minutes, loss 0.0022.
    """
    model = UpsamplerConfig(
        image_size=1024,
        low_res_size=256,
        base_channels=48,
        channel_mult=(1, 2),
        num_res_blocks=1,
        patch_size=4,
        prediction_type="x0",
        schedule="linear",
        norm="pixel",
        residual=True,
        noise_conditioning=True,
    )
    return TrainConfig(
        name="emoji/upsampler_1024",
        task=UpsamplerTaskConfig(
            model=model, crop_size=128, degradation="bsr", max_augmentation=0.1, weighting="uniform"
        ),
        data=_data(source_size=1024, every=7),
        optimizer=OptimizerConfig(learning_rate=1e-3, weight_decay=0.01, warmup_images=2_000, decay="cosine"),
        batch_size=32,
        num_images=30_000,
        ema_images=2_000,
        checkpoint_images=5_000,
        preview_images=10_000,
    )


def _data(source_size: int = 256, every: int = 1) -> DataConfig:
    return DataConfig(folder=f"{ROOT}/shards-{source_size}", emoji_split="train", source_size=source_size, every=every)


def shrink(config: TrainConfig) -> TrainConfig:
    """Return the smoke variant: narrow networks on 16 pictures, at the sizes of the shipped model's pictures."""
    task = shrink_task(config.task)
    if isinstance(task, PriorTaskConfig):
        task = task.replace(model=task.model.replace(depth=1, num_heads=1))
    elif isinstance(task, DecoderTaskConfig):
        task = task.replace(model=task.model.replace(image_size=32, context_dim=64, patch_size=2))
    elif isinstance(config.task, UpsamplerTaskConfig):
        crop_size = 32 if config.task.model.image_size == 1024 else config.task.crop_size
        task = config.task.replace(model=config.task.model.replace(base_channels=32), crop_size=crop_size)
    return config.replace(
        task=task,
        data=config.data.replace(folder=f"{config.data.folder}-smoke", limit=16),
        batch_size=8,
        num_images=96,
        checkpoint_images=48,
        preview_images=48,
        ema_images=100,
    )
