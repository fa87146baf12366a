"""Recipes for large data sets: DALL-E 2 as published, Karlo, LAION's DALL-E 2, and a small model on CC3M.

Times are planned by `unclip plan` at 40 % of the GPU's peak, not measured; expected figures are the literature's.
Pictures are fetched by img2dataset into `data/SERIES/shards-SIZE` at 256 px (at 1024 px for the last stage), and
embedded by `unclip embed --hidden` into `data/SERIES/embeddings`.

* `cc3m`, for a few GPUs: Conceptual Captions 3M, of which 2.9 million pictures were still online in 2023, embedded with
  OpenAI's CLIP ViT-L/14, which stays frozen. Shapes, batches and lengths that name no source are unclip's own.
* `laion`: LAION's prior and decoder, trained once with DALLE2-pytorch, in unclip's networks. 100 million pictures of
  LAION-5B, or another share of it, embedded with OpenAI's CLIP ViT-L/14. Batch sizes and lengths that name no source
  are unclip's own.
* `karlo`: Karlo v1.0.alpha, as far as its authors describe its training. 115 million pictures (COYO-100M's best, CC3M,
  CC12M), embedded with OpenAI's CLIP ViT-L/14. Published are the shapes, the data and the steps: a million for each
  stage. Batch sizes are not, so those of DALL-E 2 are halved; learning rates are DALL-E 2's. Expected of the whole
  model (its README): a COCO FID of 14.43 and a CLIP score (ViT-B/16) of 31.92 in 25, 50 and 7 steps, with guidance 4
  and 8.
* `paper`: DALL-E 2 (arXiv 2204.06125, table 3, which gives shapes, batch sizes, steps, learning rates, betas, decay and
  averages). Its 250 million captioned pictures were never released, nor the 650 million that CLIP saw; any set of that
  size serves, embedded with the CLIP that `paper/clip` trains. Expected of the whole model: a COCO FID of 10.39
  (table 1) with decoder guidance 1.25 and 64, 250, 27 and 15 steps.
"""

import math
from pathlib import Path
from typing import NamedTuple

from unclip.clip import clip_preset
from unclip.models import decoder_preset, prior_preset, upsampler_preset
from unclip.training import (
    ClipTaskConfig,
    DataConfig,
    DecoderTaskConfig,
    OptimizerConfig,
    PriorTaskConfig,
    TrainConfig,
    UpsamplerTaskConfig,
)
from unclip.training.config import TaskConfig

NUM_PICTURES = {"cc3m": 2_900_000, "laion": 100_000_000, "karlo": 115_000_000, "paper": 250_000_000}
"""Pictures of each series' data set."""
VIT_L_14 = Path("models/vit-l-14")
PAPER_CLIP = Path("runs/paper/clip")
# The paper's optimiser of the prior, and of everything that draws pixels.
PRIOR_ADAM = OptimizerConfig(learning_rate=1.1e-4, betas=(0.9, 0.96), eps=1e-6, weight_decay=6e-2)
PIXEL_ADAM = OptimizerConfig(learning_rate=1.2e-4, betas=(0.9, 0.999), weight_decay=0.0)


class _Length(NamedTuple):
    """How long a recipe trains, in images, and in which batches."""

    num_images: int
    batch_size: int
    micro_batch_size: int | None
    checkpoint_images: int
    preview_images: int
    validation_images: int


_M = 1_000_000
_LENGTHS = {
    "cc3m/prior": _Length(60_000 * 1024, 1024, None, 2 * _M, 2 * _M, 1 * _M),
    "cc3m/decoder": _Length(300_000 * 512, 512, 64, 2 * _M, 1 * _M, 1 * _M),
    "cc3m/upsampler_256": _Length(200_000 * 512, 512, None, 2 * _M, 1 * _M, 1 * _M),
    "laion/prior": _Length(1_000_000_000, 4096, 64, 20 * _M, 20 * _M, 10 * _M),
    "laion/decoder": _Length(400_000 * 2048, 2048, 16, 20 * _M, 10 * _M, 10 * _M),
    "laion/upsampler_256": _Length(300_000 * 1024, 1024, 32, 10 * _M, 5 * _M, 5 * _M),
    "laion/upsampler_1024": _Length(300_000 * 1024, 1024, 32, 10 * _M, 5 * _M, 5 * _M),
    "karlo/prior": _Length(1_000_000 * 2048, 2048, 32, 20 * _M, 20 * _M, 20 * _M),
    "karlo/decoder": _Length(1_000_000 * 1024, 1024, 16, 10 * _M, 10 * _M, 10 * _M),
    "karlo/upsampler_256": _Length(1_000_000 * 512, 512, 32, 10 * _M, 5 * _M, 5 * _M),
    "paper/clip": _Length(32 * 400_000_000, 32_768, None, 100 * _M, 100 * _M, 100 * _M),
    "paper/prior": _Length(600_000 * 4096, 4096, 16, 50 * _M, 50 * _M, 50 * _M),
    "paper/decoder": _Length(800_000 * 2048, 2048, 8, 50 * _M, 20 * _M, 20 * _M),
    "paper/upsampler_256": _Length(1_000_000 * 1024, 1024, 8, 20 * _M, 10 * _M, 10 * _M),
    "paper/upsampler_1024": _Length(1_000_000 * 512, 512, 8, 20 * _M, 10 * _M, 10 * _M),
}


