"""Smoke variants: a recipe's own settings with tiny networks on toy data, for seconds. Knows shapes, no recipe."""

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from unclip.clip import Clip, ClipConfig, TextImageEncoder, Tokenizer
from unclip.data import EmojiItem, embed, emoji_items, write_shards
from unclip.files import atomic_folder
from unclip.models import DecoderConfig, PriorConfig, TextTransformerConfig, UpsamplerConfig
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

ROOT = Path("runs/smoke")
SHARDS, CLIP_FOLDER, EMBEDDINGS = ROOT / "shards-32", ROOT / "clip", ROOT / "embeddings"
SIDE, NUM_PICTURES = 32, 16
CLIP = ClipConfig(
    embedding_dim=32,
    image_size=16,
    patch_size=8,
    vision_width=32,
    vision_layers=1,
    vision_heads=1,
    text_width=32,
    text_layers=1,
    text_heads=1,
    context_length=32,
    vocab_size=600,
)


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
    """Make the toy inputs that the smoke variant `config` reads, where they are missing: shards, a CLIP, embeddings.

    Every process of a run may call it at once: one makes them, the others wait.
    """
    reads_clip = isinstance(config.task, PriorTaskConfig | DecoderTaskConfig) and config.task.clip == CLIP_FOLDER
    reads_shards, reads_embeddings = config.data.folder == str(SHARDS), config.data.embeddings == str(EMBEDDINGS)
    if not (reads_clip or reads_shards or reads_embeddings):
        return
    with _one_at_a_time():
        # Shards first: they need a package that may be missing, and a refused run leaves nothing behind.
        if (reads_shards or reads_embeddings) and not SHARDS.exists():
            write_shards(SHARDS, _items(), SIDE, "toy")
        if (reads_clip or reads_embeddings) and not CLIP_FOLDER.exists():
            with atomic_folder(CLIP_FOLDER) as folder:
                _random_clip().save(folder)
        if reads_embeddings and not EMBEDDINGS.exists():
            with atomic_folder(EMBEDDINGS) as folder:
                embed(SHARDS, TextImageEncoder.load(CLIP_FOLDER), folder, hidden=True, num_workers=0)


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    ROOT.mkdir(parents=True, exist_ok=True)
    with (ROOT / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


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
    """The upsampler from 8 to 32 px with two levels of 32 and 64 channels."""
    return model.replace(
        image_size=SIDE,
        low_res_size=SIDE * model.low_res_size // model.image_size,
        base_channels=32,
        channel_mult=(1, 2),
        num_res_blocks=1,
    )
