"""Outpainting from Python: by pixels, to an aspect ratio, and window by window with progress.

python examples/outpainting.py [FOLDER]
"""

import sys
from pathlib import Path

import unclip


def main(folder: Path) -> None:
    """Draw a heart, cut out its middle, and paint what was around it."""
    pipe = unclip.UnClip.load("emoji")
    steps = {"prior": 10, "decoder": 6}
    heart = pipe.text_to_image("red heart, noto style", seed=7, num_steps=steps).images[0]

    half = heart.crop((0, 0, 128, 256))
    half.save(folder / "half.png")
    whole = pipe.outpaint(half, "red heart, noto style", right=128, seed=7, num_steps=steps)
    assert whole.images[0].crop((0, 0, 128, 256)).tobytes() == half.tobytes()
    whole.images[0].save(folder / "whole.png")

    def show(stage: str, done: int, total: int) -> None:
        print(f"\r{stage} {done}/{total}  ", end="\n" if done == total else "")

    # Without a prompt CLIP looks at the picture, and the prior has no steps.
    small, steps = heart.resize((128, 128)), {"decoder": 6}
    wide = pipe.outpaint(small, aspect=(16, 9), seed=7, num_steps=steps, progress=show)
    wide.images[0].save(folder / "wide.png")
    print(wide.images[0].size)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path())
