"""What the recipes for large data sets share: where data lies, how it is streamed, how long averages last.

Knows numbers, no stage. A recipe's data are shards of `unclip data prepare` or img2dataset, and beside them what
`unclip embed` made of them.
"""

import math

from unclip.training import DataConfig

VIT_L_14 = 768
"""Size of the embeddings of OpenAI's CLIP ViT-L/14."""
TEXT_WIDTH = 768
"""Width of its text states."""


def streamed(folder: str, source_size: int, *, embeddings: bool = True) -> DataConfig:
    """Shards that are decoded as they are read, shuffled over a window, with stored CLIP features unless told not to.

    The decoded pictures of such a set fit no disk cache. 64 lanes divide among any number of GPUs that is a power of
    two up to 64, so that each reads shards of its own.
    """
    return DataConfig(
        folder=f"{folder}/shards-{source_size}",
        source_size=source_size,
        embeddings=f"{folder}/embeddings" if embeddings else None,
        cache=False,
        shuffle_shards=256,
        lanes=64,
        num_workers=8,
        validation_share=0.0005,
    )


def ema_images(decay: float, batch_size: int) -> float:
    """The half-life in images of an average that keeps `decay` of itself at each step."""
    return batch_size * math.log(0.5) / math.log(decay)
