"""Bytes that a forward pass keeps for the way back, counted on any device. Knows autograd; no task and no loop."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from unclip.training.memory import sharded_blocks


class SavedBytes(NamedTuple):
    """What one forward pass leaves in memory until the way back, without the weights themselves."""

    everything: int
    """Bytes of all saved tensors."""
    checkpointed: int
    """Bytes when blocks are computed again: their inputs, the largest block's own, and what lies between blocks."""


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
        if func in _PRODUCTS:
            args, kwargs = _mapped(self._narrow, args, kwargs)
        elif func in _NORMS and self.dtype != torch.float32:
            args, kwargs = _mapped(lambda value: _cast(value, torch.float32), args, kwargs)
        elif func is F.scaled_dot_product_attention:
            q, k, v = map(self._narrow, args)
            return _FusedAttention.apply(q, k, v, kwargs.get("attn_mask"))  # type: ignore[no-untyped-call]
        elif func is F.dropout:
            return _dropout(*args, **kwargs)
        return func(*args, **kwargs)

    def _narrow(self, value: Any) -> Any:
        if not isinstance(value, nn.Parameter):
            return _cast(value, self.dtype)
        if value.dtype == self.dtype:
            return value
        if value not in self.copies:
            self.copies[value] = value.to(self.dtype)
        return self.copies[value]


_PRODUCTS = {F.linear, F.conv2d, torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm}
_NORMS = {F.group_norm, F.layer_norm}


def _dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """The fused kernel's memory; nothing is kept where nothing is dropped."""
    if not (training and p):
        return x
    dropped: Tensor = _FusedDropout.apply(x)  # type: ignore[no-untyped-call]
    return dropped


def _cast(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


def _mapped(
    change: Callable[[Any], Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return tuple(map(change, args)), {name: change(value) for name, value in kwargs.items()}


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


class _FusedDropout(torch.autograd.Function):
    """The input's shape, and a mask of a byte per number."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(torch.empty_like(x, dtype=torch.bool))
        return torch.empty_like(x)


def count_saved(network: nn.Module, forward: Callable[[], Any], left_out: Iterable[Tensor] = ()) -> SavedBytes:
    """Bytes that `forward`, a call of `network` with gradients, saves, each storage once.

    Weights, buffers and `left_out` (read after the call) are not counted. On meta nothing is computed.
    """
    book = _Book()
    with torch.autograd.graph.saved_tensors_hooks(book.note, lambda tensor: tensor), book.watching(network):
        result = forward()
    del result
    known = [*network.parameters(), *network.buffers(), *left_out]
    return book.close({id(tensor.untyped_storage()) for tensor in known})


class _Book:
    """Who saved which storage. Storages are kept, so that no two of them share an id."""

    def __init__(self) -> None:
        self.open = 0  # the number of the block that runs; 0 outside of blocks
        self.saved: list[dict[int, torch.UntypedStorage]] = [{}]  # outside of blocks first, then one per block
        self.inputs: dict[int, torch.UntypedStorage] = {}

    def note(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        self.saved[self.open][id(storage)] = storage
        return tensor

    def enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self.saved.append({})
        self.open = len(self.saved) - 1
        storages = [arg.untyped_storage() for arg in args if isinstance(arg, Tensor)]
        self.inputs |= {id(storage): storage for storage in storages}

    def leave(self, module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
        self.open = 0

    @contextmanager
    def watching(self, network: nn.Module) -> Iterator[None]:
        blocks = sharded_blocks(network)
        handles = [block.register_forward_pre_hook(self.enter) for block in blocks]
        handles += [block.register_forward_hook(self.leave) for block in blocks]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def close(self, known: set[int]) -> SavedBytes:
        everything = {key: storage for saved in self.saved for key, storage in saved.items()}
        kept = self.saved[0] | self.inputs
        largest = max((_bytes(block, known | kept.keys()) for block in self.saved[1:]), default=0)
        return SavedBytes(_bytes(everything, known), _bytes(kept, known) + largest)


def _bytes(storages: dict[int, torch.UntypedStorage], known: set[int]) -> int:
    return sum(storage.nbytes() for key, storage in storages.items() if key not in known)
