"""Smoke variants: a recipe's own settings with tiny networks on toy data, for seconds. Knows shapes, no recipe."""

from collections.abc import Sequence
from pathlib import Path

from unclip.clip import Clip, ClipConfig, TextImageEncoder, Tokenizer, clip_preset
from unclip.data import EmojiItem, emoji_items, write_shards
from unclip.models import DecoderConfig, PriorConfig, TextTransformerConfig, UpsamplerConfig
from unclip.pipelines import embed
from unclip.runtime import forked_random_state
from unclip.training import (
    ClipTaskConfig,
    DataConfig,
    DecoderTaskConfig,
    PriorTaskConfig,
    TrainConfig,
    UpsamplerTaskConfig,
)
from unclip.training.config import TaskConfig

__all__ = ["prepare_smoke", "shrink"]

ROOT = Path("runs/smoke")
SHARDS, CLIP_FOLDER, EMBEDDINGS = ROOT / "shards-64", ROOT / "clip", ROOT / "embeddings"
SIDE, NUM_PICTURES = 64, 16
CLIP = clip_preset("tiny").replace(vocab_size=560)


def shrink(config: TrainConfig) -> TrainConfig:
    """The smoke variant of `config`: the same steps on the same paths, at sizes that take seconds.

    Kept are whether embeddings are stored, pictures streamed, gradients accumulated, samples held out, and everything
    that is no size. What it reads is made by `prepare_smoke`.
    """
    return config.replace(
        task=_tiny_task(config.task),
        data=_toy_data(config.data),
        optimizer=config.optimizer.replace(warmup_images=8),
        batch_size=8,
        micro_batch_size=4 if config.micro_batch_size else None,
        num_images=32,
        ema_images=100,
        checkpoint_images=16,
        preview_images=32,
        validation_images=16,
        num_validation=4,
    )


def prepare_smoke(config: TrainConfig) -> None:
    """Make the toy inputs that the smoke variant `config` reads: shards, a random CLIP, embeddings."""
    if Path(config.data.folder) == SHARDS and not SHARDS.exists():
        write_shards(SHARDS, _items(), SIDE, "toy")
    if config.data.embeddings == str(EMBEDDINGS) and not EMBEDDINGS.exists():
        if not CLIP_FOLDER.exists():
            _random_clip().save(CLIP_FOLDER)
        embed(SHARDS, TextImageEncoder.load(CLIP_FOLDER), EMBEDDINGS, hidden=True, num_workers=0)


def _random_clip() -> TextImageEncoder:
    captions = [caption for item in _items() for caption in item.captions]
    with forked_random_state(0):
        return TextImageEncoder(Clip(CLIP), Tokenizer.train(captions, CLIP.vocab_size))


def _items() -> Sequence[EmojiItem]:
    return emoji_items("train")[:NUM_PICTURES]


def _toy_data(data: DataConfig) -> DataConfig:
    return data.replace(
        folder=str(SHARDS),
        source_size=SIDE,
        embeddings=None if data.embeddings is None else str(EMBEDDINGS),
        shuffle_shards=data.shuffle_shards and 1,
        lanes=1,
        num_workers=min(data.num_workers, 1),
        validation_share=0.25 if data.validation_share else 0.0,
    )


def _tiny_task(task: TaskConfig) -> TaskConfig:
    match task:
        case ClipTaskConfig():
            return task.replace(model=tiny_clip(task.model))
        case PriorTaskConfig():
            return task.replace(model=tiny_prior(task.model), clip=CLIP_FOLDER)
        case DecoderTaskConfig():
            return task.replace(model=tiny_decoder(task.model), clip=CLIP_FOLDER)
        case UpsamplerTaskConfig():
            return task.replace(model=tiny_upsampler(task.model), crop_size=16)


def tiny_clip(model: ClipConfig) -> ClipConfig:
    """The toy CLIP with the model's activation."""
    return CLIP.replace(activation=model.activation, resize=model.resize)


def tiny_prior(model: PriorConfig) -> PriorConfig:
    """The prior with two blocks of 32."""
    return model.replace(
        embedding_dim=CLIP.embedding_dim,
        text_embedding_dim=None,
        text_dim=CLIP.text_width,
        num_text_tokens=CLIP.context_length if model.num_text_tokens else 0,
        width=32,
        depth=2,
        num_heads=2,
    )


def tiny_decoder(model: DecoderConfig) -> DecoderConfig:
    """The decoder at 16 px with two levels of 32 and 64 channels."""
    transformer = model.text_transformer and TextTransformerConfig(
        num_text_tokens=CLIP.context_length, depth=1, num_heads=2
    )
    return model.replace(
        image_size=16,
        embedding_dim=CLIP.embedding_dim,
        text_dim=CLIP.text_width if model.text_dim else 0,
        text_transformer=transformer,
        base_channels=32,
        channel_mult=(1, 2),
        num_res_blocks=1,
        attention_resolutions=(8,) if model.attention_resolutions else (),
        head_dim=32,
        context_dim=32,
        patch_size=1,
    )


def tiny_upsampler(model: UpsamplerConfig) -> UpsamplerConfig:
    """The upsampler from 8 or 16 to 64 px with two levels of 32 and 64 channels."""
    return model.replace(
        image_size=SIDE,
        low_res_size=SIDE * model.low_res_size // model.image_size,
        base_channels=32,
        channel_mult=(1, 2),
        num_res_blocks=1,
    )
