"""Small pictures that no two seeds share, and their files."""

import io

import numpy as np
from PIL import Image


def picture(seed: int, width: int = 64, height: int = 64) -> Image.Image:
    """Smooth random colours, as scenes have; the same for the same arguments."""
    values = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, form: str = "PNG", quality: int = 90) -> bytes:
    """The picture as a file."""
    file = io.BytesIO()
    image.save(file, form, quality=quality) if form != "PNG" else image.save(file, form)
    return file.getvalue()


def darkness(image: Image.Image) -> float:
    """A judge of pictures, for tests that name one as `pictures:darkness`: 1 for black, 0 for white."""
    return 1 - float(np.asarray(image).mean()) / 255
