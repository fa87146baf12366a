"""Text to image from Python: several prompts, a setting per stage, and the seeds to draw the same again.

python examples/text_to_image.py [FOLDER]
"""

import sys
from pathlib import Path

import unclip


def main(folder: Path) -> None:
    """Draw two prompts twice and save each picture under its prompt and seed."""
    pipe = unclip.UnClip.load("emoji")
    result = pipe(
        ["a red apple", "zebra, noto style"],
        num_images=2,
        seed=7,
        num_steps={"prior": 20, "decoder": 20, "upsampler_256": 4},
        guidance_scale={"decoder": 2.0},
        progress=True,
    )
    print(result)
    print(*result.save(folder), sep="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path())
