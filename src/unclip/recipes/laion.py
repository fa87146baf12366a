"""LAION's prior and decoder, trained once with DALLE2-pytorch, in our networks. Knows settings only.

Data: 100 million pictures of LAION-5B, or another share of it, by img2dataset at 256 px (at 1024 px for the last stage)
into `data/laion/shards-*`, embedded by `unclip embed --hidden` with OpenAI's CLIP ViT-L/14. Times are planned by
`unclip plan` at 40 % of the GPU's peak, not measured; expected figures are those of the literature. Batch sizes and
lengths that name no source are ours.
"""

from pathlib import Path

from unclip.models import DecoderConfig, PriorConfig, UpsamplerConfig, upsampler_preset
from unclip.recipes.large import TEXT_WIDTH, VIT_L_14, ema_images, streamed
from unclip.recipes.smoke import shrink
from unclip.training import DecoderTaskConfig, OptimizerConfig, PriorTaskConfig, TrainConfig, UpsamplerTaskConfig

NUM_PICTURES = 100_000_000
CLIP = Path("models/vit-l-14")


def prior(smoke: bool = False) -> TrainConfig:
    """The prior of DALLE2-pytorch's prior.md: 24 blocks, about 0.25B parameters, a billion samples.

    `unclip train laion/prior --out runs/laion/prior`.
    Planned: 64 x h100, 1.3 hours.
    Its 32 heads of 64 on a width of 768 have no equal here; 14 of 64 on 896 have as many parameters. Learning rate,
    decay, clipping and dropout are its own. Expected (prior.md): a held-out error near 0.1 after a billion samples, a
    cosine of 0.75 between predicted and real embeddings, where texts and pictures have 0.3.
    """
    model = PriorConfig(
        embedding_dim=VIT_L_14, text_dim=TEXT_WIDTH, num_text_tokens=77, width=896, depth=24, num_heads=14, dropout=0.05
    )
    config = TrainConfig(
        name="laion/prior",
        task=PriorTaskConfig(model=model, clip=CLIP),
        data=streamed("data/laion", 256),
        optimizer=OptimizerConfig(
            learning_rate=1.1e-4, betas=(0.9, 0.99), weight_decay=6.02e-2, warmup_images=200_000, max_grad_norm=0.5
        ),
        batch_size=4096,
        micro_batch_size=64,
        num_images=1_000_000_000,
        ema_images=ema_images(0.9999, 4096),
        checkpoint_images=20_000_000,
        preview_images=20_000_000,
        validation_images=10_000_000,
    )
    return shrink(config) if smoke else config


def decoder(smoke: bool = False) -> TrainConfig:
    """The text-conditioned 64 px decoder of 1.5B: four residual blocks a level.

    `unclip train laion/decoder --out runs/laion/decoder`.
    Planned: 64 x h100, 28.5 hours.
    LAION's has 320 channels and blocks of another kind; 384 of ours have its number of parameters. Expected: no FID of
    it was published; its samples were drawn at a guidance of 1.7.
    """
    model = DecoderConfig(
        image_size=64,
        embedding_dim=VIT_L_14,
        text_dim=TEXT_WIDTH,
        base_channels=384,
        channel_mult=(1, 2, 3, 4),
        num_res_blocks=4,
        attention_resolutions=(32, 16, 8),
        context_dim=1536,
    )
    config = TrainConfig(
        name="laion/decoder",
        task=DecoderTaskConfig(model=model, clip=CLIP),
        data=streamed("data/laion", 256),
        optimizer=OptimizerConfig(learning_rate=1.2e-4, betas=(0.9, 0.999)),
        batch_size=2048,
        micro_batch_size=16,
        num_images=400_000 * 2048,
        ema_images=ema_images(0.9999, 2048),
        strategy="fsdp_zero2",
        checkpoint_images=20_000_000,
        preview_images=10_000_000,
        validation_images=10_000_000,
    )
    return shrink(config) if smoke else config


def upsampler_256(smoke: bool = False) -> TrainConfig:
    """64 to 256 px in Karlo's shape, told how noisy its input is, on crops damaged as in BSRGAN.

    `unclip train laion/upsampler_256 --out runs/laion/upsampler_256`; reads no embeddings.
    Planned: 64 x h100, 5.4 hours.
    Expected: no published figures.
    """
    model = upsampler_preset("karlo").replace(noise_conditioning=True)
    return _upsampler("laion/upsampler_256", model, 64, 256, smoke)


def upsampler_1024(smoke: bool = False) -> TrainConfig:
    """256 to 1024 px in the shape of the reference preset: blocks of 4 x 4 pixels, x0, told how noisy its input is.

    `unclip train laion/upsampler_1024 --out runs/laion/upsampler_1024`; reads no embeddings.
    Planned: 64 x h100, 48.2 minutes.
    Expected: no published figures.
    """
    return _upsampler("laion/upsampler_1024", upsampler_preset("reference"), 256, 1024, smoke)


def _upsampler(name: str, model: UpsamplerConfig, crop_size: int, source_size: int, smoke: bool) -> TrainConfig:
    config = TrainConfig(
        name=name,
        task=UpsamplerTaskConfig(model=model, crop_size=crop_size, degradation="bsr"),
        data=streamed("data/laion", source_size, embeddings=False),
        optimizer=OptimizerConfig(learning_rate=1.2e-4, betas=(0.9, 0.999), weight_decay=0.0),
        batch_size=1024,
        micro_batch_size=32,
        num_images=300_000 * 1024,
        ema_images=ema_images(0.9999, 1024),
        checkpoint_images=10_000_000,
        preview_images=5_000_000,
        validation_images=5_000_000,
    )
    return shrink(config) if smoke else config
