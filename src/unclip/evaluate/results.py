"""Results of an evaluation, as `results.json` holds them."""

from collections.abc import Mapping
from pathlib import Path

from unclip.config import Config
from unclip.machine import Machine

RESULTS_FILE = "results.json"


class Figure(Config):
    """One number of an evaluation, with its bootstrap interval and how far it can be trusted."""

    name: str
    """Name of the metric, such as fid."""
    title: str
    """Name in tables, such as FID."""
    value: float
    low: float | None = None
    """Lower end of the interval; None without one."""
    high: float | None = None
    num_images: int
    """Number of pictures that were measured."""
    warning: str | None = None
    """Why it says less than it seems to, such as too few pictures."""

    @property
    def interval(self) -> str:
        """The ends of the interval as text; "" without one."""
        return "" if self.low is None else f"{self.low:.4g} to {self.high:.4g}"


class Point(Config):
    """The figures of one setting: of each setting of a sweep, or of the only one."""

    label: str
    """What differs from the other settings of a sweep, such as decoder guidance 3; "" without a sweep."""
    settings: Mapping[str, object]
    """Every sampling setting that the pictures were drawn with; empty for a folder."""
    figures: tuple[Figure, ...]
    suites: Mapping[str, Mapping[str, float]] = {}
    """Measures of single stages by suite: prior, round_trip, upsampler, ..."""
    seconds_per_image: float | None = None
    """Mean time to draw a picture; None for a folder."""
    samples: tuple[Path, ...] = ()
    """The first pictures, as PNG files relative to the folder of the evaluation."""
    prompts: tuple[str, ...] = ()
    """Prompts of `samples`."""
    seeds: tuple[int, ...] = ()
    """Seeds of `samples`."""

    def figure(self, name: str) -> Figure | None:
        """Return the figure of a metric, None where it was not computed."""
        return next((figure for figure in self.figures if figure.name == name), None)


class Evaluation(Config):
    """A whole evaluation."""

    subject: str
    """The model, or the folder, that was evaluated."""
    reference: str | None
    """The pictures that it was compared with."""
    image_size: int
    num_images: int
    num_reference: int
    seed: int
    features: Mapping[str, str]
    """Name of the feature network of each metric, such as fid: inception."""
    notes: tuple[str, ...] = ()
    """What a reader must know, such as that the judge is the model's own CLIP."""
    points: tuple[Point, ...]
    machine: Machine
    version: str
    """Version of this package."""