def cc3m_prior() -> TrainConfig:
    """33M parameters, ten blocks of 512: the size at which ECLIPSE compares kinds of priors.

    `unclip train cc3m/prior --out runs/cc3m/prior`.
    Planned: 4 x a100, 32.6 minutes.
    Expected: the diffusion prior of that size on CC12M, with Karlo's decoder, reached a COCO FID of 26.13 and 0.539
    for colour in T2I-CompBench (ECLIPSE, arXiv 2312.04655, ablation); Karlo's own of 1B 20.64 and 0.513.
    """
    model = prior_preset("karlo").replace(text_dim=768, width=512, depth=10, num_heads=8)
    optimizer = OptimizerConfig(learning_rate=2e-4, betas=(0.9, 0.98), weight_decay=0.06, decay="cosine")
    return _run("cc3m/prior", PriorTaskConfig(model=model, clip=VIT_L_14), optimizer)


def cc3m_decoder() -> TrainConfig:
    """A U-Net of Karlo's depth and 0.6 of its width at 64 px, conditioned on the image embedding alone.

    `unclip train cc3m/decoder --out runs/cc3m/decoder`.
    Planned: 4 x a100, 2.3 days.
    Expected: no published decoder is of this size. Above it stands Karlo with 893M and 115M pictures: FID 13.95 and a
    CLIP score of 30.86 on CC3M's validation set (its README, as 0.3086), for the whole model.
    """
    model = decoder_preset("karlo").replace(base_channels=192, text_dim=0, context_dim=768)
    return _run("cc3m/decoder", DecoderTaskConfig(model=model, clip=VIT_L_14), PIXEL_ADAM)


def cc3m_upsampler_256() -> TrainConfig:
    """64 to 256 px on 64 px crops, at 0.4 of Karlo's width, with noise conditioning.

    `unclip train cc3m/upsampler_256 --out runs/cc3m/upsampler_256`; reads no embeddings.
    Planned: 4 x a100, 11.5 hours.
    Expected: no published figures at this size.
    """
    model = upsampler_preset("karlo").replace(base_channels=128, num_res_blocks=2, noise_conditioning=True)
    return _run("cc3m/upsampler_256", UpsamplerTaskConfig(model=model, crop_size=64), PIXEL_ADAM)


def laion_prior() -> TrainConfig:
    """The prior of DALLE2-pytorch's prior.md: 24 blocks, about 0.25B parameters, a billion samples.

    `unclip train laion/prior --out runs/laion/prior`.
    Planned: 64 x h100, 1.3 hours.
    Its 32 heads of 64 on a width of 768 are not possible here; 14 of 64 on 896 have as many parameters. Learning rate,
    decay, clipping and dropout are its own. Expected (prior.md): a held-out error near 0.1 after a billion samples, a
    cosine of 0.75 between predicted and real embeddings, where texts and pictures have 0.3.
    """
    model = prior_preset("karlo").replace(text_dim=768, width=896, depth=24, num_heads=14, dropout=0.05)
    optimizer = OptimizerConfig(
        learning_rate=1.1e-4, betas=(0.9, 0.99), weight_decay=6.02e-2, warmup_images=200_000, max_grad_norm=0.5
    )
    return _run("laion/prior", PriorTaskConfig(model=model, clip=VIT_L_14), optimizer)


