"""A picture moved from one text to another, a little further in each frame.

python examples/text_diff.py [FOLDER]
"""

import sys
from pathlib import Path

import unclip
from unclip.images import grid


def main(folder: Path) -> None:
    """Draw a heart, turn it blue, and save the way."""
    pipe = unclip.UnClip.load("emoji")
    picture = pipe.text_to_image("red heart", seed=7, image_size=256).images[0]
    few = {"decoder": 12}
    dial = pipe.text_diff(picture, "red heart", "blue heart", theta=[0.0, 0.2, 0.4, 0.6], num_steps=few)
    grid([picture, *dial.images], columns=5).save(folder / "text_diff.png")
    print(dial.settings["theta"])


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path())
