"""Averages and optimisers of parameters that are sharded, in a group of one process."""

import copy
from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from unclip.errors import ConfigError
from unclip.models import Prior, prior_preset
from unclip.training import OptimizerConfig
from unclip.training.averages import AverageRule, Averages
from unclip.training.memory import checkpoint_activations, sharded_blocks
from unclip.training.optimizer import Optimizers, make_optimizers

CONFIG = OptimizerConfig(learning_rate=1e-2)
RULE = AverageRule(sigma_rel=(0.05, 0.1))


@pytest.fixture(scope="module")
def mesh() -> Iterator[DeviceMesh]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def prior() -> Prior:
    return Prior(prior_preset("tiny").replace(num_text_tokens=0, depth=2)).train()


def sharded(network: nn.Module, mesh: DeviceMesh) -> nn.Module:
    for block in sharded_blocks(network):
        fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh)
    assert all(isinstance(parameter, DTensor) for parameter in network.parameters())
    return network


def train(network: nn.Module, optimizers: Optimizers, averages: Averages, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        x_t, text = torch.randn(2, 4, 32, generator=generator)
        network(x_t, torch.full((4,), 10.0 * step), text).square().mean().backward()
        optimizers.step()
        optimizers.zero_grad()
        averages.update(network, 4, 4 * step)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def same(ours: nn.Module, theirs: nn.Module) -> None:
    for (name, actual), expected in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(whole(actual), whole(expected), rtol=1e-6, atol=1e-7, msg=name)


# Transformer blocks also return keys and values, views that nobody changes in place.
@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module:UserWarning")
def test_averages_and_optimiser_of_shards_are_those_of_the_whole(mesh: DeviceMesh) -> None:
    """Also with blocks computed again, and after restoring whole tensors into shards half way."""
    plain = prior()
    parts = copy.deepcopy(plain)
    checkpoint_activations(parts)
    copies = [copy.deepcopy(plain) for _ in range(4)]
    averages = Averages(copies[:2], RULE)
    plain_optimizers = make_optimizers(plain, CONFIG)
    train(plain, plain_optimizers, averages, range(1, 3))
    shards = sharded(parts, mesh)
    shard_averages = Averages([sharded(network, mesh) for network in copies[2:4]], RULE)
    shard_optimizers = make_optimizers(shards, CONFIG)
    train(shards, shard_optimizers, shard_averages, range(1, 3))
    fresh = make_optimizers(shards, CONFIG)
    fresh.restore({name: tensor.clone() for name, tensor in plain_optimizers.tensors().items()})
    assert isinstance(fresh.tensors()["adamw.query.exp_avg"], DTensor)
    train(plain, plain_optimizers, averages, range(3, 5))
    train(shards, fresh, shard_averages, range(3, 5))
    same(shards, plain)
    for ours, theirs in zip(shard_averages.networks, averages.networks, strict=True):
        same(ours, theirs)


def test_muon_refuses_shards(mesh: DeviceMesh) -> None:
    with pytest.raises(ConfigError, match=r"needs whole matrices, these are sharded; use strategy=ddp, or adamw"):
        make_optimizers(sharded(prior(), mesh), CONFIG.replace(name="muon"))
