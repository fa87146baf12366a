"""Train one network in several processes: the only file that knows torch.distributed, DDP, FSDP and launchers."""

import copy
import gc
import importlib
import inspect
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
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

T = TypeVar("T")

BROADCAST_ROWS = 4096
"""Rows of a table that are broadcast at a time."""


@contextmanager
def init_cluster(device: str = "auto") -> Iterator["Cluster"]:
    """Connect the processes that `torchrun` or `accelerate launch` started; without them, yield a single process.

    Each takes the GPU of its local rank. Raises `ConfigError` for launcher settings that recipes decide.
    """
    _refuse_launcher_settings()
    size = int(os.environ.get("WORLD_SIZE", "1"))
    chosen = resolve_device(device)
    if size == 1:
        yield Cluster(0, 1, chosen)
        return
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(chosen)
    # Imported with a process group, these keep it for ever as a default argument; DDP and FSDP of torch 2.13 import
    # them at first use.
    for name in ("torch.distributed.fsdp", "torch.distributed.nn.functional"):
        importlib.import_module(name)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    cluster = Cluster(dist.get_rank(), size, chosen)
    with warnings.catch_warnings():
        # Parameters with sides of 1 have strides that say nothing.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        # Some blocks return a view, which nobody changes.
        warnings.filterwarnings("ignore", "FSDP2-wrapped module")
        try:
            with connection_errors():
                yield cluster
        finally:
            # Threads of connections that something still references abort the process now and then at its exit.
            gc.collect()  # sharded networks refer to themselves
            # Caches of torch's sharded tensors keep meshes for ever; torch has no public way to let their groups go.
            getattr(cluster.mesh, "_pg_registry", {}).clear()
            dist.destroy_process_group()


def launcher_share(device: str) -> tuple[tuple[int, int], str]:
    """Return (rank, number of processes) as torchrun sets them, and for "auto" the GPU of the local rank, if any."""
    share = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = os.environ.get("LOCAL_RANK")
    has_gpu = device == "auto" and local_rank is not None and torch.cuda.is_available()
    return share, f"cuda:{local_rank}" if has_gpu else device


