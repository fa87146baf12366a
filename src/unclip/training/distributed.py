"""Several processes that train one network. The only place that knows torch.distributed, DDP, FSDP and launchers."""

import copy
import gc
import importlib
import inspect
import os
import re
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.nn.parallel import DistributedDataParallel

from unclip.checkpoint import LazyTensor
from unclip.errors import ConfigError, TrainingError, UnclipError
from unclip.runtime import resolve_device
from unclip.training.config import Strategy
from unclip.training.memory import sharded_blocks
from unclip.training.optimizer import is_sharded, sharded_like, whole

T = TypeVar("T")

BROADCAST_ROWS = 4096
"""Rows of a table that travel together."""


class Cluster:
    """The processes of a run, seen from one of them. A run of one process needs no launcher and no network."""

    def __init__(self, rank: int, size: int, device: torch.device) -> None:
        self.rank, self.size, self.device = rank, size, device
        self._mesh: DeviceMesh | None = None

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def build(self, make: Callable[[], nn.Module], strategy: Strategy) -> nn.Module:
        """The network that `make` returns on the CPU, on this process's device; in shards where the strategy says so.

        A sharded one is never whole on a device: it is built without memory, cut, and then filled tensor by tensor with
        the weights of the first process, the only one that makes them.
        """
        if not self._shards(strategy):
            return make().to(self.device)
        tensors = _tensors(make()) if self.is_first else {}
        network = self._empty(make, strategy)
        for name, tensor in _tensors(network).items():
            value = tensors[name] if self.is_first else torch.empty(tensor.shape, dtype=tensor.dtype)
            tensor.copy_(sharded_like(tensor, self._broadcast(value)))
        return network

    def copy(self, network: nn.Module, make: Callable[[], nn.Module], strategy: Strategy) -> nn.Module:
        """A copy of what `build` returned, cut in the same way."""
        if not self._shards(strategy):
            return copy.deepcopy(network)
        copied = self._empty(make, strategy)
        for ours, theirs in zip(_tensors(copied).values(), _tensors(network).values(), strict=True):
            ours.copy_(theirs)
        return copied

    def wrap(self, network: nn.Module, strategy: Strategy) -> nn.Module:
        """What is called instead of `network` so that its gradient becomes the mean over the processes."""
        if self.size == 1 or self._shards(strategy):
            return network
        # Buffers are statistics that every process sets alike; torch 2.13 renamed the switch.
        known = inspect.signature(DistributedDataParallel.__init__).parameters
        switch = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        options: dict[str, Any] = {switch: False}
        if self.device.type == "cuda":
            options["device_ids"] = [self.device.index]
        return DistributedDataParallel(network, **options)

    def _shards(self, strategy: Strategy) -> bool:
        return self.size > 1 and strategy != "ddp"

    def _empty(self, make: Callable[[], nn.Module], strategy: Strategy) -> nn.Module:
        """A sharded network on this process's device whose weights are not set yet."""
        from torch.distributed.fsdp import fully_shard

        if self._mesh is None:
            self._mesh = init_device_mesh(self.device.type, (self.size,))
        # Single numbers, such as CLIP's temperature, cannot be cut: every process keeps them whole.
        with torch.device("meta"):
            network = make()
        scalars = {parameter for parameter in network.parameters() if parameter.ndim == 0}
        options: dict[str, Any] = {
            "mesh": self._mesh,
            "reshard_after_forward": strategy == "fsdp",
            "ignored_params": scalars,
        }
        for block in sharded_blocks(network):
            fully_shard(block, **options)
        fully_shard(network, **options)
        return network.to_empty(device=self.device)

    def exchange(self, wrapped: nn.Module, is_last: bool) -> None:
        """Say before a backward pass whether gradients are exchanged in it, or only added up in this process.

        FSDP exchanges them in every pass: what it adds up in a process would be whole gradients.
        """
        if isinstance(wrapped, DistributedDataParallel):
            wrapped.require_backward_grad_sync = is_last

    def finish_gradients(self, wrapped: nn.Module) -> None:
        """Average the gradients that FSDP leaves alone."""
        if self.size == 1 or isinstance(wrapped, DistributedDataParallel):
            return
        for parameter in wrapped.parameters():
            if not is_sharded(parameter) and parameter.grad is not None:
                parameter.grad.copy_(self.mean(parameter.grad))

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the processes, the same in all of them, where `values` are."""
        if self.size == 1:
            return values
        # Backends exchange what lies on their own device.
        total = values.to(self.device, copy=True)
        dist.all_reduce(total)
        return (total / self.size).to(values.device)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in one of the processes."""
        return flag if self.size == 1 else bool(self.mean(torch.tensor(float(flag))) > 0)

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all processes in the order of their ranks; every process brings equally many."""
        if self.size == 1:
            return rows
        parts = [torch.empty_like(rows) for _ in range(self.size)]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    def tell(self, value: Any) -> Any:
        """The first process's value, in all of them; it must be what JSON can say."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def by_first(self, work: Callable[[], T]) -> T | None:
        """The result of work that the first process alone does; None in the others.

        Its failure is raised in all of them, and none runs ahead of it.
        """
        result, failure = None, ""
        try:
            result = work() if self.is_first else None
        except UnclipError as error:
            if self.size == 1:
                raise
            failure = str(error)
        failure = self.tell(failure)
        if failure:
            raise TrainingError(failure)
        return result

    def write(self, tensors: Mapping[str, Tensor], save: Callable[[dict[str, LazyTensor]], object]) -> None:
        """Call `save` in the first process, with whole copies on the CPU of tensors that may be sharded.

        Each is gathered when it is read, so that memory holds one of them. Fails as `by_first`.
        """
        sharded = {name for name, tensor in tensors.items() if is_sharded(tensor)}

        def read(name: str) -> Tensor:
            # All processes gather a tensor together: the others wait for the name of the next.
            if name in sharded:
                self.tell(name)
            return whole(tensors[name]).detach().cpu()

        def lead() -> None:
            try:
                save({name: _lazy(tensor, partial(read, name)) for name, tensor in tensors.items()})
            finally:
                if sharded:
                    self.tell(None)

        if sharded and not self.is_first:
            while (name := self.tell(None)) is not None:
                whole(tensors[name])
        self.by_first(lead)

    def spread(self, tensors: Mapping[str, Tensor], like: Callable[[str], Tensor | None]) -> dict[str, Tensor]:
        """The first process's tensors in all processes, each on the device of the tensor that `like` returns for its
        name, and cut as that one is; on the CPU where it returns None.
        """
        layout = self.tell([(name, list(value.shape), str(value.dtype)) for name, value in tensors.items()])
        spread: dict[str, Tensor] = {}
        for name, shape, dtype in layout:
            value = tensors[name] if self.is_first else torch.empty(shape, dtype=_dtype(dtype))
            value, pattern = self._broadcast(value), like(name)
            spread[name] = value.cpu() if pattern is None else sharded_like(pattern, value.to(pattern.device))
        return spread

    def broadcast(self, rows: Tensor | None) -> Tensor | None:
        """The first process's rows on the CPU, or None, in all processes. A device holds some megabytes of them."""
        if self.size == 1:
            return rows
        layout = self.tell(None if rows is None else (list(rows.shape), str(rows.dtype)))
        if layout is None:
            return None
        if rows is None:
            rows = torch.empty(layout[0], dtype=_dtype(layout[1]))
        for block in rows.split(BROADCAST_ROWS):
            received = self._broadcast(block)
            if not self.is_first:
                block.copy_(received)
        return rows

    def leave(self) -> None:
        """Close the connections to the other processes.

        Threads of connections that something still holds abort the process now and then at its exit.
        """
        gc.collect()  # sharded networks refer to themselves
        # Meshes stay in the caches of torch's sharded tensors for ever; their groups must not.
        getattr(self._mesh, "_pg_registry", {}).clear()
        dist.destroy_process_group()

    def _broadcast(self, value: Tensor) -> Tensor:
        if self.size == 1:
            return value
        moved = value.detach().to(self.device).contiguous()
        dist.broadcast(moved, src=0)
        return moved


