"""The import hook is in force: a wrong shape or type does not pass the package's annotations."""

from collections.abc import Callable

import pytest
import torch
from jaxtyping import Float, TypeCheckError
from torch import Tensor

from annotations import NUM_CALLS, NUM_MADE, begin_test, check_first_calls, check_first_made
from unclip.images import resize


def test_a_wrong_shape_is_caught() -> None:
    with pytest.raises(TypeCheckError, match="batch channels height width"):
        resize(torch.zeros(3, 8, 8), 4)


def test_a_wrong_dtype_is_caught() -> None:
    with pytest.raises(TypeCheckError):
        resize(torch.zeros(1, 3, 8, 8, dtype=torch.int64), 4)


def test_a_wrong_type_is_caught() -> None:
    with pytest.raises(TypeCheckError):
        resize(torch.zeros(1, 3, 8, 8), "4")


def test_the_first_calls_of_each_test_are_checked() -> None:
    def rows(x: Float[Tensor, "rows columns"]) -> int:
        return len(x)

    sampled = check_first_calls(rows)
    for _ in range(2):
        for _ in range(NUM_CALLS):
            with pytest.raises(TypeCheckError):
                sampled(torch.zeros(2))
        assert sampled(torch.zeros(2)) == 2
        begin_test()
    assert sampled(torch.zeros(2, 3)) == 2


def test_a_function_inside_another_is_checked_the_first_times_that_it_is_made() -> None:
    def make() -> Callable[[Tensor], int]:
        def rows(x: Float[Tensor, "rows columns"]) -> int:
            return len(x)

        return check_first_made(rows)

    made = [make() for _ in range(NUM_MADE + 1)]
    assert [function(torch.zeros(2, 3)) for function in made] == [2] * len(made)
    for function in made[:-1]:
        with pytest.raises(TypeCheckError):
            function(torch.zeros(2))
    assert made[-1](torch.zeros(2)) == 2
