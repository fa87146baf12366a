"""What a stage finds on its canvas before it begins. Knows samples; not what asked for them."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from unclip.shapes import Sample

__all__ = ["BLANK", "Canvas"]


class Canvas(NamedTuple):
    """A sampler's start: fresh noise, an x_T, a picture to draw over, or one of which a part stays."""

    x_T: Sample | None = None
    """The noise to begin with; None draws it."""
    picture: Sample | None = None
    """What is there already, in the numbers of the stage: pixels in [-1, 1], or latents."""
    strength: float = 1.0
    """Share of the noise that is put on `picture` and taken away again, in (0, 1]; 1 leaves nothing of it (SDEdit)."""
    mask: Float[Tensor, "_batch 1 _height _width"] | None = None
    """1 where the stage paints, 0 where `picture` stays; None: it paints everywhere."""
    num_resamples: int = 1
    """How often each step is made when a part stays, noise being put back in between (RePaint); 1 is once."""


BLANK = Canvas()
