"""Count what one training step of a recipe costs, on meta tensors."""

import math
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from unclip.clip import Clip, ClipConfig
from unclip.errors import InputError
from unclip.model.families import build_on_meta, family_of
from unclip.models import DecoderConfig, KandinskyDecoderConfig, PriorConfig, count_flops, count_parameters
from unclip.training.averages import AverageRule
from unclip.training.config import (
    AutoencoderTaskConfig,
    ClipTaskConfig,
    DecoderTaskConfig,
    PriorTaskConfig,
    TaskConfig,
    TrainConfig,
    UpsamplerTaskConfig,
)
from unclip.training.memory import sharded_blocks
from unclip.training.optimizer import hidden_matrices
from unclip.training.plan.activations import GpuAutocast, SavedBytes, count_saved
from unclip.training.tasks.adversarial import JudgedAutoencoder

BACKWARD = 2
"""A product's gradient is two products of its size: one for the input, one for the weight."""


class StateBytes(NamedTuple):
    """Bytes of what a run holds besides activations, unsharded; weights are float32."""

    weights: int
    """Parameters and buffers."""
    gradients: int
    """As many as the parameters alone."""
    optimizer: int
    averages: int
    half_copies: int
    """Weights in the type of the forward pass, one copy a step; 0 in float32."""
    largest_block: int
    """Parameters of the largest block."""
    outside_blocks: int
    """Parameters outside of blocks: FSDP gathers them together and keeps them whole through both passes."""

    @property
    def checkpoint(self) -> int:
        """All that a checkpoint holds."""
        return self.weights + self.averages + self.optimizer


class TowerCost(NamedTuple):
    """The frozen CLIP beside a network."""

    parameters: int
    bytes: int
    flops_per_image: int
    """In every step, for one picture with one text, forward only."""
    flops_once: int
    """For each picture of the set when the run starts."""


class StepCost(NamedTuple):
    """One training step; a batch enters linearly."""

    parameters: int
    forward_flops: int
    """One forward pass of one image."""
    flops_per_image: int
    """All passes of one image, and the frozen CLIP's."""
    state: StateBytes
    saved_per_image: SavedBytes
    tower: TowerCost


def count_flops_per_image(config: TrainConfig, clip: ClipConfig | None = None) -> int:
    """Count the operations of one image of training, faster than `count_step_cost`; raises as that does.

    A pass forward, twice that back, once more where blocks are computed again, and one without gradients in the share
    of steps in which a self-conditioned network reads its estimate.
    """
    task, passes = config.task, 1.0 + BACKWARD + config.activation_checkpointing
    if isinstance(task, PriorTaskConfig | DecoderTaskConfig) and task.model.self_conditioning:
        passes += task.self_conditioning_prob
    return round(passes * _forward_flops(task)) + _tower(config, clip).flops_per_image


def count_step_cost(config: TrainConfig, clip: ClipConfig | None = None) -> StepCost:
    """Count a step of `config`; `clip` is the frozen CLIP that it computes features with.

    Raises `InputError` when such a CLIP is needed and not given.
    """
    # Per image, of a batch of two: what does not grow with the batch is too little to be told apart.
    network, call = _forward_pass(config.task, 2)
    mode = GpuAutocast(getattr(torch, config.precision))
    with torch.device("meta"), mode:
        saved = count_saved(network, call, mode.copies.values())
    return StepCost(
        parameters=count_parameters(network),
        forward_flops=_forward_flops(config.task),
        flops_per_image=count_flops_per_image(config, clip),
        state=count_state(network, config),
        saved_per_image=SavedBytes(*(math.ceil(count / 2) for count in saved)),
        tower=_tower(config, clip),
    )