@contextmanager
def join(device: str = "auto") -> Iterator[Cluster]:
    """The processes that `torchrun` or `accelerate launch` started; one process alone without them.

    Each takes the GPU of its local rank. Raises `ConfigError` when the launcher was told what recipes decide.
    """
    _refuse_launcher_settings()
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Cluster(0, 1, resolve_device(device))
        return
    chosen = resolve_device(device)
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(chosen)
    _import_before_connecting()
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    cluster = Cluster(dist.get_rank(), size, chosen)
    with warnings.catch_warnings():
        # Of parameters with sides of 1, whose strides say nothing.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        # Of blocks that return a view, which nobody changes.
        warnings.filterwarnings("ignore", "FSDP2-wrapped module")
        try:
            with connection_errors():
                yield cluster
        finally:
            cluster.leave()


@contextmanager
def connection_errors() -> Iterator[None]:
    """Raise `TrainingError` for errors of a lost connection, with their reason; others stay what they are."""
    try:
        yield
    except BaseException as error:
        # What holds connections, such as DDP, must be gone before they are closed, or the process never ends.
        traceback.clear_frames(error.__traceback__)
        if not _is_broken_connection(error):
            raise
        raise TrainingError(
            f"another process of the run has ended or does not answer ({_reason(error)}); give the same command "
            "again, which goes on from the newest checkpoint."
        ) from None


