"""What a self-conditioned network reads of its own last prediction. Knows no network."""

import torch
from torch import Tensor

from unclip.errors import InputError
from unclip.shapes import Sample


# Analog Bits (arXiv 2208.04202), section 3.2: zeros stand for a prediction that does not exist.
def own_x0(self_conditioning: bool, given: Tensor | None, x_t: Sample) -> Sample | None:
    """The last x0, in the shape of `x_t`, or zeros where there is none; None for a network that reads none.

    Raises `InputError` where such a network is given one.
    """
    if not self_conditioning and given is not None:
        raise InputError("this network does not read its own predictions (self_conditioning=False); leave them out.")
    if not self_conditioning:
        return None
    return torch.zeros_like(x_t) if given is None else given
