"""Tables of names move tensors both ways, by layouts that are described in words here; what does not fit is refused."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from unclip.checkpoint import LazyTensor
from unclip.config import Config
from unclip.errors import CheckpointError
from unclip.interop.rules import ForeignNetwork, Names, Origin, foreign_network, heads, row, to_theirs, tokens, under


def lazy(**tensors: Tensor) -> dict[str, LazyTensor]:
    return {name.replace("__", "."): LazyTensor.of(tensor) for name, tensor in tensors.items()}


class Sizes(Config):
    rows: int
    columns: int


class Network(nn.Sequential):
    def __init__(self, config: Sizes) -> None:
        super().__init__(nn.Linear(config.columns, config.rows))


def imported(
    theirs: dict[str, LazyTensor], rows: int, columns: int, names: Names | None, **more: Any
) -> ForeignNetwork:
    """`theirs` as the tensors of a linear layer."""
    return foreign_network(Network, Sizes(rows=rows, columns=columns), theirs, names, "file", **more)


def test_parts_are_joined_along_the_rows_and_cut_again() -> None:
    theirs = lazy(q__weight=torch.randn(4, 3).half(), k__weight=torch.randn(4, 3).half(), q__bias=torch.randn(4),
                  k__bias=torch.randn(4))  # fmt: skip
    names = under("", "", {"0": ("q", "k")})
    ours = imported(theirs, 8, 3, names).weights.tensors
    assert ours["0.weight"].dtype == torch.float16
    assert torch.equal(ours["0.weight"].read(), torch.cat([theirs["q.weight"].read(), theirs["k.weight"].read()]))
    back = to_theirs(ours, names, "file")
    assert back.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(back[name].read(), value.read())
        assert (back[name].shape, back[name].dtype) == (value.shape, value.dtype)


@pytest.mark.parametrize(
    ("source", "order"),
    [
        # 2 tokens of 3 channels: theirs c0t0 c0t1 c1t0 ..., ours t0c0 t0c1 t0c2 t1c0 ...
        (tokens("x", 2), [0, 2, 4, 1, 3, 5]),
        # 2 heads of q, k and v, one row each: theirs q0 k0 v0 q1 k1 v1, ours q0 q1 k0 k1 v0 v1.
        (heads("x", 3, 1), [0, 3, 1, 4, 2, 5]),
    ],
)
def test_layouts(source: Origin, order: list[int]) -> None:
    theirs = lazy(x__weight=torch.arange(12.0).view(6, 2), x__bias=torch.arange(6.0))
    ours = imported(theirs, 6, 2, {"0": source}).weights.tensors
    assert ours["0.bias"].read().tolist() == order
    assert torch.equal(ours["0.weight"].read(), theirs["x.weight"].read()[order])
    for name, value in to_theirs(ours, {"0": source}, "file").items():
        assert torch.equal(value.read(), theirs[name].read())


def test_heads_of_several_rows() -> None:
    theirs = torch.tensor([[part, head, index] for head in range(2) for part in range(3) for index in range(4)])
    expected = torch.tensor([[part, head, index] for part in range(3) for head in range(2) for index in range(4)])
    assert torch.equal(heads("x", 3, 4).to_ours(theirs), expected)


def test_a_row_becomes_a_vector_and_a_convolution_over_pixels_a_matrix() -> None:
    theirs = lazy(w=torch.randn(2, 3, 1, 1), b=torch.randn(1, 2))
    names: Names = {"0.weight": "w", "0.bias": row("b")}
    ours = imported(theirs, 2, 3, names).weights.tensors
    assert torch.equal(ours["0.weight"].read(), theirs["w"].read()[:, :, 0, 0])
    assert torch.equal(ours["0.bias"].read(), theirs["b"].read()[0])
    assert torch.equal(to_theirs(ours, names, "file")["b"].read(), theirs["b"].read())


def test_without_a_table_shapes_must_be_the_same() -> None:
    theirs = lazy(**{"0__weight": torch.randn(2, 3), "0__bias": torch.randn(2)})
    assert imported(theirs, 2, 3, None).weights.tensors.keys() == theirs.keys()
    theirs |= lazy(**{"0__weight": torch.randn(2, 3, 1, 1)})
    with pytest.raises(CheckpointError, match=r"has shape \(2, 3, 1, 1\), which does not make the \(2, 3\)"):
        imported(theirs, 2, 3, None)


def test_constants_are_added_and_must_hold_on_the_way_back() -> None:
    constants = {"0.bias": torch.zeros(2)}
    ours = imported(lazy(w=torch.randn(2, 3)), 2, 3, {"0.weight": "w"}, constants=constants).weights.tensors
    assert to_theirs(ours, {"0.weight": "w"}, "file", constants=constants).keys() == {"w"}
    changed = dict(ours) | lazy(**{"0__bias": torch.ones(2)})
    with pytest.raises(CheckpointError, match=r"0\.bias"):
        to_theirs(changed, {"0.weight": "w"}, "file", constants=constants)


def test_what_is_dropped_has_a_reason_and_the_rest_is_refused() -> None:
    theirs = lazy(w=torch.randn(2, 3), b=torch.randn(2), table=torch.randn(4))
    names = {"0.weight": "w", "0.bias": "b"}
    found = imported(theirs, 2, 3, names, dropped={"tab": "computed here"})
    assert found.dropped == {"table": "computed here"}
    with pytest.raises(CheckpointError, match="file: tensor 'table' is left over"):
        imported(theirs, 2, 3, names)
    del theirs["table"], theirs["b"]
    with pytest.raises(CheckpointError, match="file: tensor 'b' is missing"):
        imported(theirs, 2, 3, names)
    theirs |= lazy(b=torch.randn(3))
    with pytest.raises(CheckpointError, match=r"tensor 'b' has shape \(3,\), which does not make the \(2,\)"):
        imported(theirs, 2, 3, names)
