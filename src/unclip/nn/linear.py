"""The linear layer of all networks, whose results do not depend on the settings of the process.

A process may let float32 products run in bfloat16 (`torch.set_float32_matmul_precision`, or its newer names), and the
library neither changes that switch nor follows it when it samples on a CPU.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

# MKL sums 5 to 11 rows, but not 8, in an order that depends on the number of threads (torch 2.13, 1 to 4 threads).
_FEW_ROWS, _ROWS = 12, 4


def exact_type(x: Tensor) -> torch.dtype:
    """Return the type in which a product of `x` is as exact as its own type.

    Outside of training that is float64 for float32 on a CPU if the process has narrowed float32 products; else it is
    the type of `x`.
    """
    return torch.float64 if _is_float32_inference(x) and _is_narrowed() else x.dtype


class Linear(nn.Linear):
    """A linear layer that computes in the type of its input, with the precision of that type.

    Parameters of fewer bits than a float64 input are widened for the product. On a CPU, outside of training, float32
    results depend neither on how the process treats float32 products nor on its number of threads.
    """

    def forward(self, input: Float[Tensor, "*batch in_dim"]) -> Float[Tensor, "*batch out_dim"]:
        """Multiply by the weight and add the bias, in the type of `input`."""
        dtype = exact_type(input)
        if dtype == torch.float64:
            bias = None if self.bias is None else self.bias.double()
            return F.linear(input.double(), self.weight.double(), bias).to(input.dtype)
        rows = input.numel() // max(input.shape[-1], 1)
        if _is_float32_inference(input) and rows < _FEW_ROWS and rows % _ROWS and rows > _ROWS:
            padded = F.pad(input.reshape(rows, -1), (0, 0, 0, -rows % _ROWS))
            return F.linear(padded, self.weight, self.bias)[:rows].reshape(*input.shape[:-1], -1)
        return F.linear(input, self.weight, self.bias)


def _is_float32_inference(x: Tensor) -> bool:
    return (
        x.dtype == torch.float32
        and x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def _is_narrowed() -> bool:
    try:
        return torch.get_float32_matmul_precision() != "highest"
    except RuntimeError:
        # The process uses the newer names of the switch, which torch does not mix with the older one.
        return True
