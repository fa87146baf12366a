"""A picture of any shape made larger and sharper, beside what plain enlarging makes of it.

python examples/upscale.py [FOLDER]
"""

import sys
from pathlib import Path

from PIL import Image

import unclip
from unclip.images import grid


def main(folder: Path) -> None:
    """Draw a small picture, enlarge it four times, and save both ways beside each other."""
    pipe = unclip.UnClip.load("emoji")
    small = pipe.text_to_image("a red apple", seed=7, num_steps=8).images[0].crop((40, 60, 200, 160))
    large = pipe.upscale(small, 640, seed=7).images[0]
    plain = small.resize(large.size, Image.Resampling.BICUBIC)
    grid([plain, large], columns=2).save(folder / "upscaled.png")
    print(small.size, "->", large.size)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path())
