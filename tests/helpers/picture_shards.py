"""Shards of pictures of many shapes and formats, one of them damaged."""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from shard_files import write_tar

CAPTIONS = ["a red apple", "", "an old house near the yellow sun and a cat with sunglasses", "ü"]
DAMAGED = "00000/broken"


def random_picture(width: int, height: int, format: str, seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format)
    return file.getvalue()


def write_picture_shards(folder: Path, num_shards: int = 3) -> dict[str, bytes]:
    """`num_shards` shards of four or five samples; returns the pictures by key, the damaged one included."""
    pictures: dict[str, bytes] = {}
    for shard in range(num_shards):
        files: dict[str, bytes] = {}
        for sample, (width, height, format) in enumerate(
            [(16, 16, "PNG"), (40, 17, "JPEG"), (9, 30, "WEBP"), (64, 64, "PNG")]
        ):
            key = f"{shard:05d}/{sample}"
            pictures[key] = random_picture(width, height, format, 10 * shard + sample)
            captions = {"captions": [CAPTIONS[sample], *CAPTIONS[:shard]]}
            files |= {f"{key}.{format.lower()}": pictures[key], f"{key}.json": json.dumps(captions).encode()}
            if (shard, sample) == (0, 1):
                pictures[DAMAGED] = pictures[key][: len(pictures[key]) // 2]
                files |= {f"{DAMAGED}.jpeg": pictures[DAMAGED], f"{DAMAGED}.txt": b"half a picture"}
        write_tar(folder / f"pictures-{shard:05d}.tar", files)
    return pictures


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of every file of a folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
