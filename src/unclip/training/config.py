"""What a training run is: a task, its data, its optimiser, its length. Knows no loop and no tensors."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from unclip.clip import ClipConfig
from unclip.config import Config
from unclip.models import DecoderConfig, PriorConfig, UpsamplerConfig

__all__ = [
    "ClipTaskConfig",
    "DataConfig",
    "DecoderTaskConfig",
    "OptimizerConfig",
    "PriorTaskConfig",
    "TaskConfig",
    "TrainConfig",
    "UpsamplerTaskConfig",
]

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Weighting = Literal["uniform", "min_snr"]


class DataConfig(Config):
    """Where the pictures are."""

    folder: Path
    """WebDataset shards (`key.png`, `key.txt`, `key.json`)."""
    emoji_split: Literal["train", "test"] | None = None
    """Rasterise this split of the emoji set into `folder` first when the folder is missing."""
    source_size: PositiveInt = 256
    """Pixels of a side of the pictures in the shards."""
    limit: PositiveInt | None = None
    """Rasterise only this many pictures."""
    every: PositiveInt = 1
    """Rasterise every n-th picture, which leaves the shares of designs and groups as they are."""


class ClipTaskConfig(Config):
    """Contrastive training of CLIP on pictures and captions."""

    kind: Literal["clip"] = "clip"
    model: ClipConfig
    max_shift: float = 0.1
    """Largest shift and scale change of the augmentation, as a share of the side."""
    max_rotation: float = 10.0
    """Largest rotation of the augmentation, in degrees."""
    degrade_prob: Probability = 0.5
    """Share of pictures shrunk to a random smaller size and back, so that blur does not change what CLIP sees."""


class PriorTaskConfig(Config):
    """Text features to image embeddings of a frozen CLIP."""

    kind: Literal["prior"] = "prior"
    model: PriorConfig
    clip: Path
    """Folder of the frozen CLIP."""
    text_drop_prob: Probability = 0.1
    """Share of captions replaced by the empty prompt. The noised embedding is never hidden."""
    augmented_views: PositiveInt = 1
    """Embeddings kept per picture: the picture itself, and slightly moved copies of it."""
    weighting: Weighting = "uniform"


class DecoderTaskConfig(Config):
    """Image embeddings of a frozen CLIP to pictures."""

    kind: Literal["decoder"] = "decoder"
    model: DecoderConfig
    clip: Path
    """Folder of the frozen CLIP."""
    image_drop_prob: Probability = 0.1
    """Share of image embeddings replaced by the learned null embedding (paper: 10 %)."""
    text_drop_prob: Probability = 0.5
    """Share of captions replaced by the empty prompt, where the decoder reads text (paper: 50 %)."""
    embedding_noise: float = 0.0
    """Noise on the image embeddings, in units of their deviation, since those that a prior predicts are inexact."""
    weighting: Weighting = "min_snr"


class UpsamplerTaskConfig(Config):
    """Small pictures to large ones, on crops."""

    kind: Literal["upsampler"] = "upsampler"
    model: UpsamplerConfig
    crop_size: PositiveInt
    """Side of the training crops, in pixels of the large picture."""
    degradation: Literal["blur", "bsr"] = "blur"
    """Damage of the small pictures: some are blurred, or BSRGAN's blur, resizing, noise and JPEG in random order."""
    blur_prob: Probability = 0.5
    """With "blur", the share of small pictures that are blurred (Gaussian, sigma up to `blur_sigma` pixels)."""
    blur_sigma: PositiveFloat = 0.8
    max_augmentation: Probability = 0.3
    """Largest noise level added to the small picture; the network is told the level."""
    weighting: Weighting = "min_snr"


TaskConfig = Annotated[
    ClipTaskConfig | PriorTaskConfig | DecoderTaskConfig | UpsamplerTaskConfig, Field(discriminator="kind")
]


class OptimizerConfig(Config):
    """AdamW with warm-up; decay only on tensors of two or more dimensions."""

    learning_rate: PositiveFloat
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = Field(default=0.01, ge=0.0)
    warmup_images: int = Field(default=20_000, ge=0)
    decay: Literal["constant", "cosine"] = "constant"
    """After warm-up: stay, or fall along a half cosine to a hundredth at `num_images`."""
    max_grad_norm: PositiveFloat = 1.0


class TrainConfig(Config):
    """One training run. Progress is counted in images seen."""

    name: str
    """The recipe's name, for example `emoji/decoder`."""
    task: TaskConfig
    data: DataConfig
    optimizer: OptimizerConfig
    batch_size: PositiveInt
    num_images: PositiveInt
    """The run ends after this many images."""
    ema_images: PositiveFloat = 50_000
    """Half-life of the weight average, in images; shorter in the beginning (a tenth of the images seen)."""
    seed: int = 0
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    """Autocast of the forward pass; weights and optimiser stay in float32."""
    log_every: PositiveInt = 10
    """Steps between progress reports; every step's loss goes to `log.jsonl`."""
    checkpoint_images: PositiveInt = 100_000
    """Images between checkpoints."""
    preview_images: PositiveInt = 100_000
    """Images between sample grids."""
