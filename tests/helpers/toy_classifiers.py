"""Classifiers of texts and pictures whose answers a test knows."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image


class Redness:
    """A classifier of two categories: how red a picture is, and how green."""

    def classify(self, pictures: Sequence[Image.Image]) -> list[Mapping[str, float]]:
        return [{"red": redness(one), "green": -redness(one)} for one in pictures]


def redness(picture: Image.Image) -> float:
    """By how much red exceeds green, in [-1, 1]."""
    red, green, _ = np.asarray(picture.convert("RGB"), dtype=float).mean(axis=(0, 1)) / 255
    return float(red - green)


def shouting(text: str) -> Mapping[str, float]:
    """A classifier of texts: the share of capitals."""
    return {"shouting": sum(letter.isupper() for letter in text) / max(len(text), 1)}
