"""The way between two texts as a strip and as an animation, and from a picture to a text.

python examples/interpolate.py [FOLDER]
"""

import sys
from pathlib import Path

import unclip
from unclip.images import grid, save_gif


def main(folder: Path) -> None:
    """Draw two ways with few steps and save them."""
    pipe = unclip.UnClip.load("emoji")
    way = pipe.interpolate("grinning face", "crying face", frames=5, seed=7, num_steps={"prior": 10, "decoder": 6})
    grid(way.images, columns=5).save(folder / "texts.png")
    save_gif(way.images, folder / "texts.gif")
    back = pipe.interpolate(way.images[-1], "full moon", frames=5, seed=7, image_size=128, num_steps=10)
    grid(back.images, columns=5).save(folder / "picture-and-text.png")
    print("seed", way.seeds[0], "between", way.settings["between"])


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path())
