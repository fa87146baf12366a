"""Draw over a picture with rising strength: a tangerine becomes an apple.

python examples/image_to_image.py [FOLDER]
"""

import sys
from pathlib import Path

import unclip
from unclip.images import grid, save_png

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "tangerine.png"


def main(folder: Path) -> None:
    """Save a strip of four strengths."""
    pipe = unclip.UnClip.load("emoji")
    strip = []
    for strength in (0.2, 0.5, 0.8, 1.0):
        result = pipe.image_to_image(
            PICTURE, "a red apple", strength=strength, seed=7, num_steps={"prior": 10, "decoder": 8}
        )
        strip += result.images
    save_png(grid(strip, columns=4), folder / "tangerine-to-apple.png")
    print(folder / "tangerine-to-apple.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path())
