"""A text and a picture mixed, with more and more weight on the text.

python examples/mix.py [FOLDER]
"""

import sys
from pathlib import Path

import unclip
from unclip.images import grid


def main(folder: Path) -> None:
    """Draw a moon, then the moon with a smiling face of growing weight, below 0 at first."""
    pipe = unclip.UnClip.load("emoji")
    moon = pipe.text_to_image("full moon", seed=7).images[0]
    pictures = []
    for weight in (-0.3, 0.0, 0.3, 0.6):
        parts = [(moon, 1 - abs(weight)), ("smiling face with sunglasses", weight)]
        pictures += pipe.mix(parts, seed=7, num_steps={"prior": 10, "decoder": 8}).images
    grid([moon, *pictures], columns=5).save(folder / "moon-and-face.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path())
