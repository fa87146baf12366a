"""A short call of every task that draws, for tests of what all tasks have in common."""

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

from unclip.model import EmbeddingBasis
from unclip.pipelines import Result

PROMPT = "a red apple"


def picture(side: int = 32) -> Image.Image:
    ramp = np.add.outer(np.arange(side), 2 * np.arange(side)) * 255 // (3 * side)
    return Image.fromarray(np.stack([ramp, 255 - ramp, np.full_like(ramp, 90)], axis=-1).astype(np.uint8))


def mask(side: int = 32) -> Image.Image:
    painted = np.zeros((side, side), dtype=np.uint8)
    painted[side // 4 : side // 2, side // 4 :] = 255
    return Image.fromarray(painted)


def basis(dim: int) -> EmbeddingBasis:
    return EmbeddingBasis.fit(torch.randn(3 * dim, dim, generator=torch.Generator().manual_seed(1)))


TASKS: dict[str, Callable[..., Result]] = {
    "text_to_image": lambda pipe, **o: pipe.text_to_image([PROMPT, "a cat"], 2, **o),
    "best_of": lambda pipe, **o: pipe.text_to_image(PROMPT, 1, best_of=3, negative_prompt="a cat", **o),
    "image_variations": lambda pipe, **o: pipe.image_variations(picture(), 2, **o),
    "varied": lambda pipe, **o: pipe.image_variations(picture(), 2, eta=1.0, prompt=PROMPT, num_steps=4, **o),
    "image_to_image": lambda pipe, **o: pipe.image_to_image(picture(), PROMPT, 2, strength=0.7, **o),
    "mix": lambda pipe, **o: pipe.mix([(PROMPT, 1.0), (picture(), 0.5)], 2, **o),
    "interpolate": lambda pipe, **o: pipe.interpolate(PROMPT, "a cat", frames=3, **o),
    "inpaint": lambda pipe, **o: pipe.inpaint(picture(), mask(), PROMPT, 2, num_resamples=2, **o),
    "outpaint": lambda pipe, **o: pipe.outpaint(picture(), PROMPT, left=8, **o),
    "upscale": lambda pipe, **o: pipe.upscale(picture(), 64, **o),
    "probe": lambda pipe, **o: pipe.probe(picture(), (1, 4), basis=basis(pipe.clip.embedding_dim), **o),
    "unconditional": lambda pipe, **o: pipe.unconditional(2, **o),
    "text_diff": lambda pipe, **o: pipe.text_diff(picture(), "a cat", PROMPT, theta=[0.0, 0.4], num_steps=4, **o),
}
EVERY = sorted(TASKS)