def _import_before_connecting() -> None:
    """Import what keeps the processes' group for ever as a default argument, when it is first imported with one there.

    Seen in torch 2.13, whose DDP and FSDP import these when they are first used.
    """
    for name in ("torch.distributed.fsdp", "torch.distributed.nn.functional"):
        importlib.import_module(name)


# What the sockets of gloo, NCCL and torch's store say of another process that is gone or silent. NCCL's other failures
# (out of memory, versions that differ, two processes on one GPU) are this process's own.
_BROKEN = re.compile(
    r"connection (closed by peer|reset by peer|refused|timed out|was likely closed)|broken pipe|socket closed"
    r"|timed out (waiting|after)|wait timeout|collective operation timeout"
    r"|remote process exited or there was a network error|ncclRemoteError",
    re.IGNORECASE,
)


def _is_broken_connection(error: BaseException) -> bool:
    """Whether an exchange failed; in the middle of a backward pass, backends raise plain `RuntimeError`s."""
    is_network = isinstance(error, dist.DistNetworkError)
    return is_network or (isinstance(error, RuntimeError) and _BROKEN.search(str(error)) is not None)


def _reason(error: BaseException) -> str:
    """The line of an error's text that says what broke, without the place in torch's sources."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    line = next((line for line in lines if _BROKEN.search(line)), lines[0])
    return re.sub(r"^\[[^]]*\]\s*", "", line).rstrip(".")


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    """All that a network holds, by name, without gradients."""
    named = chain(network.named_parameters(), network.named_buffers())
    return {name: tensor.detach() for name, tensor in named}


def _dtype(name: str) -> torch.dtype:
    """The type that prints as `name`."""
    dtype: torch.dtype = getattr(torch, name.removeprefix("torch."))
    return dtype


def _lazy(tensor: Tensor, read: Callable[[], Tensor]) -> LazyTensor:
    return LazyTensor(tuple(tensor.shape), tensor.dtype, read)


def _refuse_launcher_settings() -> None:
    """`accelerate` asks by variables for what a recipe says; silently ignoring them would train something else."""
    for name, setting in {"ACCELERATE_USE_FSDP": "fsdp", "ACCELERATE_USE_DEEPSPEED": "fsdp"}.items():
        if os.environ.get(name, "false").lower() in {"1", "true"}:
            raise ConfigError(
                f"{name} is set by the launcher, but recipes decide that; drop it and use --set strategy={setting}."
            )
    named = {
        "mixed_precision": ("no", "precision"),
        "dynamo_backend": ("no", "compile"),
        "gradient_accumulation_steps": ("1", "micro_batch_size"),
    }
    for name, (off, setting) in named.items():
        found = os.environ.get(f"ACCELERATE_{name.upper()}", off)
        if found.lower() != off:
            raise ConfigError(
                f"accelerate was told {name}={found}, but recipes decide that; drop it and use --set {setting}=..."
            )
    # On CPUs, accelerate 1.15 starts one process whatever the number asked for, unless through mpirun, and sets this.
    if (
        os.environ.get("ACCELERATE_USE_CPU") == "True"
        and "MASTER_ADDR" in os.environ
        and "WORLD_SIZE" not in os.environ
    ):
        raise ConfigError(
            "accelerate launch --cpu starts no processes that know each other; use torchrun --nproc-per-node N, or "
            "accelerate launch --multi_gpu --num_processes N with --device cpu."
        )
