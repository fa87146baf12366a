"""Draw several pictures small, enlarge those that CLIP finds nearest to the text, and lead away from what is unwanted.

python examples/best_of.py [FOLDER]
"""

import sys
from pathlib import Path

import unclip


def main(folder: Path) -> None:
    """Save the best two of six flags that are not red."""
    pipe = unclip.UnClip.load("emoji")
    result = pipe.text_to_image(
        "a flag", num_images=2, best_of=6, negative_prompt="red", seed=7, num_steps={"prior": 10, "decoder": 8}
    )
    for image, seed, score in zip(result.images, result.seeds, result.settings["scores"], strict=True):
        image.save(folder / f"flag-{seed}.png")
        print(folder / f"flag-{seed}.png", score)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path())