def laion_decoder() -> TrainConfig:
    """The text-conditioned 64 px decoder of 1.5B: four residual blocks a level.

    `unclip train laion/decoder --out runs/laion/decoder`.
    Planned: 64 x h100, 28.5 hours.
    LAION's has 320 channels and other blocks; 384 channels of these have its number of parameters. Expected: no FID of
    it was published; its samples were drawn at a guidance of 1.7.
    """
    model = decoder_preset("karlo").replace(base_channels=384, num_res_blocks=4, dropout=0.0)
    optimizer = OptimizerConfig(learning_rate=1.2e-4, betas=(0.9, 0.999))
    return _run("laion/decoder", DecoderTaskConfig(model=model, clip=VIT_L_14), optimizer).replace(
        strategy="fsdp_zero2"
    )


def laion_upsampler_256() -> TrainConfig:
    """64 to 256 px in Karlo's shape with noise conditioning, on crops damaged as in BSRGAN.

    `unclip train laion/upsampler_256 --out runs/laion/upsampler_256`; reads no embeddings.
    Planned: 64 x h100, 5.4 hours.
    Expected: no published figures.
    """
    model = upsampler_preset("karlo").replace(noise_conditioning=True)
    task = UpsamplerTaskConfig(model=model, crop_size=64, degradation="bsr")
    return _run("laion/upsampler_256", task, PIXEL_ADAM)


def laion_upsampler_1024() -> TrainConfig:
    """256 to 1024 px in the shape of the reference preset: blocks of 4 x 4 pixels, x0, noise conditioning.

    `unclip train laion/upsampler_1024 --out runs/laion/upsampler_1024`; reads no embeddings.
    Planned: 64 x h100, 48.2 minutes.
    Expected: no published figures.
    """
    task = UpsamplerTaskConfig(model=upsampler_preset("reference"), crop_size=256, degradation="bsr")
    return _run("laion/upsampler_1024", task, PIXEL_ADAM)


def karlo_prior() -> TrainConfig:
    """The prior of 1B: twenty blocks of 2048.

    `unclip train karlo/prior --out runs/karlo/prior`.
    Planned: 64 x a100, 35.1 hours.
    Expected: see the module; T2I-CompBench colour 0.513 (ECLIPSE, arXiv 2312.04655, table 1).
    """
    task = PriorTaskConfig(model=prior_preset("karlo"), clip=VIT_L_14)
    return _run("karlo/prior", task, PRIOR_ADAM)


def karlo_decoder() -> TrainConfig:
    """The decoder of 900M at 64 px, which reads CLIP's own text states.

    `unclip train karlo/decoder --out runs/karlo/decoder`.
    Planned: 64 x a100, 2.7 days.
    Expected: see the module.
    """
    task = DecoderTaskConfig(model=decoder_preset("karlo"), clip=VIT_L_14, weighting="uniform")
    return _run("karlo/decoder", task, PIXEL_ADAM)


def karlo_upsampler_256() -> TrainConfig:
    """The first of the two upsamplers of 700M, trained by the diffusion loss alone on 64 px crops.

    `unclip train karlo/upsampler_256 --out runs/karlo/upsampler_256`; reads no embeddings. Karlo tunes a copy for the
    last of seven steps with an adversarial loss (234,000 steps), which unclip does not have.
    Planned: 64 x a100, 28.4 hours.
    Expected: see the module.
    """
    task = UpsamplerTaskConfig(model=upsampler_preset("karlo"), crop_size=64, max_augmentation=0.0, weighting="uniform")
    return _run("karlo/upsampler_256", task, PIXEL_ADAM)


def paper_clip() -> TrainConfig:
    """CLIP of the paper's appendix C: ViT-H/16 at 256 px, text of 24 blocks and 256 tokens.

    `unclip train paper/clip --out runs/paper/clip`.
    Planned: 256 x a100, 9.2 days.
    Batch, rates and decay are those of the first CLIP (arXiv 2103.00020, table 19), since the paper gives none; so is
    the number of samples, 32 times 400 million. The loss compares the texts and pictures that one GPU holds, where that
    CLIP compares the whole batch. Expected: no figures were published for this CLIP.
    """
    task = ClipTaskConfig(model=clip_preset("vit-h-16"), max_shift=0.0, max_rotation=0.0, degrade_prob=0.0)
    optimizer = OptimizerConfig(
        learning_rate=4e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.2, warmup_images=2_000 * 32_768, decay="cosine"
    )
    config = _run("paper/clip", task, optimizer)
    return config.replace(ema_images=50_000, activation_checkpointing=True, strategy="fsdp_zero2")


