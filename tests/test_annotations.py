"""The import hook is in force: a wrong shape or type does not pass the package's annotations."""

import pytest
import torch
from jaxtyping import TypeCheckError

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
