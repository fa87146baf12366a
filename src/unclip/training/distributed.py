"""Several processes that train one network. The only place that knows torch.distributed, DDP, FSDP and launchers."""

import gc
import importlib
import inspect
import os
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.nn.parallel import DistributedDataParallel

from unclip.errors import ConfigError, TrainingError, UnclipError
from unclip.runtime import resolve_device
from unclip.training.config import Strategy
from unclip.training.sharded import is_sharded, sharded_like, whole

__all__ = ["Cluster", "join"]

T = TypeVar("T")


class Cluster:
    """The processes of a run, seen from one of them. A run of one process needs no launcher and no network."""

    def __init__(self, rank: int, size: int, device: torch.device) -> None:
        self.rank, self.size, self.device = rank, size, device
        self._mesh: DeviceMesh | None = None

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def wrap(self, network: nn.Module, strategy: Strategy, blocks: Sequence[nn.Module]) -> nn.Module:
        """What is called instead of `network` so that its gradient becomes the mean over the processes.

        "fsdp" cuts the parameters of `network` itself into shards, block by block, and returns it.
        """
        if self.size == 1:
            return network
        if strategy == "ddp":
            # Buffers are statistics that every process sets alike; torch 2.13 renamed the switch.
            known = inspect.signature(DistributedDataParallel.__init__).parameters
            switch = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
            options: dict[str, Any] = {switch: False}
            if self.device.type == "cuda":
                options["device_ids"] = [self.device.index]
            return DistributedDataParallel(network, **options)
        self.shard(network, strategy, blocks)
        return network

    def shard(self, network: nn.Module, strategy: Strategy, blocks: Sequence[nn.Module]) -> None:
        """Cut the parameters of `network` into shards, where the strategy says so."""
        if self.size == 1 or strategy == "ddp":
            return
        from torch.distributed.fsdp import fully_shard

        if self._mesh is None:
            self._mesh = init_device_mesh(self.device.type, (self.size,))
        # Single numbers, such as CLIP's temperature, cannot be cut: every process keeps them whole.
        scalars = {parameter for parameter in network.parameters() if parameter.ndim == 0}
        options: dict[str, Any] = {
            "mesh": self._mesh,
            "reshard_after_forward": strategy == "fsdp",
            "ignored_params": scalars,
        }
        for block in blocks:
            fully_shard(block, **options)
        fully_shard(network, **options)

    def exchange(self, wrapped: nn.Module, is_last: bool) -> None:
        """Say before a backward pass whether gradients are exchanged in it, or only added up in this process."""
        if isinstance(wrapped, DistributedDataParallel):
            wrapped.require_backward_grad_sync = is_last
        elif self.size > 1:
            module: Any = wrapped  # an FSDPModule
            module.set_requires_gradient_sync(is_last)

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

    def full(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Whole copies of sharded tensors, on the CPU, in the first process; the others get none of them."""
        found = {}
        for name, tensor in tensors.items():
            value = whole(tensor)
            if self.is_first:
                found[name] = value.detach().cpu()
        return found

    def spread(self, tensors: Mapping[str, Tensor], likes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The first process's tensors in all processes, each on the device of the tensor of that name in `likes`, and
        cut as that one is. What `likes` does not name goes to the CPU, uncut.
        """
        layout = self.tell([(name, list(value.shape), str(value.dtype)) for name, value in tensors.items()])
        spread: dict[str, Tensor] = {}
        for name, shape, dtype in layout:
            like = likes.get(name)
            value = tensors[name] if self.is_first else torch.empty(shape, dtype=getattr(torch, dtype.split(".")[1]))
            value = self._broadcast(value)
            spread[name] = value if like is None else sharded_like(like, value.to(like.device))
        return spread

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
        moved = value.to(self.device)
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
            yield cluster
        except BaseException as error:
            # What holds connections, such as DDP, must be gone before they are closed, or the process never ends.
            traceback.clear_frames(error.__traceback__)
            if not _is_broken_connection(error):
                raise
            raise TrainingError(
                "another process of the run has ended or does not answer; give the same command again, which goes on "
                "from the newest checkpoint."
            ) from None
        finally:
            cluster.leave()


def _import_before_connecting() -> None:
    """Import what keeps the processes' group for ever as a default argument, when it is first imported with one there.

    Seen in torch 2.13, whose DDP and FSDP import these when they are first used.
    """
    for name in ("torch.distributed.fsdp", "torch.distributed.nn.functional"):
        importlib.import_module(name)


def _is_broken_connection(error: BaseException) -> bool:
    """Whether an exchange failed: backends raise plain `RuntimeError`s in the middle of a backward pass."""
    marks = ("gloo", "NCCL", "Connection closed", "Connection reset")
    is_marked = isinstance(error, RuntimeError) and any(mark in str(error) for mark in marks)
    return isinstance(error, dist.DistError) or is_marked


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
