"""What every comparison of a network with its peer needs: weights that hide nothing, carried over by name."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

Names = Mapping[str, str | tuple[str, ...]]


def fill(*modules: nn.Module) -> None:
    """Noise on every parameter: what starts as zero or one would hide a wrong name."""
    with torch.no_grad():
        for module in modules:
            for parameter in module.eval().parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))


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


def close(actual: Tensor, expected: Tensor) -> None:
    """Within 1e-5 of each number and of the standard deviation, which must not vanish."""
    assert expected.std() > 0.1
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5 * expected.std().item())
