"""Results of an evaluation, and how they are computed."""

from collections.abc import Mapping
from pathlib import Path

from unclip.config import Config
from unclip.machine import Machine


class Figure(Config):
    """One number of an evaluation, with its bootstrap interval and how far it can be trusted."""

    name: str
    """Name of the metric, such as fid."""
    title: str
    """As tables show it, such as FID."""
    value: float
    low: float | None = None
    """Lower end of the interval; None where none was asked for."""
    high: float | None = None
    num_images: int
    """Pictures that it is of."""
    warning: str | None = None
    """Why it says less than it seems to, such as too few pictures."""


class Point(Config):
    """The figures of one setting of a sweep, or of the only one."""

    label: str
    """What is different from the other points, such as decoder guidance 3; "" where there is one."""
    settings: Mapping[str, object]
    """Every sampling setting that the pictures were drawn with; empty for a folder."""
    figures: tuple[Figure, ...]
    suites: Mapping[str, Mapping[str, float]] = {}
    """Measures of single stages by the suite: prior, round_trip, upsampler, ..."""
    seconds_per_image: float | None = None
    """Mean time of a picture where this was drawn; None for a folder."""
    samples: tuple[Path, ...] = ()
    """The first pictures, as PNG files relative to the folder of the evaluation."""
    prompts: tuple[str, ...] = ()
    """Prompts of `samples`."""
    seeds: tuple[int, ...] = ()
    """Seeds of `samples`."""


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
    """Name of each feature network by what it was used for, such as fid: inception."""
    notes: tuple[str, ...] = ()
    """What a reader must know, such as that the judge is the model's own CLIP."""
    points: tuple[Point, ...]
    machine: Machine
    version: str
    """Version of this package."""
