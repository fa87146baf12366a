"""Optimizers, loss scaling, and sharded parameters."""

import math
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from unclip.errors import CheckpointError, ConfigError, DependencyError
from unclip.training.config import OptimizerConfig
from unclip.training.memory import sharded_blocks

FIRST = 2.0**16
GROWTH_INTERVAL = 2000


class LossScale(NamedTuple):
    """A value and what it was after: two numbers, so `LossScale(*json.loads(json.dumps(scale)))` goes on from it."""

    value: float = FIRST
    """What the loss is multiplied by and the gradients are divided by; a power of two, so that both are exact."""
    num_finite: int = 0
    """Finite steps since it last changed."""

    def after(self, finite: bool) -> "LossScale":
        """The scale of the next step: half after gradients that are not finite, twice after 2,000 finite steps."""
        if not finite:
            return LossScale(self.value / 2)
        if self.num_finite + 1 == GROWTH_INTERVAL:
            return LossScale(self.value * 2)
        return LossScale(self.value, self.num_finite + 1)


MODULE = "torch.distributed.tensor"


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process holds only a part of `tensor`."""
    module: Any = sys.modules.get(MODULE)
    return module is not None and isinstance(tensor, module.DTensor)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor; of a sharded one, which all processes have to ask for at once."""
    parent: Any = tensor
    return parent.full_tensor() if is_sharded(tensor) else tensor


def sharded_like(like: Tensor, value: Tensor) -> Tensor:
    """This process's part of `value`, which all of them hold, cut as `like` is; `value` itself where that is whole."""
    if not is_sharded(like) or is_sharded(value) or not value.ndim:
        return value
    from torch.distributed.tensor import distribute_tensor

    parent: Any = like
    return distribute_tensor(value, parent.device_mesh, parent.placements, src_data_rank=None)


FINAL_SHARE = 0.01


class Optimizers:
    """One or two optimisers, by name, that share a network's parameters and work as one."""

    def __init__(self, network: nn.Module, optimizers: Mapping[str, Optimizer]) -> None:
        self.optimizers = dict(optimizers)
        self.parameters: dict[str, Tensor] = dict(network.named_parameters())
        self.names = {parameter: name for name, parameter in self.parameters.items()}

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all optimisers."""
        return [group for optimizer in self.optimizers.values() for group in optimizer.param_groups]

    def set_learning_rate(self, rate: float) -> None:
        """Use `rate` from the next step on."""
        for group in self.param_groups:
            group["lr"] = rate

    def step(self) -> None:
        """Update the parameters from their gradients."""
        for optimizer in self.optimizers.values():
            optimizer.step()

    def zero_grad(self) -> None:
        """Drop the gradients."""
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """The state as `adamw.<parameter>.exp_avg` and so on; sharded like its parameter where that is sharded."""
        found: dict[str, Tensor] = {}
        for kind, optimizer in self.optimizers.items():
            for parameter, values in optimizer.state.items():
                found |= {f"{kind}.{self.names[parameter]}.{field}": value for field, value in values.items()}
        return found

    def owner(self, name: str) -> Tensor | None:
        """The parameter whose state `tensors` calls `name`, None where no optimiser has it."""
        return self.parameters.get(name.partition(".")[2].rpartition(".")[0])

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `tensors` returned, all else of the state being dropped.

        Tensors may be whole where parameters are sharded: each process takes its part. Raises `CheckpointError` for
        state of parameters that no optimiser here has.
        """
        fields: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            owner, _, field = name.rpartition(".")
            fields.setdefault(owner, {})[field] = tensor
        owners = {kind: self._owners(kind, optimizer) for kind, optimizer in self.optimizers.items()}
        _check_owners(fields.keys() - set().union(*owners.values()))
        for kind, optimizer in self.optimizers.items():
            state = {
                index: {field: sharded_like(parameter, value) for field, value in fields[owner].items()}
                for index, (owner, parameter) in enumerate(owners[kind].items())
                if owner in fields
            }
            optimizer.load_state_dict(optimizer.state_dict() | {"state": state})

    def _owners(self, kind: str, optimizer: Optimizer) -> dict[str, Tensor]:
        """The parameters of one optimiser by the names of their state, in the order of torch's indices."""
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        return {f"{kind}.{self.names[parameter]}": parameter for parameter in parameters}