class Cluster:
    """The processes of a run, seen from one of them. A run of one process needs no launcher and no network."""

    def __init__(self, rank: int, size: int, device: torch.device) -> None:
        self.rank, self.size, self.device = rank, size, device
        self.mesh: DeviceMesh | None = None

    @property
    def is_rank_zero(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def build(
        self, make: Callable[[], nn.Module], strategy: Strategy, methods: Sequence[str] = (), num_copies: int = 0
    ) -> list[nn.Module]:
        """Put the network that `make` returns on the CPU on this process's device, sharded where the strategy says so.

        Returns it and `num_copies` copies. A sharded one is never whole on a device: it is built on the meta device,
        sharded, and then filled tensor by tensor with the weights of rank 0, the only process that makes them.
        `methods` are called besides `forward`.
        """
        if not self._shards(strategy):
            network = make().to(self.device)
            return [network, *(copy.deepcopy(network) for _ in range(num_copies))]
        weights = _tensors(make()) if self.is_rank_zero else {}
        networks = [self._build_empty(make, strategy, methods) for _ in range(1 + num_copies)]
        for name, *tensors in zip(_tensors(networks[0]), *(_tensors(n).values() for n in networks), strict=True):
            first = tensors[0]
            value = weights[name] if self.is_rank_zero else torch.empty(first.shape, dtype=first.dtype)
            part = shard_like(first, self._broadcast(value))
            for tensor in tensors:
                tensor.copy_(part)
        return networks

    def wrap(self, network: nn.Module, strategy: Strategy) -> nn.Module:
        """Return what is called instead of `network` so that its gradient becomes the mean over the processes."""
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

    def _build_empty(self, make: Callable[[], nn.Module], strategy: Strategy, methods: Sequence[str]) -> nn.Module:
        """Build a sharded network on this process's device whose weights are not set yet."""
        from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

        if self.mesh is None:
            self.mesh = init_device_mesh(self.device.type, (self.size,))
        with torch.device("meta"):
            network = make()
        options: dict[str, Any] = {
            "mesh": self.mesh,
            "reshard_after_forward": strategy == "fsdp",
            # FSDP2 shards no scalar, such as CLIP's temperature: every process keeps it whole.
            "ignored_params": {parameter for parameter in network.parameters() if parameter.ndim == 0},
        }
        for block in sharded_blocks(network):
            fully_shard(block, **options)
        fully_shard(network, **options)
        for name in methods:
            register_fsdp_forward_method(network, name)
        return network.to_empty(device=self.device)

    def set_gradient_sync(self, wrapped: nn.Module, is_on: bool) -> None:
        """Set before a forward pass whether its backward pass averages gradients over the processes.

        FSDP averages in every pass: gradients accumulated in one process would be whole.
        """
        if isinstance(wrapped, DistributedDataParallel):
            wrapped.require_backward_grad_sync = is_on

    def average_whole_gradients(self, wrapped: nn.Module) -> None:
        """Average over the processes the gradients of parameters that FSDP does not shard."""
        if self.size == 1 or isinstance(wrapped, DistributedDataParallel):
            return
        for parameter in wrapped.parameters():
            if not is_sharded(parameter) and parameter.grad is not None:
                parameter.grad.copy_(self.mean(parameter.grad))

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over the processes, the same in all of them, on the device of `values`."""
        if self.size == 1:
            return values
        # A backend reduces tensors on its own device.
        total = values.to(self.device, copy=True)
        dist.all_reduce(total)
        return (total / self.size).to(values.device)

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in one of the processes."""
        return flag if self.size == 1 else bool(self.mean(torch.tensor(float(flag))) > 0)

    def gather(self, rows: Tensor) -> Tensor:
        """Concatenate the rows of all processes in the order of their ranks; every process has equally many.

        Gradients flow to this process's own rows, times the number of processes: each computes the same loss of all
        rows, and the gradients of parameters are averaged afterwards.
        """
        if self.size == 1:
            return rows
        parts = [torch.empty_like(rows) for _ in range(self.size)]
        dist.all_gather(parts, rows.detach().contiguous())
        if rows.requires_grad:
            parts[self.rank] = rows.view_as(rows)
            parts[self.rank].register_hook(lambda gradient: gradient * self.size)
        return torch.cat(parts)

    def broadcast_object(self, value: Any) -> Any:
        """Send the value of rank 0, of types that JSON has, to all processes, and return it."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def broadcast(self, rows: Tensor | None) -> Tensor | None:
        """Send rows of rank 0 on the CPU, or None, to all processes. A device holds some megabytes of them."""
        if self.size == 1:
            return rows
        layout = self.broadcast_object(None if rows is None else (list(rows.shape), _name(rows.dtype)))
        if layout is None:
            return None
        if rows is None:
            rows = torch.empty(layout[0], dtype=getattr(torch, layout[1]))
        for block in rows.split(BROADCAST_ROWS):
            block.copy_(self._broadcast(block))
        return rows

    def on_rank_zero(self, work: Callable[[], T]) -> T | None:
        """Run `work` in rank 0 alone and return its result; None in the other processes.

        An `UnclipError` is raised in all of them, and none runs ahead of the work.
        """
        result, failure = None, ""
        try:
            result = work() if self.is_rank_zero else None
        except UnclipError as error:
            if self.size == 1:
                raise
            failure = str(error)
        failure = self.broadcast_object(failure)
        if failure:
            raise TrainingError(failure)
        return result

    def gather_state(self, tensors: Mapping[str, Tensor], save: Callable[[dict[str, LazyTensor]], object]) -> None:
        """Call `save` in rank 0 with whole copies on the CPU of tensors that may be sharded.

        Each is gathered when it is read, so memory holds one of them. Fails as `on_rank_zero`.
        """
        sharded = {name for name, tensor in tensors.items() if is_sharded(tensor)}

        def read(name: str) -> Tensor:
            # All processes gather a tensor together: the others wait for the name of the next.
            if name in sharded:
                self.broadcast_object(name)
            return full_tensor(tensors[name]).detach().cpu()

        def lead() -> None:
            try:
                save({n: LazyTensor(tuple(t.shape), t.dtype, partial(read, n)) for n, t in tensors.items()})
            finally:
                if sharded:
                    self.broadcast_object(None)

        if sharded and not self.is_rank_zero:
            while (name := self.broadcast_object(None)) is not None:
                full_tensor(tensors[name])
        self.on_rank_zero(lead)

    def scatter_state(self, tensors: Mapping[str, Tensor], like: Callable[[str], Tensor | None]) -> dict[str, Tensor]:
        """Send the tensors of rank 0 to all processes, each sharded and placed as the tensor `like(name)`.

        On the CPU, whole, where `like` returns None.
        """
        layout = self.broadcast_object([(name, list(t.shape), _name(t.dtype)) for name, t in tensors.items()])
        state: dict[str, Tensor] = {}
        for name, shape, dtype in layout:
            value = tensors[name] if self.is_rank_zero else torch.empty(shape, dtype=getattr(torch, dtype))
            value, pattern = self._broadcast(value), like(name)
            state[name] = value.cpu() if pattern is None else shard_like(pattern, value.to(pattern.device))
        return state

    def _broadcast(self, value: Tensor) -> Tensor:
        if self.size == 1:
            return value
        moved = value.detach().to(self.device).contiguous()
        dist.broadcast(moved, src=0)
        return moved


def is_sharded(tensor: Tensor) -> bool:
    """Return whether this process holds only a part of `tensor`; without importing DTensor, which takes a second."""
    module: Any = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def full_tensor(tensor: Tensor) -> Tensor:
    """Return all of a tensor; for a sharded one, all processes have to call this at once."""
    sharded: Any = tensor
    return sharded.full_tensor() if is_sharded(tensor) else tensor


def shard_like(pattern: Tensor, value: Tensor) -> Tensor:
    """Return this process's part of `value`, which all hold, sharded as `pattern`; `value` itself if that is whole."""
    if not is_sharded(pattern) or is_sharded(value) or not value.ndim:
        return value
    from torch.distributed.tensor import distribute_tensor

    sharded: Any = pattern
    return distribute_tensor(value, sharded.device_mesh, sharded.placements, src_data_rank=None)


def unwrap(wrapped: nn.Module) -> nn.Module:
    """Return the network inside what `Cluster.wrap` returned."""
    return wrapped.module if isinstance(wrapped, DistributedDataParallel) else wrapped


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    """Return all parameters and buffers of a network by name, without gradients."""
    named = chain(network.named_parameters(), network.named_buffers())
    return {name: tensor.detach() for name, tensor in named}


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


# What the sockets of gloo, NCCL and torch's store say about another process that is gone or silent. NCCL's other
# failures (out of memory, versions that differ, two processes on one GPU) are this process's own.
_BROKEN = re.compile(
    r"connection (closed by peer|reset by peer|refused|timed out|was likely closed)|broken pipe|socket closed"
    r"|timed out (waiting|after)|wait timeout|collective operation timeout"
    r"|remote process exited or there was a network error|ncclRemoteError",
    re.IGNORECASE,
)


@contextmanager
def connection_errors() -> Iterator[None]:
    """Raise `TrainingError` for errors of a lost connection, with their reason; other errors pass unchanged."""
    try:
        yield
    except BaseException as error:
        # What holds connections, such as DDP, must be freed before they are closed, or the process never ends.
        traceback.clear_frames(error.__traceback__)
        # In the middle of a backward pass, backends raise plain `RuntimeError`s.
        is_broken = isinstance(error, RuntimeError) and _BROKEN.search(str(error)) is not None
        if not (is_broken or isinstance(error, dist.DistNetworkError)):
            raise
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        line = next((line for line in lines if _BROKEN.search(line)), lines[0])
        reason = re.sub(r"^\[[^]]*\]\s*", "", line).rstrip(".")  # without the place in torch's sources
        raise TrainingError(
            f"another process of the run has ended or does not answer ({reason}); give the same command again, which "
            "resumes from the newest checkpoint."
        ) from None


def _refuse_launcher_settings() -> None:
    """Raise `ConfigError` for variables of `accelerate` that ask for what a recipe decides; ignoring them would train
    something else.
    """
    for name in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"):
        if os.environ.get(name, "false").lower() in {"1", "true"}:
            raise ConfigError(
                f"{name} is set by the launcher, but recipes decide that; drop it and use --set strategy=fsdp."
            )
    decided = {
        "mixed_precision": ("no", "precision"),
        "dynamo_backend": ("no", "compile"),
        "gradient_accumulation_steps": ("1", "micro_batch_size"),
    }
    for name, (off, setting) in decided.items():
        value = os.environ.get(f"ACCELERATE_{name.upper()}", off)
        if value.lower() != off:
            raise ConfigError(
                f"accelerate has {name}={value}, but recipes decide that; drop it and use --set {setting}=..."
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
