"""Blocks that are computed again: the same numbers to the bit, fewer bytes kept, the same names."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from networks import fill
from unclip.clip import Clip, clip_preset
from unclip.models import Decoder, Prior, Upsampler, decoder_preset, prior_preset, upsampler_preset
from unclip.models.dalle2_pytorch import Dalle2Prior, Dalle2PriorConfig, Dalle2UNet, Dalle2UNetConfig
from unclip.nn import Block, TransformerBlock
from unclip.training.memory import checkpoint_activations, sharded_blocks

Case = tuple[nn.Module, dict[str, Tensor]]
TIME = torch.tensor([3.0, 700.0])


def prior() -> Case:
    config = prior_preset("tiny").replace(dropout=0.2)
    hidden = torch.randn(2, 16, config.text_dim or 32)
    return Prior(config), {
        "x_t": torch.randn(2, 32), "timestep": TIME, "text_embedding": torch.randn(2, 32), "text_hidden": hidden,
    }  # fmt: skip


def decoder() -> Case:
    config = decoder_preset("tiny").replace(dropout=0.2)
    embedding = torch.randn(2, config.embedding_dim)
    return Decoder(config), {"x_t": torch.randn(2, 3, 16, 16), "timestep": TIME, "image_embedding": embedding}


def upsampler() -> Case:
    return Upsampler(upsampler_preset("tiny")), {
        "x_t": torch.randn(2, 3, 32, 32), "timestep": TIME, "low_res": torch.randn(2, 3, 8, 8),
    }  # fmt: skip


def dalle2_prior() -> Case:
    config = Dalle2PriorConfig(
        embedding_dim=32, num_text_tokens=4, reads_text_hidden=False, depth=2, num_heads=2, head_dim=16,
        attention_dropout=0.2, ff_dropout=0.2,
    )  # fmt: skip
    return Dalle2Prior(config), {"x_t": torch.randn(2, 32), "timestep": TIME, "text_embedding": torch.randn(2, 32)}


def dalle2_unet() -> Case:
    config = Dalle2UNetConfig(
        image_size=8, base_channels=8, channel_mult=(1, 2), num_res_blocks=(1, 1), num_groups=(4, 4),
        self_attention=(False, True), linear_attention=True, num_heads=2, head_dim=8, context_dim=16, embedding_dim=32,
    )  # fmt: skip
    embedding = torch.randn(2, 32)
    return Dalle2UNet(config), {"x_t": torch.randn(2, 3, 8, 8), "timestep": TIME, "image_embedding": embedding}


CASES = [prior, decoder, upsampler, dalle2_prior, dalle2_unet]


def step(network: nn.Module, inputs: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor], int]:
    """Loss, gradients, and the bytes kept for the way back: what autograd saves and what the blocks are given."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    def given(_: nn.Module, values: tuple[Any, ...]) -> None:
        for value in values:
            if isinstance(value, Tensor):
                keep(value)

    hooks = [block.register_forward_pre_hook(given) for block in sharded_blocks(network)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = network(**inputs).square().mean()
        network.zero_grad()
        loss.backward()
    for hook in hooks:
        hook.remove()
    grads = {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}
    return loss.detach(), grads, sum(kept.values())


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_are_equal_to_the_bit_and_fewer_bytes_are_kept(case: Callable[[], Case]) -> None:
    network, inputs = case()
    fill(network)
    network.train()
    names = list(network.state_dict())
    loss, grads, num_bytes = step(network, inputs)
    for _ in range(2):
        checkpoint_activations(network)
    again, grads_again, num_bytes_again = step(network, inputs)
    assert torch.equal(loss, again)
    assert grads.keys() == grads_again.keys()
    assert all(torch.equal(grads[name], grads_again[name]) for name in grads)
    assert num_bytes_again < 0.6 * num_bytes
    assert list(network.state_dict()) == names


def test_a_copy_computes_with_its_own_weights() -> None:
    network, inputs = prior()
    network.train()
    checkpoint_activations(network)
    copied = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    assert not step(copied, inputs)[0].any()
    assert step(network, inputs)[0].item() > 0


def test_a_block_takes_its_inputs_by_place_whether_computed_again_or_not() -> None:
    """An input by name would raise with checkpointing alone, far from its cause."""
    block = TransformerBlock(16, 2, depth=1).train()
    x = torch.randn(1, 3, 16, requires_grad=True)
    for recompute in (False, True):
        block.recompute = recompute
        block(x)[0].sum().backward()
        with pytest.raises(TypeError, match="unexpected keyword argument 'x'"):
            block(x=x)


def test_evaluation_keeps_what_it_kept() -> None:
    network, inputs = decoder()
    fill(network)
    kept = step(network.eval(), inputs)[2]
    checkpoint_activations(network)
    assert step(network, inputs)[2] == kept


@pytest.mark.parametrize("case", CASES)
def test_blocks_hold_most_weights_and_none_holds_another(case: Callable[[], Case]) -> None:
    network, _ = case()
    blocks = sharded_blocks(network)
    assert all(isinstance(block, Block) for block in blocks)
    inner = [module for block in blocks for module in block.modules() if module is not block]
    assert not {id(block) for block in blocks} & {id(module) for module in inner}
    left = {id(module) for module in network.modules() if isinstance(module, Block)} - {id(block) for block in blocks}
    assert left <= {id(module) for module in inner}
    inside = sum(parameter.numel() for block in blocks for parameter in block.parameters())
    assert inside > 0.5 * sum(parameter.numel() for parameter in network.parameters())


def test_the_blocks_of_both_towers_of_clip_are_found() -> None:
    config = clip_preset("tiny")
    assert len(sharded_blocks(Clip(config))) == config.vision_layers + config.text_layers
