"""A small model on Conceptual Captions, for a few GPUs. Knows settings only.

Data: Conceptual Captions 3M (2.9 million pictures were still there in 2023), fetched by img2dataset at 256 px into
`data/cc3m/shards-256`, then `unclip embed data/cc3m/shards-256 --hidden -o data/cc3m/embeddings` with OpenAI's CLIP
ViT-L/14, which stays frozen. Times are planned by `unclip plan` at 40 % of the GPU's peak, not measured; expected
figures are those of the literature. Shapes, batches and lengths that name no source are ours.
"""

from pathlib import Path

from unclip.models import DecoderConfig, PriorConfig, UpsamplerConfig
from unclip.recipes.large import TEXT_WIDTH, VIT_L_14, ema_images, streamed
from unclip.recipes.smoke import shrink
from unclip.training import DecoderTaskConfig, OptimizerConfig, PriorTaskConfig, TrainConfig, UpsamplerTaskConfig

NUM_PICTURES = 2_900_000
DATA = streamed("data/cc3m", 256)
CLIP = Path("models/vit-l-14")


def prior(smoke: bool = False) -> TrainConfig:
    """33M parameters, ten blocks of 512: the size at which ECLIPSE compares kinds of priors.

    `unclip train cc3m/prior --out runs/cc3m/prior`.
    Planned: 4 x a100, 32.6 minutes.
    Expected: the diffusion prior of that size on CC12M, drawn by Karlo's decoder, reached a COCO FID of 26.13 and 0.539
    for colour in T2I-CompBench (ECLIPSE, arXiv 2312.04655, ablation); Karlo's own of 1B 20.64 and 0.513.
    """
    model = PriorConfig(
        embedding_dim=VIT_L_14, text_dim=TEXT_WIDTH, num_text_tokens=77, width=512, depth=10, num_heads=8
    )
    config = TrainConfig(
        name="cc3m/prior",
        task=PriorTaskConfig(model=model, clip=CLIP),
        data=DATA,
        optimizer=OptimizerConfig(learning_rate=2e-4, betas=(0.9, 0.98), weight_decay=0.06, decay="cosine"),
        batch_size=1024,
        num_images=60_000 * 1024,
        ema_images=ema_images(0.9999, 1024),
        checkpoint_images=2_000_000,
        preview_images=2_000_000,
        validation_images=1_000_000,
    )
    return shrink(config) if smoke else config


def decoder(smoke: bool = False) -> TrainConfig:
    """A U-Net of Karlo's depth and 0.6 of its width at 64 px, conditioned on the image embedding alone.

    `unclip train cc3m/decoder --out runs/cc3m/decoder`.
    Planned: 4 x a100, 2.3 days.
    Expected: no published decoder is of this size. Above it stands Karlo with 893M and 115M pictures: FID 13.95 and a
    CLIP score of 30.86 on CC3M's validation set (its README, as 0.3086), for the whole model.
    """
    model = DecoderConfig(
        image_size=64,
        embedding_dim=VIT_L_14,
        base_channels=192,
        channel_mult=(1, 2, 3, 4),
        num_res_blocks=3,
        attention_resolutions=(32, 16, 8),
        context_dim=768,
        dropout=0.1,
    )
    config = TrainConfig(
        name="cc3m/decoder",
        task=DecoderTaskConfig(model=model, clip=CLIP),
        data=DATA,
        optimizer=OptimizerConfig(learning_rate=1.2e-4, betas=(0.9, 0.999), weight_decay=0.0),
        batch_size=512,
        micro_batch_size=64,
        num_images=300_000 * 512,
        ema_images=ema_images(0.9999, 512),
        checkpoint_images=2_000_000,
        preview_images=1_000_000,
        validation_images=1_000_000,
    )
    return shrink(config) if smoke else config


def upsampler_256(smoke: bool = False) -> TrainConfig:
    """64 to 256 px on 64 px crops, at 0.4 of Karlo's width; told how noisy its input is.

    `unclip train cc3m/upsampler_256 --out runs/cc3m/upsampler_256`; reads no embeddings.
    Planned: 4 x a100, 11.5 hours.
    Expected: no published figures at this size.
    """
    model = UpsamplerConfig(
        image_size=256,
        low_res_size=64,
        base_channels=128,
        channel_mult=(1, 2, 3, 4),
        num_res_blocks=2,
        noise_conditioning=True,
    )
    config = TrainConfig(
        name="cc3m/upsampler_256",
        task=UpsamplerTaskConfig(model=model, crop_size=64),
        data=streamed("data/cc3m", 256, embeddings=False),
        optimizer=OptimizerConfig(learning_rate=1.2e-4, betas=(0.9, 0.999), weight_decay=0.0),
        batch_size=512,
        num_images=200_000 * 512,
        ema_images=ema_images(0.9999, 512),
        checkpoint_images=2_000_000,
        preview_images=1_000_000,
        validation_images=1_000_000,
    )
    return shrink(config) if smoke else config
