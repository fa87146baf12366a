"""Count the bytes that a forward pass keeps for the backward pass of a GPU, on any device."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from unclip.training.memory import sharded_blocks


class SavedBytes(NamedTuple):
    """What one forward pass leaves in memory until the backward pass, without the weights themselves."""

    everything: int
    """Bytes of all saved tensors."""
    checkpointed: int
    """Bytes when blocks are computed again: their inputs, the largest block's own, and what lies between blocks."""


def count_saved(network: nn.Module, forward: Callable[[], Any], left_out: Iterable[Tensor] = ()) -> SavedBytes:
    """Count the bytes that `forward`, a call of `network` with gradients, saves, each storage once.

    Weights, buffers and `left_out` (read after the call) are not counted. On meta nothing is computed.
    """
    # By id; they are kept, so that no two of them share one.
    storages: dict[int, torch.UntypedStorage] = {}
    outside, inputs, blocks = set[int](), set[int](), list[set[int]]()
    current = outside

    def add(tensor: Tensor, ids: set[int]) -> Tensor:
        storage = tensor.untyped_storage()
        storages[id(storage)] = storage
        ids.add(id(storage))
        return tensor

    def enter(module: nn.Module, args: tuple[Any, ...]) -> None:
        nonlocal current
        current = set()
        blocks.append(current)
        for arg in args:
            if isinstance(arg, Tensor):
                add(arg, inputs)

    def leave(module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
        nonlocal current
        current = outside

    with ExitStack() as stack:
        for block in sharded_blocks(network):
            stack.callback(block.register_forward_pre_hook(enter).remove)
            stack.callback(block.register_forward_hook(leave).remove)
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(lambda tensor: add(tensor, current), lambda x: x))
        forward()
    known = {id(tensor.untyped_storage()) for tensor in (*network.parameters(), *network.buffers(), *left_out)}

    def total(ids: set[int]) -> int:
        return sum(storages[key].nbytes() for key in ids - known)

    kept = outside | inputs
    largest = max((total(block - kept) for block in blocks), default=0)
    return SavedBytes(total(outside.union(*blocks)), total(kept) + largest)


class GpuAutocast(TorchFunctionMode):
    """What torch.autocast, fused attention and fused dropout do to types on a GPU, for tensors on meta.

    Matrix products and convolutions compute in `dtype`, with one copy of each weight a step; normalisation in float32.
    Attention saves its operands, its result and one number per query. Meta tensors have no autocast of their own, and
    their attention would save a matrix of queries and keys that no GPU kernel writes.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.copies: dict[Tensor, Tensor] = {}
        """The copy of each weight."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run `func` on arguments of the type that autocast would give it."""
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            q, k, v = map(self._narrow, args)
            return _FusedAttention.apply(q, k, v, kwargs.get("attn_mask"))  # type: ignore[no-untyped-call]
        if func is F.dropout:
            return _dropout(*args, **kwargs)
        if func in _PRODUCTS or (func in _NORMS and self.dtype != torch.float32):
            cast = self._narrow if func in _PRODUCTS else lambda value: _cast(value, torch.float32)
            args, kwargs = tuple(map(cast, args)), {name: cast(value) for name, value in kwargs.items()}
        return func(*args, **kwargs)

    def _narrow(self, value: Any) -> Any:
        if not isinstance(value, nn.Parameter) or value.dtype == self.dtype:
            return _cast(value, self.dtype)
        if value not in self.copies:
            self.copies[value] = value.to(self.dtype)
        return self.copies[value]


_PRODUCTS = {F.linear, F.conv2d, torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm}
_NORMS = {F.group_norm, F.layer_norm}


def _cast(value: Any, dtype: torch.dtype) -> Any:
    is_wrong = isinstance(value, Tensor) and value.is_floating_point() and value.dtype != dtype
    return value.to(dtype) if is_wrong else value


def _dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    # As the fused kernel, this keeps a mask of a byte per number.
    return x.masked_fill(torch.empty_like(x, dtype=torch.bool), 0.0) if training and p else x


class _FusedAttention(torch.autograd.Function):
    """The result's shape, and what flash attention saves; a mask is kept in the type of the queries."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        batch, heads, queries, _ = q.shape
        # The kernels write (batch, queries, heads, channels), so that joining the heads again copies nothing.
        out = q.new_empty(batch, queries, heads, v.shape[-1]).transpose(1, 2)
        extra = [] if mask is None else [mask.to(q.dtype)]
        ctx.save_for_backward(q, k, v, out, q.new_empty(q.shape[:-1], dtype=torch.float32), *extra)
        return out
