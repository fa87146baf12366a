"""What every comparison of a network with its peer needs: weights that hide nothing, carried over by name."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from unclip.checkpoint import LazyTensor
from unclip.interop.rules import Names as Table
from unclip.interop.rules import foreign_network, to_theirs

Names = Mapping[str, str | tuple[str, ...]]


def fill(*modules: nn.Module, std: float = 0.1) -> None:
    """Noise on every parameter: what starts as zero or one would hide a wrong name."""
    with torch.no_grad():
        for module in modules:
            for parameter in module.eval().parameters():
                parameter.add_(std * torch.randn_like(parameter))


def carry_over(ours: nn.Module, theirs: Mapping[str, Tensor], names: Names) -> set[str]:
    """Load `theirs` into `ours`; every tensor of both must be used. Returns the names that were not needed.

    A name is that of a parameter or of its module; a tuple is joined along the rows.
    """
    state, left, unused = {}, dict(theirs), set(names)
    for key, value in ours.state_dict().items():
        module, _, leaf = key.rpartition(".")
        known, suffix = (key, "") if key in names else (module, f".{leaf}")
        sources = (names[known],) if isinstance(names[known], str) else names[known]
        state[key] = torch.cat([left.pop(f"{source}{suffix}") for source in sources]).reshape(value.shape)
        unused.discard(known)
    assert left == {}
    ours.load_state_dict(state)
    return unused


def lazy(state: Mapping[str, Tensor]) -> dict[str, LazyTensor]:
    """A state dict as importers get it."""
    return {name: LazyTensor.of(tensor) for name, tensor in state.items()}


def read(tensors: Mapping[str, LazyTensor]) -> dict[str, Tensor]:
    """What importers give as a state dict."""
    return {name: tensor.read() for name, tensor in tensors.items()}


def same(actual: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """The same names, and under each the same shape and bits."""
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(actual[name], tensor), name


def translate(
    ours: nn.Module,
    theirs: Mapping[str, Tensor],
    names: Table,
    constants: Mapping[str, Tensor] | None = None,
    dropped: Mapping[str, str] | None = None,
) -> None:
    """Load `theirs` into `ours` by a table; what is not dropped must come back bit for bit."""
    weights, left = foreign_network(
        type(ours), ours.config, lazy(theirs), names, "", constants=constants, dropped=dropped
    )
    ours.load_state_dict(read(weights.tensors))
    back = read(to_theirs(weights.tensors, names, "", constants=constants))
    same(back, {name: tensor for name, tensor in theirs.items() if name not in left})


def close(actual: Tensor, expected: Tensor) -> None:
    """Within 1e-5 of each number and of the standard deviation, which must not vanish."""
    assert expected.std() > 0.1
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5 * expected.std().item())
