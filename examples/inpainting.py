"""Inpainting from Python: a mask, the transparent part of a picture, and what stays to the bit.

python examples/inpainting.py [FOLDER]
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import unclip


def main(folder: Path) -> None:
    """Draw a face, give it other eyes, and then another lower half."""
    pipe = unclip.UnClip.load("emoji")
    steps = {"prior": 10, "decoder": 8}
    face = pipe.text_to_image("grinning face, noto style", seed=7, num_steps=steps).images[0]
    face.save(folder / "face.png")

    mask = Image.new("L", face.size)
    ImageDraw.Draw(mask).rectangle((10, 30, 245, 135), fill=255)
    eyes = pipe.inpaint(face, mask, "smiling face with sunglasses, noto style", seed=7, num_steps=steps).images[0]
    eyes.save(folder / "eyes.png")
    black = np.asarray(mask) == 0
    assert np.array_equal(np.asarray(eyes)[black], np.asarray(face)[black])

    # Half of the picture is erased; what is transparent is painted.
    cutout = face.copy()
    cutout.putalpha(255)
    cutout.paste((0, 0, 0, 0), (0, 128, 256, 256))
    result = pipe.inpaint(cutout, prompt="face with medical mask, noto style", num_images=2, seed=7, num_steps=steps)
    for image, seed in zip(result.images, result.seeds, strict=True):
        image.save(folder / f"mask-{seed}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path())
