"""The precision that a series trains in."""

import torch

from unclip.runtime import inference_dtype
from unclip.training import precision
from unclip.training.precision import fastest_precision

CPU = torch.device("cpu")


def test_it_is_one_that_the_processor_multiplies() -> None:
    chosen = fastest_precision(CPU)
    assert chosen in ("bfloat16", "float32")
    assert inference_dtype(CPU) == torch.bfloat16 or chosen == "float32"


def test_measuring_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    assert precision._convolution_seconds(torch.float32) > 0.0
    assert torch.equal(torch.get_rng_state(), before)
