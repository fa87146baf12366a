"""One process of a sharded run that the tests start: `python sharded_worker.py CONFIG.json OUT`; ends with 1 if a
promise is broken."""

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from unclip.checkpoint import LazyTensor, load_tensors
from unclip.config import load_config
from unclip.errors import InputError, TrainingError
from unclip.nn import TransformerBlock
from unclip.training import Cluster, Position, Task, TrainConfig, Trainer, init_cluster, make_task
from unclip.training.distributed import full_tensor, is_sharded
from unclip.training.state import TrainState


def main(path: Path, out: Path) -> None:
    torch.set_num_threads(1)
    config = load_config(TrainConfig, json.loads(path.read_text()))
    with init_cluster("cpu") as cluster:
        task = embeds_in_the_first_process(config, cluster)
        builds_in_the_first_process(task, cluster)
        starts_with_the_weights_of_one_process(task, config, cluster)
        gathers_while_it_writes(task, config, cluster)
        trainer = Trainer.open(config, cluster, task)
        trainer.step()
        keeps_gradients_in_shards(trainer.state)
        resumes_in_shards(trainer.state, task, out)


def embeds_in_the_first_process(config: TrainConfig, cluster: Cluster) -> Task:
    calls = []
    with register_module_forward_hook(
        lambda module, inputs, result: calls.append(1) if isinstance(module, TransformerBlock) else None
    ):
        task = Trainer.open(config, cluster).task
    assert bool(calls) == cluster.is_rank_zero, calls
    assert task.embedded is not None
    expected = make_task(config, cluster.device).embedded
    assert torch.equal(task.embedded, expected)
    return task


def builds_in_the_first_process(task: Task, cluster: Cluster) -> None:
    devices = []

    def make() -> nn.Module:
        network = task.build()
        devices.append(next(network.parameters()).device.type)
        return network

    cluster.build(make, "fsdp", num_copies=1)
    assert devices == (["cpu", "meta", "meta"] if cluster.is_rank_zero else ["meta", "meta"]), devices


def starts_with_the_weights_of_one_process(task: Task, config: TrainConfig, cluster: Cluster) -> None:
    expected = task.build().state_dict()
    state = TrainState.build(task, config, cluster)
    assert len(state.averages.networks) == 2
    for network in (state.network, *state.averages.networks):
        assert all(is_sharded(parameter) for parameter in network.parameters())
        for name, tensor in network.state_dict().items():
            assert torch.equal(full_tensor(tensor), expected[name]), name


def gathers_while_it_writes(task: Task, config: TrainConfig, cluster: Cluster) -> None:
    """Also when the disk is full half way: all processes end, and can go on together."""
    tensors = TrainState.build(task, config, cluster).network.state_dict()
    expected = task.build().state_dict()
    names = sorted(tensors, reverse=True)

    def save(lazy: dict[str, LazyTensor]) -> None:
        for name in names:
            assert torch.equal(lazy[name].read(), expected[name]), name

    def fail(lazy: dict[str, LazyTensor]) -> None:
        lazy[names[0]].read()
        raise InputError("the disk is full")

    cluster.gather_state(tensors, save)
    with pytest.raises(TrainingError, match=r"^the disk is full$"):
        cluster.gather_state(tensors, fail)
    cluster.gather_state(tensors, save)


def keeps_gradients_in_shards(state: TrainState) -> None:
    """After each pass of an accumulated step, not only after its last."""
    x = torch.randn(2, 32)
    for is_last in (False, True):
        state.cluster.set_gradient_sync(state.wrapped, is_last)
        state.wrapped(x, torch.zeros(2), x).square().mean().backward()
        gradients = [parameter.grad for parameter in state.network.parameters()]
        assert any(gradient is not None for gradient in gradients)
        assert all(gradient is None or is_sharded(gradient) for gradient in gradients)
    state.optimizer.zero_grad()


def resumes_in_shards(state: TrainState, task: Task, out: Path) -> None:
    state.save_newest(out)
    resumed = TrainState.build(task, state.config, state.cluster)
    assert resumed.resume(out) == []
    assert resumed.position == state.position == Position(1, state.config.batch_size)
    before, after = state.tensors(), resumed.tensors()
    assert before.keys() == after.keys()
    stored = load_tensors(out / "checkpoint-00000001.safetensors").tensors
    for name, tensor in after.items():
        assert is_sharded(tensor) == is_sharded(before[name]), name
        assert torch.equal(full_tensor(tensor), full_tensor(before[name])), name
        assert torch.equal(full_tensor(tensor).cpu(), stored[name]), name


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
