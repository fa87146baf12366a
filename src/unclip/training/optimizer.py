"""Optimisers as one, the learning rate, gradient clipping and the loss scale of float16."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from unclip.errors import CheckpointError, ConfigError, DependencyError
from unclip.training.config import OptimizerConfig
from unclip.training.distributed import full_tensor, is_sharded, shard_like
from unclip.training.memory import sharded_blocks

FINAL_SHARE = 0.01
"""Share of the learning rate that the cosine ends at."""
INITIAL_SCALE = 2.0**16
GROWTH_INTERVAL = 2000


def make_optimizers(network: nn.Module, config: OptimizerConfig) -> "Optimizers":
    """Make fused AdamW of all that is trained; with `muon`, Muon of the `hidden_matrices` and AdamW of the rest.

    Biases, norms and other vectors are not decayed. Raises `ConfigError` for Muon of weights that are sharded, or of a
    network without hidden matrices.
    """
    optimizers: dict[str, Optimizer] = {}
    hidden = hidden_matrices(network) if config.name == "muon" else []
    others = set(hidden)
    parameters = [p for p in network.parameters() if p.requires_grad and p not in others]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizers["adamw"] = AdamW(groups, lr=config.learning_rate, betas=config.betas, eps=config.eps, fused=True)
    if config.name == "muon":
        if not hidden:
            raise ConfigError(f"optimizer.name=muon: {type(network).__name__} has no hidden matrix; use adamw.")
        if any(is_sharded(parameter) for parameter in hidden):
            raise ConfigError(
                "optimizer.name=muon needs whole matrices, these are sharded; use strategy=ddp, or adamw."
            )
        try:
            from torch.optim import Muon
        except ImportError:
            raise DependencyError(
                f"optimizer.name=muon needs torch 2.9 or newer (found {torch.__version__}); pip install -U torch."
            ) from None
        # Updates as large as AdamW's (arXiv 2502.16982, section 2.2), so that one learning rate fits both.
        optimizers["muon"] = Muon(
            hidden,
            lr=config.learning_rate,
            momentum=config.betas[0],
            weight_decay=config.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        )
    return Optimizers(network, optimizers)


def hidden_matrices(network: nn.Module) -> list[nn.Parameter]:
    """Return the trained weights of linear layers inside the repeated blocks: what Muon is for.

    Everything outside the blocks is a first layer, a last one or an embedding; inside, convolutions, vectors and
    learned tokens are left to AdamW too (https://kellerjordan.github.io/posts/muon).
    """
    layers = [layer for block in sharded_blocks(network) for layer in block.modules() if isinstance(layer, nn.Linear)]
    weights = [layer.weight for layer in layers]
    return [weight for weight in weights if isinstance(weight, nn.Parameter) and weight.requires_grad]


class Optimizers:
    """One or two optimisers, by name, that share a network's parameters and work as one."""

    def __init__(self, network: nn.Module, optimizers: Mapping[str, Optimizer]) -> None:
        self.optimizers = dict(optimizers)
        names = {parameter: name for name, parameter in network.named_parameters()}
        self.owners: dict[str, tuple[Optimizer, Tensor]] = {
            f"{kind}.{names[parameter]}": (optimizer, parameter)
            for kind, optimizer in self.optimizers.items()
            for group in optimizer.param_groups
            for parameter in group["params"]
        }

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self.optimizers.values() for group in optimizer.param_groups]

    def step(self, learning_rate: float | None = None) -> None:
        """Update the parameters from their gradients, from now on at `learning_rate` unless it is None."""
        for group in self.param_groups if learning_rate is not None else ():
            group["lr"] = learning_rate
        for optimizer in self.optimizers.values():
            optimizer.step()

    def zero_grad(self) -> None:
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """Return the state as `adamw.<parameter>.exp_avg` and so on; sharded like its parameter."""
        return {
            f"{owner}.{field}": value
            for owner, (optimizer, parameter) in self.owners.items()
            for field, value in optimizer.state.get(parameter, {}).items()
        }

    def owner(self, name: str) -> Tensor | None:
        """Return the parameter whose state `tensors` calls `name`, None where no optimiser has it."""
        return self.owners.get(name.rpartition(".")[0], (None, None))[1]

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Replace the state by what `tensors` returned.

        Tensors may be whole where parameters are sharded: each process takes its part. Raises `CheckpointError` for
        state of parameters that no optimiser here has.
        """
        unknown = {name.rpartition(".")[0] for name in tensors} - self.owners.keys()
        if unknown:
            raise CheckpointError(
                f"the checkpoint has optimiser state for {min(unknown)}, which this run does not train by that "
                "optimiser; resume with the model and the optimizer.name that wrote it."
            )
        for optimizer in self.optimizers.values():
            optimizer.state.clear()
        for name, tensor in tensors.items():
            owner, _, field = name.rpartition(".")
            optimizer, parameter = self.owners[owner]
            optimizer.state[parameter][field] = shard_like(parameter, tensor)


def learning_rate(config: OptimizerConfig, images_seen: int, num_images: int) -> float:
    """Return the rate after `images_seen`: linear warm-up, then constant or half a cosine down to a hundredth."""
    if images_seen < config.warmup_images:
        return config.learning_rate * (images_seen + 1) / (config.warmup_images + 1)
    if config.decay == "constant":
        return config.learning_rate
    progress = min(1.0, (images_seen - config.warmup_images) / max(1, num_images - config.warmup_images))
    share = FINAL_SHARE + (1.0 - FINAL_SHARE) * 0.5 * (1.0 + math.cos(math.pi * progress))
    return config.learning_rate * share


def clip_gradients(network: nn.Module, max_norm: float, scale: float) -> Tensor:
    """Undo the loss scale and shorten the gradient to `max_norm`; returns its length before, over all processes."""
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    if scale != 1.0:
        torch._foreach_mul_(gradients, 1.0 / scale)
    # Sharded and whole ones cannot share a call.
    groups = [group for kind in (True, False) if (group := [g for g in gradients if is_sharded(g) == kind])]
    norm = torch.stack([full_tensor(nn.utils.get_total_norm(group)) for group in groups]).norm()
    factor = torch.clamp(max_norm / (norm + 1e-6), max=1.0)
    for group in groups:
        torch._foreach_mul_(group, factor)
    return norm


class LossScale(NamedTuple):
    """A loss scale and its age: two numbers, so `LossScale(*json.loads(json.dumps(scale)))` resumes it."""

    value: float = INITIAL_SCALE
    """What the loss is multiplied by and the gradients are divided by; a power of two, so that both are exact."""
    num_finite: int = 0
    """Finite steps since it last changed."""

    def after(self, is_finite: bool) -> "LossScale":
        """Return the scale of the next step: half after infinite gradients, twice after 2,000 finite steps."""
        if not is_finite:
            return LossScale(self.value / 2)
        if self.num_finite + 1 == GROWTH_INTERVAL:
            return LossScale(self.value * 2)
        return LossScale(self.value, self.num_finite + 1)