def paper_prior() -> TrainConfig:
    """The diffusion prior of 1B: 24 blocks of 2048 over 256 text tokens.

    `unclip train paper/prior --out runs/paper/prior`, after `paper/clip`.
    Planned: 256 x a100, 2.3 days.
    Expected: see the module.
    """
    task = PriorTaskConfig(model=prior_preset("dalle2-paper"), clip=PAPER_CLIP)
    return _run("paper/prior", task, PRIOR_ADAM).replace(activation_checkpointing=True)


def paper_decoder() -> TrainConfig:
    """The decoder of 3.5B at 64 px: a U-Net of 512 channels and a text transformer of 24 blocks.

    `unclip train paper/decoder --out runs/paper/decoder`, after `paper/clip`.
    Planned: 256 x a100, 4.0 days.
    Expected: see the module.
    """
    task = DecoderTaskConfig(model=decoder_preset("dalle2-paper"), clip=PAPER_CLIP, weighting="uniform")
    return _run("paper/decoder", task, PIXEL_ADAM).replace(strategy="fsdp")


def paper_upsampler_256() -> TrainConfig:
    """64 to 256 px, 700M, on crops of a quarter of the side; its small pictures are blurred.

    `unclip train paper/upsampler_256 --out runs/paper/upsampler_256`; reads no embeddings.
    Planned: 256 x a100, 14.2 hours.
    Expected: see the module.
    """
    model = upsampler_preset("dalle2-paper-256")
    task = UpsamplerTaskConfig(model=model, crop_size=64, max_augmentation=0.0, weighting="uniform")
    return _run("paper/upsampler_256", task, PIXEL_ADAM)


def paper_upsampler_1024() -> TrainConfig:
    """256 to 1024 px, 300M, on crops of a quarter of the side; its small pictures are damaged as in BSRGAN.

    `unclip train paper/upsampler_1024 --out runs/paper/upsampler_1024`; reads no embeddings.
    Planned: 256 x a100, 16.6 hours.
    Expected: see the module.
    """
    model = upsampler_preset("dalle2-paper-1024")
    task = UpsamplerTaskConfig(model=model, crop_size=256, degradation="bsr", max_augmentation=0.0, weighting="uniform")
    return _run("paper/upsampler_1024", task, PIXEL_ADAM.replace(learning_rate=1e-4))


PUBLISHED = {
    "cc3m/prior": cc3m_prior,
    "cc3m/decoder": cc3m_decoder,
    "cc3m/upsampler_256": cc3m_upsampler_256,
    "laion/prior": laion_prior,
    "laion/decoder": laion_decoder,
    "laion/upsampler_256": laion_upsampler_256,
    "laion/upsampler_1024": laion_upsampler_1024,
    "karlo/prior": karlo_prior,
    "karlo/decoder": karlo_decoder,
    "karlo/upsampler_256": karlo_upsampler_256,
    "paper/clip": paper_clip,
    "paper/prior": paper_prior,
    "paper/decoder": paper_decoder,
    "paper/upsampler_256": paper_upsampler_256,
    "paper/upsampler_1024": paper_upsampler_1024,
}


def _run(name: str, task: TaskConfig, optimizer: OptimizerConfig) -> TrainConfig:
    """Share among the recipes: shards decoded as they are read, stored CLIP features, an average of 0.9999 a step.

    The decoded pictures of such a set fit no disk cache. 64 lanes divide among any number of GPUs that is a power of
    two up to 64, so that each reads its own shards.
    """
    folder, length = f"data/{name.split('/')[0]}", _LENGTHS[name]
    source_size = task.model.image_size if isinstance(task, UpsamplerTaskConfig) else 256
    data = DataConfig(
        folder=f"{folder}/shards-{source_size}",
        source_size=source_size,
        embeddings=f"{folder}/embeddings" if isinstance(task, PriorTaskConfig | DecoderTaskConfig) else None,
        cache=False,
        shuffle_shards=256,
        lanes=64,
        num_workers=8,
        validation_share=0.0005,
    )
    return TrainConfig(
        name=name,
        task=task,
        data=data,
        optimizer=optimizer,
        ema_images=length.batch_size * math.log(0.5) / math.log(0.9999),
        **length._asdict(),
    )
