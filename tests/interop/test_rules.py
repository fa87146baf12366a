"""Tables of names move tensors both ways, by layouts that are described in words here; what does not fit is refused."""

import pytest
import torch
from torch import Tensor, nn

from unclip.checkpoint import LazyTensor
from unclip.errors import CheckpointError
from unclip.interop.rules import Names, Origin, heads, row, to_ours, to_theirs, tokens, under


def lazy(**tensors: Tensor) -> dict[str, LazyTensor]:
    return {name.replace("__", "."): LazyTensor.of(tensor) for name, tensor in tensors.items()}


def network(rows: int, columns: int) -> nn.Module:
    return nn.Sequential(nn.Linear(columns, rows))


def test_parts_are_joined_along_the_rows_and_cut_again() -> None:
    theirs = lazy(q__weight=torch.randn(4, 3).half(), k__weight=torch.randn(4, 3).half(), q__bias=torch.randn(4),
                  k__bias=torch.randn(4))  # fmt: skip
    names = under("", "", {"0": ("q", "k")})
    ours = to_ours(theirs, lambda: network(8, 3), names, "file").tensors
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
    ours = to_ours(theirs, lambda: network(6, 2), {"0": source}, "file").tensors
    assert ours["0.bias"].read().tolist() == order
    assert torch.equal(ours["0.weight"].read(), theirs["x.weight"].read()[order])
    for name, value in to_theirs(ours, {"0": source}, "file").items():
        assert torch.equal(value.read(), theirs[name].read())


def test_heads_of_several_rows() -> None:
    theirs = torch.tensor([[part, head, index] for head in range(2) for part in range(3) for index in range(4)])
    expected = torch.tensor([[part, head, index] for part in range(3) for head in range(2) for index in range(4)])
    assert torch.equal(heads("x", 3, 4).layout.to_ours(theirs), expected)


def test_a_row_becomes_a_vector_and_a_convolution_over_pixels_a_matrix() -> None:
    theirs = lazy(w=torch.randn(2, 3, 1, 1), b=torch.randn(1, 2))
    names: Names = {"0.weight": "w", "0.bias": row("b")}
    ours = to_ours(theirs, lambda: network(2, 3), names, "file").tensors
    assert torch.equal(ours["0.weight"].read(), theirs["w"].read()[:, :, 0, 0])
    assert torch.equal(ours["0.bias"].read(), theirs["b"].read()[0])
    assert torch.equal(to_theirs(ours, names, "file")["b"].read(), theirs["b"].read())


def test_constants_are_added_and_must_hold_on_the_way_back() -> None:
    constants = {"0.bias": torch.zeros(2)}
    ours = to_ours(lazy(w=torch.randn(2, 3)), lambda: network(2, 3), {"0.weight": "w"}, "file", constants=constants)
    assert to_theirs(ours.tensors, {"0.weight": "w"}, "file", constants=constants).keys() == {"w"}
    changed = ours.tensors | lazy(**{"0__bias": torch.ones(2)})
    with pytest.raises(CheckpointError, match=r"0\.bias"):
        to_theirs(changed, {"0.weight": "w"}, "file", constants=constants)


def test_what_is_dropped_has_a_reason_and_the_rest_is_refused() -> None:
    theirs = lazy(w=torch.randn(2, 3), b=torch.randn(2), table=torch.randn(4))
    names = {"0.weight": "w", "0.bias": "b"}
    found = to_ours(theirs, lambda: network(2, 3), names, "file", dropped={"tab": "computed here"})
    assert found.dropped == {"table": "computed here"}
    with pytest.raises(CheckpointError, match="file: tensor 'table' is left over"):
        to_ours(theirs, lambda: network(2, 3), names, "file")
    del theirs["table"], theirs["b"]
    with pytest.raises(CheckpointError, match="file: tensor 'b' is missing"):
        to_ours(theirs, lambda: network(2, 3), names, "file")
    theirs |= lazy(b=torch.randn(3))
    with pytest.raises(CheckpointError, match=r"tensor 'b' has shape \(3,\), which does not make the \(2,\)"):
        to_ours(theirs, lambda: network(2, 3), names, "file")
