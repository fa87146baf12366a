"""Each stage alone: an image embedding from the prior, and pictures from the decoder and the upsampler.

python examples/stages.py [FOLDER]
"""

import sys
from pathlib import Path

import unclip
from unclip.images import save_png, to_pil


def main(folder: Path) -> None:
    """Draw one prompt stage by stage and save the small and the large picture."""
    pipe = unclip.UnClip.load("emoji")
    print(pipe)
    image_embedding = pipe.prior.sample("a red apple", seed=7)
    small = pipe.decoder.sample(image_embedding, seed=7)
    large = pipe.upsamplers[256].sample(small, seed=7)
    for images, name in ((small, "small"), (large, "large")):
        save_png(to_pil(images)[0], folder / f"apple-{name}.png")
        print(name, tuple(images.shape))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path())
