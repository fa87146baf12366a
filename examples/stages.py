"""Each stage alone: text features, an image embedding from the prior, and pictures from the decoder and upsampler.

python examples/stages.py [FOLDER]
"""

import sys
from pathlib import Path

import torch

import unclip
from unclip.images import save_png, to_pil
from unclip.pipelines import Condition
from unclip.runtime import NoiseSource


def main(folder: Path) -> None:
    """Draw one prompt stage by stage and save the small and the large picture."""
    pipe = unclip.UnClip.load("emoji")
    noise = NoiseSource.from_seeds([7])
    with torch.inference_mode():
        text, null = pipe.clip.encode_text(["a red apple"]), pipe.clip.encode_text([""])
        image_embedding = pipe.prior.sample(text, null, noise)
        small = pipe.decoder.sample(image_embedding, Condition(text, null), noise)
        large = pipe.upsamplers[256].sample(small, noise)
    for images, name in ((small, "small"), (large, "large")):
        save_png(to_pil(images)[0], folder / f"apple-{name}.png")
        print(name, tuple(images.shape))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path())
