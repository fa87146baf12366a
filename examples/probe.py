"""What a picture's embedding holds: reconstructions from few principal components to all.

python examples/probe.py [FOLDER]
"""

import sys
from pathlib import Path

import unclip
from unclip.images import grid


def main(folder: Path) -> None:
    """Draw a picture, then what is left of its embedding in 1 to 192 components."""
    pipe = unclip.UnClip.load("emoji")
    face = pipe.text_to_image("grinning face", seed=7).images[0]
    strip = pipe.probe(face, [1, 8, 16, 32, 192], seed=7, num_steps={"decoder": 8})
    for count, embedding in zip(strip.settings["num_components"], strip.image_embeddings, strict=True):
        print(f"{count:4d} components, norm {float(embedding.norm()):.2f}")
    grid([*strip.images, face], columns=6).save(folder / "probe.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path())
