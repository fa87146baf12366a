"""Karlo v1.0.alpha's networks, trained as far as its authors said how. Knows settings only.

Data: 115 million pictures (COYO-100M's best, CC3M, CC12M) by img2dataset at 256 px into `data/karlo/shards-256`,
embedded by `unclip embed --hidden` with OpenAI's CLIP ViT-L/14. Published are the shapes, the data and the steps: a
million for each stage. Batch sizes are not, so those of DALL-E 2 are halved; learning rates are DALL-E 2's. Times are
planned by `unclip plan` at 40 % of the GPU's peak, not measured. Expected of the whole model (its README): a COCO FID
of 14.43 and a CLIP score (ViT-B/16) of 31.92 in 25, 50 and 7 steps, with guidance 4 and 8.
"""

from pathlib import Path

from unclip.models import decoder_preset, prior_preset, upsampler_preset
from unclip.recipes.large import ema_images, streamed
from unclip.recipes.smoke import shrink
from unclip.training import DecoderTaskConfig, OptimizerConfig, PriorTaskConfig, TrainConfig, UpsamplerTaskConfig

NUM_PICTURES = 115_000_000
NUM_STEPS = 1_000_000
CLIP = Path("models/vit-l-14")


def prior(smoke: bool = False) -> TrainConfig:
    """The prior of 1B: twenty blocks of 2048.

    `unclip train karlo/prior --out runs/karlo/prior`.
    Planned: 64 x a100, 35.1 hours.
    Expected: see the module; T2I-CompBench colour 0.513 (ECLIPSE, arXiv 2312.04655, table 1).
    """
    config = TrainConfig(
        name="karlo/prior",
        task=PriorTaskConfig(model=prior_preset("karlo"), clip=CLIP),
        data=streamed("data/karlo", 256),
        optimizer=OptimizerConfig(learning_rate=1.1e-4, betas=(0.9, 0.96), eps=1e-6, weight_decay=6e-2),
        batch_size=2048,
        micro_batch_size=32,
        num_images=NUM_STEPS * 2048,
        ema_images=ema_images(0.9999, 2048),
        checkpoint_images=20_000_000,
        preview_images=20_000_000,
        validation_images=20_000_000,
    )
    return shrink(config) if smoke else config


def decoder(smoke: bool = False) -> TrainConfig:
    """The decoder of 900M at 64 px, whose text is read by CLIP's own states.

    `unclip train karlo/decoder --out runs/karlo/decoder`.
    Planned: 64 x a100, 2.7 days.
    Expected: see the module.
    """
    config = TrainConfig(
        name="karlo/decoder",
        task=DecoderTaskConfig(model=decoder_preset("karlo"), clip=CLIP, weighting="uniform"),
        data=streamed("data/karlo", 256),
        optimizer=OptimizerConfig(learning_rate=1.2e-4, betas=(0.9, 0.999), weight_decay=0.0),
        batch_size=1024,
        micro_batch_size=16,
        num_images=NUM_STEPS * 1024,
        ema_images=ema_images(0.9999, 1024),
        checkpoint_images=10_000_000,
        preview_images=10_000_000,
        validation_images=10_000_000,
    )
    return shrink(config) if smoke else config


def upsampler_256(smoke: bool = False) -> TrainConfig:
    """The first of the two upsamplers of 700M, trained by the diffusion loss alone on 64 px crops.

    `unclip train karlo/upsampler_256 --out runs/karlo/upsampler_256`; reads no embeddings. Karlo tunes a copy for the
    last of seven steps with an adversarial loss (234,000 steps), which has no counterpart here.
    Planned: 64 x a100, 28.4 hours.
    Expected: see the module.
    """
    config = TrainConfig(
        name="karlo/upsampler_256",
        task=UpsamplerTaskConfig(
            model=upsampler_preset("karlo"), crop_size=64, max_augmentation=0.0, weighting="uniform"
        ),
        data=streamed("data/karlo", 256, embeddings=False),
        optimizer=OptimizerConfig(learning_rate=1.2e-4, betas=(0.9, 0.999), weight_decay=0.0),
        batch_size=512,
        micro_batch_size=32,
        num_images=NUM_STEPS * 512,
        ema_images=ema_images(0.9999, 512),
        checkpoint_images=10_000_000,
        preview_images=5_000_000,
        validation_images=5_000_000,
    )
    return shrink(config) if smoke else config
