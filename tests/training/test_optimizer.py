"""Which optimiser takes what, what its steps are, and that its state goes by the names of parameters."""

import re

import pytest
import torch
from networks import fill
from torch import Tensor, nn

from unclip.clip import Clip, clip_preset
from unclip.errors import CheckpointError, ConfigError
from unclip.models import Decoder, Prior, Upsampler, decoder_preset, prior_preset, upsampler_preset
from unclip.models.dalle2_pytorch import Dalle2Prior, Dalle2PriorConfig
from unclip.training import OptimizerConfig
from unclip.training.optimizer import Optimizers, hidden_matrices, make_optimizers

ADAMW = OptimizerConfig(learning_rate=1e-2, eps=1e-5, weight_decay=0.3)
MUON = ADAMW.replace(name="muon")
DALLE2 = Dalle2PriorConfig(embedding_dim=32, num_text_tokens=4, depth=2, num_heads=2, head_dim=16)
HIDDEN = {
    "prior": (lambda: Prior(prior_preset("tiny")), r"blocks\.\d\.(qkv|out|ff_in|ff_out)\.weight"),
    "decoder": (
        lambda: Decoder(decoder_preset("tiny")),
        r"unet\..*\.(res\.embedding|resample\.embedding|attention\.(qkv|context_kv|out))\.weight",
    ),
    "upsampler": (lambda: Upsampler(upsampler_preset("tiny")), r"unet\..*\.(res|resample)\.embedding\.weight"),
    "clip": (lambda: Clip(clip_preset("tiny")), r"(vision|text)\.blocks\.\d\.(qkv|out|ff_in|ff_out)\.weight"),
    "dalle2": (
        lambda: Dalle2Prior(DALLE2),
        r"causal_transformer\.layers\.\d\.(0\.(to_q|to_kv|to_out\.0)|1\.[15])\.weight",
    ),
}


def small() -> nn.Module:
    network = Prior(prior_preset("tiny").replace(num_text_tokens=0, depth=1))
    fill(network)
    return network.train()


def train(network: nn.Module, optimizers: Optimizers, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        x_t, text = torch.randn(2, 4, 32, generator=generator)
        network(x_t, torch.full((4,), 10.0 * step), text).square().mean().backward()
        optimizers.step()
        optimizers.zero_grad()


@pytest.mark.parametrize("name", HIDDEN)
def test_muon_takes_the_linear_layers_of_the_blocks_and_adamw_all_else(name: str) -> None:
    build, pattern = HIDDEN[name]
    network = build()
    names = {parameter: name for name, parameter in network.named_parameters()}
    expected = {name for name in names.values() if re.fullmatch(pattern, name)}
    assert {names[parameter] for parameter in hidden_matrices(network)} == expected
    assert expected
    optimizers = make_optimizers(network, MUON)
    adamw, muon = ({names[p] for g in o.param_groups for p in g["params"]} for o in optimizers.optimizers.values())
    assert muon == expected
    assert adamw == set(names.values()) - expected
    decayed, plain = optimizers.optimizers["adamw"].param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.3, 0.0)
    assert all(parameter.ndim >= 2 for parameter in decayed["params"])
    assert all(parameter.ndim < 2 for parameter in plain["params"])


def test_adamw_is_torchs_with_the_configured_eps() -> None:
    """The first step from a zero state moves by lr g / (|g| + eps), after decay by lr times the weight."""
    network = small()
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    optimizers = make_optimizers(network, ADAMW)
    network(torch.randn(4, 32), torch.ones(4), torch.randn(4, 32)).square().mean().backward()
    grads = {name: parameter.grad.clone() for name, parameter in network.named_parameters()}
    optimizers.step(0.05)
    optimizers.zero_grad()
    for name, parameter in network.named_parameters():
        decay = 1 - 0.05 * 0.3 * (parameter.ndim >= 2)
        expected = before[name] * decay - 0.05 * grads[name] / (grads[name].abs() + 1e-5)
        torch.testing.assert_close(parameter, expected, rtol=1e-4, atol=1e-6)
        assert parameter.grad is None


def test_steps_of_muon_are_orthogonal_and_as_large_as_those_of_adamw() -> None:
    """Root mean square 0.2 per unit of learning rate (arXiv 2502.16982), up to Newton and Schulz's 0.7 to 1.2."""
    network = small()
    hidden = hidden_matrices(network)
    before = [parameter.detach().clone() for parameter in hidden]
    optimizers = make_optimizers(network, MUON.replace(weight_decay=0.0))
    # Gradients of full rank, as a batch of four would not give.
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizers.step()
    for old, new in zip(before, hidden, strict=True):
        update = (old - new.detach()) / 1e-2
        assert update.square().mean().sqrt().item() == pytest.approx(0.2, rel=0.25)
        singular = torch.linalg.svdvals(update) / (0.2 * max(update.shape) ** 0.5)
        assert 0.5 < singular.min() <= singular.max() < 1.3


@pytest.mark.parametrize("config", [ADAMW, MUON])
def test_a_restored_state_goes_on_as_if_nothing_had_happened(config: OptimizerConfig) -> None:
    whole = small()
    optimizers = make_optimizers(whole, config)
    train(whole, optimizers, range(3))
    stored, weights = {k: v.clone() for k, v in optimizers.tensors().items()}, {k: v.clone() for k, v in state(whole)}
    assert "adamw.noised_embedding.weight.exp_avg_sq" in stored
    assert ("muon.blocks.0.qkv.weight.momentum_buffer" in stored) == (config is MUON)
    train(whole, optimizers, range(3, 6))
    resumed = small()
    resumed.load_state_dict(weights)
    fresh = make_optimizers(resumed, config)
    fresh.restore(dict(reversed(stored.items())))
    assert len(fresh.param_groups) == len(optimizers.param_groups)
    train(resumed, fresh, range(3, 6))
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(state(whole), state(resumed), strict=True))


def state(network: nn.Module) -> list[tuple[str, Tensor]]:
    return list(network.state_dict().items())


def test_state_of_another_optimiser_is_refused_before_anything_changes() -> None:
    network = small()
    optimizers = make_optimizers(network, MUON)
    train(network, optimizers, range(1))
    plain = make_optimizers(network, ADAMW)
    with pytest.raises(CheckpointError, match=r"state for muon\.blocks\.0\.ff_in\.weight, which this run does not"):
        plain.restore(optimizers.tensors())
    assert plain.tensors() == {}


def test_muon_without_a_matrix_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.name=muon: Linear has no hidden matrix; use adamw"):
        make_optimizers(nn.Linear(3, 4), MUON)
