"""The words that several configs allow. Knows no config."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

# More blocks than this are a mistake, which would be built before anything is compared with it.
Depth: TypeAlias = Annotated[int, Field(ge=1, le=1000)]

PredictionType = Literal["x0", "eps", "v"]
ScheduleName = Literal["cosine", "linear", "kandinsky"]
