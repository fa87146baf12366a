"""The words that several configs allow. Knows no config."""

from typing import Literal

__all__ = ["PredictionType", "ScheduleName"]

PredictionType = Literal["x0", "eps", "v"]
ScheduleName = Literal["cosine", "linear", "kandinsky"]