def count_state(network: nn.Module, config: TrainConfig) -> StateBytes:
    """Count the bytes of weights and of all that has their size, by the types of the parameters."""
    weights, parameters = _bytes([*network.parameters(), *network.buffers()]), _bytes(network.parameters())
    blocks = [_bytes(block.parameters()) for block in sharded_blocks(network)]
    muon = set(hidden_matrices(network)) if config.optimizer.name == "muon" else set()
    adamw = [parameter for parameter in network.parameters() if parameter not in muon]
    return StateBytes(
        weights=weights,
        gradients=parameters,
        # AdamW keeps two numbers a weight and a step count a tensor; Muon one number for a weight of a hidden matrix.
        optimizer=2 * _bytes(adamw) + torch.float32.itemsize * len(adamw) + _bytes(muon),
        averages=weights * len(AverageRule.of(config)),
        half_copies=0 if config.precision == "float32" else parameters // 2,
        largest_block=max(blocks, default=0),
        outside_blocks=parameters - sum(blocks),
    )


def text_length(model: PriorConfig | DecoderConfig | KandinskyDecoderConfig) -> int:
    """Return the text tokens that a network reads at most."""
    hidden = family_of(model).example_inputs(model).get("text_hidden")
    return 0 if hidden is None else hidden.shape[1]


# Counted once for each shape: building a large network takes a second, even on meta.
@lru_cache(maxsize=64)
def _forward_flops(task: TaskConfig) -> int:
    with torch.device("meta"):
        return count_flops(_forward_pass(task, 1)[1])


def _forward_pass(task: TaskConfig, batch: int) -> tuple[nn.Module, Callable[[], object]]:
    """Return the network of a task and its forward pass, on meta tensors; texts are as long as they may be."""
    network = build_on_meta(task.model).train().requires_grad_()
    if isinstance(task, AutoencoderTaskConfig):
        pixels = torch.empty(batch, task.model.in_channels, task.image_size, task.image_size, device="meta")
        if task.adversarial_weight:
            with torch.device("meta"):
                network = JudgedAutoencoder(network)
            return network, partial(network, pixels, is_judged=True)
        return network, partial(network, pixels)
    size = (task.crop_size, task.crop_size) if isinstance(task, UpsamplerTaskConfig) else None
    inputs = family_of(task.model).example_inputs(task.model, batch, size)
    if isinstance(task, ClipTaskConfig):
        pixels = torch.empty(batch, 3, task.model.image_size, task.model.image_size, device="meta")
        return network, partial(network, pixels, *[inputs["ids"]] * (1 if task.teacher is None else 2))
    return network, partial(network, **inputs)


@lru_cache(maxsize=64)
def _tower(config: TrainConfig, clip: ClipConfig | None) -> TowerCost:
    """Count the frozen CLIP of a task; with stored embeddings it computes nothing, but stays to check them."""
    task, stored = config.task, config.data.embeddings is not None
    if config.clip is None or (clip is None and stored):
        return TowerCost(0, 0, 0, 0)
    if clip is None:
        raise InputError(
            f"{config.name} computes features with the CLIP in {config.clip}, whose shape is not known here; "
            "train or put it there first, or set data.embeddings."
        )
    with torch.device("meta"):
        network = Clip(clip)
        text = count_flops(network.encode_tokens, torch.empty(1, clip.context_length, dtype=torch.int64))
        picture = count_flops(network.encode_pixels, torch.empty(1, 3, clip.image_size, clip.image_size))
    reads_text = isinstance(task, PriorTaskConfig) or (isinstance(task, DecoderTaskConfig) and task.model.text_dim > 0)
    passes = 1 if isinstance(task, PriorTaskConfig) and task.embed == "every_step" else 0
    if isinstance(task, AutoencoderTaskConfig):
        # The real picture, the one made of it, and back through that to its pixels.
        stored, passes = False, 3
    return TowerCost(
        parameters=count_parameters(network),
        bytes=_bytes([*network.parameters(), *network.buffers()]),
        flops_per_image=0 if stored else text * reads_text + picture * passes,
        flops_once=0 if stored or passes else picture,
    )


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