def make_optimizers(network: nn.Module, config: OptimizerConfig) -> Optimizers:
    """Fused AdamW of all that is trained; with `muon`, Muon of the `hidden_matrices` and AdamW of the rest.

    Biases, norms and other vectors are not decayed. Raises `ConfigError` where Muon is asked of weights that are
    sharded, or that have no hidden matrix.
    """
    if config.name == "adamw":
        return Optimizers(network, {"adamw": _adamw(network, config, set())})
    hidden = hidden_matrices(network)
    _check_muon(network, hidden)
    return Optimizers(network, {"adamw": _adamw(network, config, set(hidden)), "muon": _muon(hidden, config)})


def hidden_matrices(network: nn.Module) -> list[nn.Parameter]:
    """The trained weights of linear layers inside the repeated blocks: what Muon is for.

    Everything outside the blocks is a first layer, a last one or an embedding; inside, convolutions, vectors and
    learned tokens are left to AdamW too (https://kellerjordan.github.io/posts/muon).
    """
    layers = [layer for block in sharded_blocks(network) for layer in block.modules() if isinstance(layer, nn.Linear)]
    weights = [layer.weight for layer in layers]
    return [weight for weight in weights if isinstance(weight, nn.Parameter) and weight.requires_grad]


def learning_rate(config: OptimizerConfig, images_seen: int, num_images: int) -> float:
    """Linear warm-up over `warmup_images`, then constant or half a cosine down to a hundredth."""
    if images_seen < config.warmup_images:
        return config.learning_rate * (images_seen + 1) / (config.warmup_images + 1)
    if config.decay == "constant":
        return config.learning_rate
    progress = min(1.0, (images_seen - config.warmup_images) / max(1, num_images - config.warmup_images))
    share = FINAL_SHARE + (1.0 - FINAL_SHARE) * 0.5 * (1.0 + math.cos(math.pi * progress))
    return config.learning_rate * share


def _adamw(network: nn.Module, config: OptimizerConfig, others: set[nn.Parameter]) -> AdamW:
    parameters = [p for p in network.parameters() if p.requires_grad and p not in others]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=config.learning_rate, betas=config.betas, eps=config.eps, fused=True)


def _muon(hidden: list[nn.Parameter], config: OptimizerConfig) -> Optimizer:
    try:
        from torch.optim import Muon
    except ImportError:
        raise DependencyError(
            f"optimizer.name=muon needs torch 2.9 or newer (found {torch.__version__}); pip install -U torch."
        ) from None
    # Updates as large as AdamW's (arXiv 2502.16982, section 2.2), so that one learning rate fits both.
    return Muon(
        hidden,
        lr=config.learning_rate,
        momentum=config.betas[0],
        weight_decay=config.weight_decay,
        adjust_lr_fn="match_rms_adamw",
    )


def _check_muon(network: nn.Module, hidden: list[nn.Parameter]) -> None:
    if not hidden:
        raise ConfigError(f"optimizer.name=muon: {type(network).__name__} has no hidden matrix; use adamw.")
    if any(is_sharded(parameter) for parameter in hidden):
        raise ConfigError("optimizer.name=muon needs whole matrices, these are sharded; use strategy=ddp, or adamw.")


def _check_owners(unknown: set[str]) -> None:
    if unknown:
        raise CheckpointError(
            f"the checkpoint has optimiser state for {min(unknown)}, which this run does not train by that optimiser; "
            "resume with the model and the optimizer.name that wrote it."
        )
