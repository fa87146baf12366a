"""The loss scale against the rule, and what it is for."""

import json

import torch

from unclip.training.optimizer import LossScale


def test_it_halves_at_once_and_doubles_after_2000_finite_steps() -> None:
    scale = LossScale()
    assert scale.value == 65536
    for _ in range(1999):
        scale = scale.after(is_finite=True)
    assert scale == (65536, 1999)
    assert scale.after(is_finite=True) == (131072, 0)
    assert scale.after(is_finite=False) == (32768, 0)


def test_two_numbers_are_all_that_a_checkpoint_needs() -> None:
    scale = LossScale().after(is_finite=False).after(is_finite=True)
    assert LossScale(*json.loads(json.dumps(scale))) == scale


def test_gradients_too_small_for_float16_survive_and_come_back_exact() -> None:
    scale = LossScale().value
    small = torch.tensor(2.0**-30)
    assert small.half() == 0
    assert (small * scale).half().float() / scale == small
