"""A picture brought back from its embedding and its noise, varied about itself, and drawn anew.

python examples/variations.py [FOLDER]
"""

import sys
from pathlib import Path

import unclip
from unclip.images import grid


def main(folder: Path) -> None:
    """Draw a picture, then reconstruct and vary it, and save all in a row."""
    pipe = unclip.UnClip.load("emoji")
    picture = pipe.text_to_image("a red apple", seed=7).images[0]
    few = {"decoder": 12}
    row = [picture]
    for eta in (0.0, 0.7):
        row += pipe.image_variations(picture, eta=eta, seed=7, num_steps=few).images
    row += pipe.image_variations(picture, num_images=2, seed=7).images
    row += pipe.image_variations(picture, prompt="lemon", seed=7).images
    grid(row, columns=len(row)).save(folder / "variations.png")
    print(len(row), "pictures")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path())
