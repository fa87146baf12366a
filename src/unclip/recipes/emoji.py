"""The recipes of the shipped emoji model. Knows settings only.

All five train in order with `make train-emoji MINUTES=180`; each alone with `unclip train emoji/<stage> --out …`.
Minutes and losses are those of the shipped model on two cores with avx512_bf16, the losses means of its last 100 steps.
FLOPs are those of one forward pass of one picture; training costs three times as much.
"""

from pathlib import Path

from unclip.clip import ClipConfig
from unclip.model import Defaults, StageSettings
from unclip.models import DecoderConfig, PriorConfig, UpsamplerConfig
from unclip.recipes.smoke import CLIP_FOLDER as TOY_CLIP
from unclip.recipes.smoke import tiny_clip
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
CLIP_SMOKE = tiny_clip(CLIP)
SMOKE_IMAGES = 96
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


def _data(smoke: bool, size: int = 256, every: int = 1) -> DataConfig:
    folder = ROOT / (f"shards-{size}-smoke" if smoke else f"shards-{size}")
    limit = 16 if smoke else None
    return DataConfig(folder=str(folder), emoji_split="train", source_size=size, limit=limit, every=every)


def _smoke(config: TrainConfig) -> TrainConfig:
    return config.replace(
        batch_size=8, num_images=SMOKE_IMAGES, checkpoint_images=48, preview_images=48, ema_images=100
    )


def clip(smoke: bool = False) -> TrainConfig:
    """CLIP on all captions of the emoji set.

    `unclip train emoji/clip --out runs/emoji/clip`; 370,000 pictures in 22 minutes, loss 0.33.
    """
    model = CLIP_SMOKE if smoke else CLIP
    config = TrainConfig(
        name="emoji/clip",
        task=ClipTaskConfig(model=model),
        data=_data(smoke),
        optimizer=OptimizerConfig(
            learning_rate=1e-3, betas=(0.9, 0.98), weight_decay=0.1, warmup_images=20_000, decay="cosine"
        ),
        batch_size=256,
        num_images=370_000,
        ema_images=10_000,
    )
    return _smoke(config) if smoke else config


def prior(smoke: bool = False) -> TrainConfig:
    """A causal transformer from text features to image embeddings, predicting x0.

    `unclip train emoji/prior --out runs/emoji/prior`, after `emoji/clip`; 146,000 pictures in 12 minutes, loss 0.119.
    """
    clip_model = CLIP_SMOKE if smoke else CLIP
    model = PriorConfig(
        embedding_dim=clip_model.embedding_dim,
        text_dim=clip_model.text_width,
        num_text_tokens=clip_model.context_length,
        width=32 if smoke else 256,
        depth=1 if smoke else 6,
        num_heads=1 if smoke else 4,
        prediction_type="x0",
        dropout=0.1,
    )
    config = TrainConfig(
        name="emoji/prior",
        task=PriorTaskConfig(model=model, clip=TOY_CLIP if smoke else CLIP_FOLDER),
        data=_data(smoke),
        optimizer=OptimizerConfig(learning_rate=7e-4, betas=(0.9, 0.98), weight_decay=0.06, decay="cosine"),
        batch_size=128,
        num_images=200_000,
        ema_images=20_000,
    )
    return _smoke(config) if smoke else config


def decoder(smoke: bool = False) -> TrainConfig:
    """A U-Net at 32 px that works on a 16 px grid (pixel-unshuffle 2), conditioned on the image embedding.

    `unclip train emoji/decoder --out runs/emoji/decoder`, after `emoji/clip`; 520,000 pictures in 127 minutes, loss
    0.026.
    """
    model = DecoderConfig(
        image_size=32,
        embedding_dim=(CLIP_SMOKE if smoke else CLIP).embedding_dim,
        text_dim=0,
        base_channels=32 if smoke else 64,
        channel_mult=(1, 2) if smoke else (1, 2, 4),
        num_res_blocks=1,
        attention_resolutions=(8,) if smoke else (8, 4),
        head_dim=32,
        context_dim=64 if smoke else 192,
        patch_size=2,
        dropout=0.0,
        learned_variance=False,
        prediction_type="x0",
    )
    config = TrainConfig(
        name="emoji/decoder",
        task=DecoderTaskConfig(model=model, clip=TOY_CLIP if smoke else CLIP_FOLDER, weighting="uniform"),
        data=_data(smoke),
        optimizer=OptimizerConfig(learning_rate=8e-4, weight_decay=0.01, warmup_images=10_000, decay="cosine"),
        batch_size=64,
        num_images=520_000,
        ema_images=10_000,
        checkpoint_images=40_000,
        preview_images=40_000,
    )
    return _smoke(config) if smoke else config


def upsampler_256(smoke: bool = False) -> TrainConfig:
    """A convolutional U-Net 32 to 256 px on 64 px crops.

    `unclip train emoji/upsampler_256 --out runs/emoji/upsampler_256`; needs no other stage;
    90,000 crops in 15 minutes, loss 0.0125.
    """
    model = UpsamplerConfig(
        image_size=256,
        low_res_size=32,
        base_channels=32 if smoke else 64,
        channel_mult=(1, 2),
        num_res_blocks=1,
        patch_size=4,
        prediction_type="x0",
        noise_conditioning=True,
    )
    config = TrainConfig(
        name="emoji/upsampler_256",
        task=UpsamplerTaskConfig(model=model, crop_size=64, weighting="uniform"),
        data=_data(smoke),
        optimizer=OptimizerConfig(learning_rate=1e-3, weight_decay=0.01, warmup_images=4_000, decay="cosine"),
        batch_size=64,
        num_images=90_000,
        ema_images=5_000,
        checkpoint_images=30_000,
        preview_images=30_000,
    )
    return _smoke(config) if smoke else config


def upsampler_1024(smoke: bool = False) -> TrainConfig:
    """A convolutional U-Net 256 to 1024 px on 128 px crops, that couples pixels by convolutions alone.

    `unclip train emoji/upsampler_1024 --out runs/emoji/upsampler_1024`; needs no other stage, and rasterises every
    seventh picture at 1024 px (6 GB of cache). 88 GFLOP at 1024 px. 30,000 crops in 52 minutes, loss 0.0022.
    """
    model = UpsamplerConfig(
        image_size=1024,
        low_res_size=256,
        base_channels=32 if smoke else 48,
        channel_mult=(1, 2),
        num_res_blocks=1,
        patch_size=4,
        prediction_type="x0",
        schedule="linear",
        norm="pixel",
        residual=True,
        noise_conditioning=True,
    )
    config = TrainConfig(
        name="emoji/upsampler_1024",
        task=UpsamplerTaskConfig(
            model=model, crop_size=32 if smoke else 128, degradation="bsr", max_augmentation=0.1, weighting="uniform"
        ),
        data=_data(smoke, size=1024, every=7),
        optimizer=OptimizerConfig(learning_rate=1e-3, weight_decay=0.01, warmup_images=2_000, decay="cosine"),
        batch_size=32,
        num_images=30_000,
        ema_images=2_000,
        checkpoint_images=5_000,
        preview_images=10_000,
    )
    return _smoke(config) if smoke else config
