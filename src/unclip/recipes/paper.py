"""DALL-E 2 as published (arXiv 2204.06125, table 3). Knows settings only.

Shapes, batch sizes, steps, learning rates, betas, decay and averages are the table's. Data: 250 million captioned
pictures, which were never released; CLIP saw 650 million. Any set of that size serves: shards by img2dataset in
`data/paper/shards-*`, embedded by `unclip embed --hidden` with the CLIP that `paper/clip` trains. Times are planned by
`unclip plan` at 40 % of the GPU's peak, not measured. Expected of the whole model: a COCO FID of 10.39 (table 1) with
decoder guidance 1.25 and 64, 250, 27 and 15 steps.
"""

from pathlib import Path

from unclip.clip import clip_preset
from unclip.models import UpsamplerConfig, decoder_preset, prior_preset, upsampler_preset
from unclip.recipes.large import ema_images, streamed
from unclip.recipes.smoke import shrink
from unclip.training import (
    ClipTaskConfig,
    DecoderTaskConfig,
    OptimizerConfig,
    PriorTaskConfig,
    TrainConfig,
    UpsamplerTaskConfig,
)

NUM_PICTURES = 250_000_000
CLIP = Path("runs/paper/clip")


def clip(smoke: bool = False) -> TrainConfig:
    """CLIP of the paper's appendix C: ViT-H/16 at 256 px, text of 24 blocks and 256 tokens.

    `unclip train paper/clip --out runs/paper/clip`.
    Planned: 256 x a100, 9.2 days.
    Batch, rates and decay are those of the first CLIP (arXiv 2103.00020, table 19), since the paper gives none; so is
    the number of samples, 32 times 400 million. Texts and pictures are told apart within what one GPU holds, where
    that CLIP compares the whole batch. Expected: no figures were published for this CLIP.
    """
    config = TrainConfig(
        name="paper/clip",
        task=ClipTaskConfig(model=clip_preset("vit-h-16"), max_shift=0.0, max_rotation=0.0, degrade_prob=0.0),
        data=streamed("data/paper", 256, embeddings=False),
        optimizer=OptimizerConfig(
            learning_rate=4e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.2, warmup_images=2_000 * 32_768,
            decay="cosine",
        ),
        batch_size=32_768,
        num_images=32 * 400_000_000,
        activation_checkpointing=True,
        strategy="fsdp_zero2",
        checkpoint_images=100_000_000,
        preview_images=100_000_000,
        validation_images=100_000_000,
    )  # fmt: skip
    return shrink(config) if smoke else config


def prior(smoke: bool = False) -> TrainConfig:
    """The diffusion prior of 1B: 24 blocks of 2048 over 256 text tokens.

    `unclip train paper/prior --out runs/paper/prior`, after `paper/clip`.
    Planned: 256 x a100, 2.3 days.
    Expected: see the module.
    """
    config = TrainConfig(
        name="paper/prior",
        task=PriorTaskConfig(model=prior_preset("dalle2-paper"), clip=CLIP),
        data=streamed("data/paper", 256),
        optimizer=OptimizerConfig(learning_rate=1.1e-4, betas=(0.9, 0.96), eps=1e-6, weight_decay=6e-2),
        batch_size=4096,
        micro_batch_size=16,
        num_images=600_000 * 4096,
        ema_images=ema_images(0.9999, 4096),
        activation_checkpointing=True,
        checkpoint_images=50_000_000,
        preview_images=50_000_000,
        validation_images=50_000_000,
    )
    return shrink(config) if smoke else config


def decoder(smoke: bool = False) -> TrainConfig:
    """The decoder of 3.5B at 64 px: a U-Net of 512 channels and a text transformer of 24 blocks.

    `unclip train paper/decoder --out runs/paper/decoder`, after `paper/clip`.
    Planned: 256 x a100, 4.0 days.
    Expected: see the module.
    """
    config = TrainConfig(
        name="paper/decoder",
        task=DecoderTaskConfig(model=decoder_preset("dalle2-paper"), clip=CLIP, weighting="uniform"),
        data=streamed("data/paper", 256),
        optimizer=OptimizerConfig(learning_rate=1.2e-4, betas=(0.9, 0.999), weight_decay=0.0),
        batch_size=2048,
        micro_batch_size=8,
        num_images=800_000 * 2048,
        ema_images=ema_images(0.9999, 2048),
        strategy="fsdp",
        checkpoint_images=50_000_000,
        preview_images=20_000_000,
        validation_images=20_000_000,
    )
    return shrink(config) if smoke else config


def upsampler_256(smoke: bool = False) -> TrainConfig:
    """64 to 256 px, 700M, on crops of a quarter of the side; its small pictures are blurred.

    `unclip train paper/upsampler_256 --out runs/paper/upsampler_256`; reads no embeddings.
    Planned: 256 x a100, 14.2 hours.
    Expected: see the module.
    """
    model = upsampler_preset("dalle2-paper-256")
    return _upsampler("paper/upsampler_256", model, 1024, 1.2e-4, smoke)


def upsampler_1024(smoke: bool = False) -> TrainConfig:
    """256 to 1024 px, 300M, on crops of a quarter of the side; its small pictures are damaged as in BSRGAN.

    `unclip train paper/upsampler_1024 --out runs/paper/upsampler_1024`; reads no embeddings.
    Planned: 256 x a100, 16.6 hours.
    Expected: see the module.
    """
    model = upsampler_preset("dalle2-paper-1024")
    return _upsampler("paper/upsampler_1024", model, 512, 1e-4, smoke)


def _upsampler(name: str, model: UpsamplerConfig, batch_size: int, learning_rate: float, smoke: bool) -> TrainConfig:
    task = UpsamplerTaskConfig(
        model=model,
        crop_size=model.image_size // 4,
        degradation="bsr" if model.image_size == 1024 else "blur",
        max_augmentation=0.0,
        weighting="uniform",
    )
    config = TrainConfig(
        name=name,
        task=task,
        data=streamed("data/paper", model.image_size, embeddings=False),
        optimizer=OptimizerConfig(learning_rate=learning_rate, betas=(0.9, 0.999), weight_decay=0.0),
        batch_size=batch_size,
        micro_batch_size=8,
        num_images=1_000_000 * batch_size,
        ema_images=ema_images(0.9999, batch_size),
        checkpoint_images=20_000_000,
        preview_images=10_000_000,
        validation_images=10_000_000,
    )
    return shrink(config) if smoke else config
