"""Smoke variants: a recipe's own settings with tiny networks on toy data, for seconds."""

import fcntl
from collections.abc import Sequence
from pathlib import Path

from unclip.checkpoint import save_module
from unclip.clip import Clip, ClipConfig, TextImageEncoder, Tokenizer
from unclip.data import EmojiItem, embed, emoji_items, write_shards
from unclip.files import atomic_folder
from unclip.models import (
    ConvAutoencoder,
    ConvAutoencoderConfig,
    DecoderConfig,
    TextTransformerConfig,
    autoencoder_preset,
    kandinsky_decoder_preset,
)
from unclip.runtime import forked_random_state
from unclip.training import (
    AutoencoderTaskConfig,
    ClipTaskConfig,
    DecoderTaskConfig,
    PriorTaskConfig,
    TrainConfig,
    UpsamplerTaskConfig,
)
from unclip.training.config import TaskConfig

ROOT = Path("runs/smoke")
SHARDS, EMBEDDINGS = ROOT / "shards-32", ROOT / "embeddings"
CLIP_FOLDER, AUTOENCODER_FOLDER = ROOT / "clip", ROOT / "autoencoder"
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

AUTOENCODER = ConvAutoencoderConfig(
    in_channels=4, latent_channels=8, widths=(32, 32), encoder_blocks=1, decoder_blocks=1
)


def shrink(config: TrainConfig) -> TrainConfig:
    """Return the smoke variant of `config`: the same steps on the same paths, at sizes that take seconds.

    Kept are whether embeddings are stored, pictures streamed, gradients accumulated and samples held out, and every
    setting that is not a size. `prepare_smoke` makes the inputs.
    """
    data = config.data
    return config.replace(
        task=shrink_task(config.task),
        data=data.replace(
            folder=str(SHARDS),
            source_size=SIDE,
            embeddings=None if data.embeddings is None else str(EMBEDDINGS),
            shuffle_shards=data.shuffle_shards and 1,
            lanes=1,
            num_workers=min(data.num_workers, 1),
            validation_share=0.25 if data.validation_share else 0.0,
        ),
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


def shrink_task(task: TaskConfig) -> TaskConfig:
    """Return the task with a tiny network; all pictures are of 32 px, and CLIP is the toy one."""
    match task:
        case ClipTaskConfig(model=model):
            # The teacher is a package of 83 MB.
            clip = CLIP.replace(activation=model.activation, resize=model.resize, stem=(8,) if model.stem else ())
            return task.replace(model=clip, teacher=None, phrases=None)
        case AutoencoderTaskConfig(model=ConvAutoencoderConfig() as model):
            small = AUTOENCODER.replace(regularizer=model.regularizer, codebook_size=model.codebook_size)
            return task.replace(model=small, image_size=SIDE, clip=task.clip and CLIP_FOLDER)
        case AutoencoderTaskConfig():
            movq = autoencoder_preset("tiny").replace(in_channels=task.model.in_channels)
            return task.replace(model=movq, image_size=SIDE, clip=task.clip and CLIP_FOLDER)
        case PriorTaskConfig(model=model):
            prior = model.replace(
                embedding_dim=CLIP.embedding_dim,
                text_embedding_dim=None,
                text_dim=CLIP.text_width,
                num_text_tokens=CLIP.context_length if model.num_text_tokens else 0,
                width=32,
                depth=2,
                num_heads=2,
            )
            return task.replace(model=prior, clip=CLIP_FOLDER, paraphrases=None)
        case DecoderTaskConfig(model=DecoderConfig() as model):
            transformer = TextTransformerConfig(num_text_tokens=CLIP.context_length, depth=1, num_heads=2)
            decoder = model.replace(
                image_size=16,
                embedding_dim=CLIP.embedding_dim,
                text_dim=CLIP.text_width if model.text_dim else 0,
                text_transformer=model.text_transformer and transformer,
                base_channels=32,
                channel_mult=(1, 2),
                num_res_blocks=1,
                attention_resolutions=(8,) if model.attention_resolutions else (),
                head_dim=32,
                context_dim=32,
                patch_size=1,
            )
            autoencoder = task.autoencoder and AUTOENCODER_FOLDER
            return task.replace(model=decoder, clip=CLIP_FOLDER, autoencoder=autoencoder, paraphrases=None)
        case DecoderTaskConfig():
            kandinsky = kandinsky_decoder_preset("tiny").replace(embedding_dim=CLIP.embedding_dim, in_channels=8)
            return task.replace(model=kandinsky, clip=CLIP_FOLDER, autoencoder=AUTOENCODER_FOLDER)
        case UpsamplerTaskConfig(model=model):
            low_res_size = SIDE * model.low_res_size // model.image_size
            upsampler = model.replace(
                image_size=SIDE, low_res_size=low_res_size, base_channels=32, channel_mult=(1, 2), num_res_blocks=1
            )
            return task.replace(model=upsampler, crop_size=16)


def prepare_smoke(config: TrainConfig) -> None:
    """Make the toy inputs that the smoke variant `config` reads, where they are missing.

    These are shards, a CLIP, an autoencoder and embeddings.

    Every process of a run may call it at once: one makes them, the others wait.
    """
    reads_clip = config.clip == CLIP_FOLDER
    reads_autoencoder = getattr(config.task, "autoencoder", None) == AUTOENCODER_FOLDER
    reads_shards, reads_embeddings = config.data.folder == str(SHARDS), config.data.embeddings == str(EMBEDDINGS)
    if not (reads_clip or reads_autoencoder or reads_shards or reads_embeddings):
        return
    ROOT.mkdir(parents=True, exist_ok=True)
    with (ROOT / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        # Shards first: they need a package that may be missing, and a refused run leaves nothing behind.
        if (reads_shards or reads_embeddings) and not SHARDS.exists():
            write_shards(SHARDS, _items(), SIDE, "toy")
        if (reads_clip or reads_embeddings) and not CLIP_FOLDER.exists():
            tokenizer = Tokenizer.train([caption for item in _items() for caption in item.captions], CLIP.vocab_size)
            with forked_random_state(0), atomic_folder(CLIP_FOLDER) as folder:
                TextImageEncoder(Clip(CLIP), tokenizer).save(folder)
        if reads_autoencoder and not AUTOENCODER_FOLDER.exists():
            with forked_random_state(0), atomic_folder(AUTOENCODER_FOLDER) as folder:
                path = folder / "autoencoder.safetensors"
                save_module(path, ConvAutoencoder(AUTOENCODER), AUTOENCODER, "autoencoder")
        if reads_embeddings and not EMBEDDINGS.exists():
            with atomic_folder(EMBEDDINGS) as folder:
                embed(SHARDS, TextImageEncoder.load(CLIP_FOLDER), folder, hidden=True, num_workers=0)


def _items() -> Sequence[EmojiItem]:
    return emoji_items("train")[:NUM_PICTURES]
