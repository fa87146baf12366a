"""What one training step of a recipe costs, counted on meta tensors. Knows tasks and networks; no GPU and no price."""

import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from unclip.clip import Clip, ClipConfig
from unclip.errors import InputError
from unclip.models import Decoder, DecoderConfig, Prior, PriorConfig, Upsampler, count_flops, count_parameters
from unclip.training.config import (
    ClipTaskConfig,
    DecoderTaskConfig,
    OptimizerConfig,
    PriorTaskConfig,
    TaskConfig,
    TrainConfig,
    UpsamplerTaskConfig,
)
from unclip.training.memory import sharded_blocks
from unclip.training.optimizer import hidden_matrices
from unclip.training.plan.activations import GpuAutocast, SavedBytes, count_saved

CLIP_TOKENS = 77
"""Text tokens that a decoder reads whose own shape does not limit them."""
BACKWARD = 2
"""A product's gradient is two products of its size: one for the input, one for the weight."""


class StateBytes(NamedTuple):
    """Bytes of what a run holds besides activations, unsharded."""

    weights: int
    """Parameters and buffers, float32."""
    gradients: int
    optimizer: int
    averages: int
    half_copies: int
    """Weights in the type of the forward pass, one copy a step; 0 in float32."""
    largest_block: int
    """Parameters of the largest block, float32."""
    outside_blocks: int
    """Parameters of no block, float32: FSDP gathers them together and keeps them whole from the way there to the way
    back."""


class TowerCost(NamedTuple):
    """The frozen CLIP beside a network."""

    parameters: int
    bytes: int
    flops_per_image: int
    """Of every step, for one picture with one text, forward only."""
    flops_once: int
    """For each picture of the set when the run starts."""


class StepCost(NamedTuple):
    """One training step; a batch enters linearly."""

    parameters: int
    forward_flops: int
    """One forward pass of one image."""
    state: StateBytes
    saved_per_image: SavedBytes
    estimates: float
    """Forward passes without gradients: the share of steps that show a self-conditioned network its own estimate."""
    tower: TowerCost

    def saved(self, micro_batch_size: int, checkpointing: bool) -> int:
        """Bytes of activations at a micro batch."""
        saved = self.saved_per_image
        return micro_batch_size * (saved.checkpointed if checkpointing else saved.everything)

    def flops_per_image(self, checkpointing: bool) -> int:
        """Operations of one image of training: forward, twice that back, once more where blocks are computed again."""
        passes = 1 + BACKWARD + int(checkpointing) + self.estimates
        return round(passes * self.forward_flops) + self.tower.flops_per_image


def count_flops_per_image(config: TrainConfig, clip: ClipConfig | None = None) -> int:
    """Operations of one image of training; raises as `count_step_cost`, which counts more and takes longer."""
    passes = 1 + BACKWARD + int(config.activation_checkpointing) + _estimates(config.task)
    return round(passes * _forward_flops(config.task)) + _tower(config, clip).flops_per_image


def count_step_cost(config: TrainConfig, clip: ClipConfig | None = None) -> StepCost:
    """Count a step of `config`; `clip` is the frozen CLIP that it computes features with.

    Raises `InputError` when such a CLIP is needed and not given.
    """
    network = network_of(config.task)
    return StepCost(
        parameters=count_parameters(network),
        forward_flops=_forward_flops(config.task),
        state=count_state(network, config),
        saved_per_image=_saved(network, config),
        estimates=_estimates(config.task),
        tower=_tower(config, clip),
    )


# Counted once for each shape: building a large network takes a second, even on meta.
@lru_cache(maxsize=64)
def _forward_flops(task: TaskConfig) -> int:
    with torch.device("meta"):
        return count_flops(*_call(network_of(task), task, 1))


def network_of(task: TaskConfig) -> nn.Module:
    """The network that a task trains, on meta: it takes no memory."""
    with torch.device("meta"):
        match task:
            case ClipTaskConfig():
                return Clip(task.model)
            case PriorTaskConfig():
                return Prior(task.model)
            case DecoderTaskConfig():
                return Decoder(task.model)
            case UpsamplerTaskConfig():
                return Upsampler(task.model)


def count_state(network: nn.Module, config: TrainConfig) -> StateBytes:
    """Bytes of weights and what follows them, by the types of the parameters."""
    parameters = list(network.parameters())
    weights = _bytes([*parameters, *network.buffers()])
    blocks = [_bytes(block.parameters()) for block in sharded_blocks(network)]
    return StateBytes(
        weights=weights,
        gradients=_bytes(parameters),
        optimizer=optimizer_bytes(network, config.optimizer),
        averages=weights * (1 if config.ema == "classic" else len(config.ema_sigma_rel)),
        half_copies=0 if config.precision == "float32" else _bytes(parameters) // 2,
        largest_block=max(blocks, default=0),
        outside_blocks=_bytes(parameters) - sum(blocks),
    )


def optimizer_bytes(network: nn.Module, config: OptimizerConfig) -> int:
    """AdamW keeps two numbers a weight and a step count a tensor; Muon one number for a weight of a hidden matrix."""
    muon = set(hidden_matrices(network)) if config.name == "muon" else set()
    adamw = [parameter for parameter in network.parameters() if parameter not in muon]
    return 2 * _bytes(adamw) + torch.float32.itemsize * len(adamw) + _bytes(muon)


def _saved(network: nn.Module, config: TrainConfig) -> SavedBytes:
    """Per image, of a batch of two: what does not grow with the batch is too little to be told apart."""
    with torch.device("meta"):
        function, *args = _call(network, config.task, 2)
        mode = GpuAutocast(getattr(torch, config.precision))
        with mode:
            saved = count_saved(network, lambda: function(*args), mode.copies.values())
    return SavedBytes(*(math.ceil(count / 2) for count in saved))


def _call(network: nn.Module, task: TaskConfig, batch: int) -> tuple[Callable[..., Any], *tuple[Tensor | None, ...]]:
    """The forward pass of a task and meta tensors of the shapes that it is given; texts are as long as they may be."""
    time = torch.empty(batch)
    match task:
        case ClipTaskConfig(model=shape):
            size, length = shape.image_size, shape.context_length
            ids = torch.empty(batch, length, dtype=torch.int64)
            return _both_towers, network, torch.empty(batch, 3, size, size), ids  # type: ignore[return-value]
        case PriorTaskConfig(model=shape):
            embedding = torch.empty(batch, shape.embedding_dim)
            text = torch.empty(batch, shape.text_embedding_dim or shape.embedding_dim)
            hidden, mask = _text(batch, shape.num_text_tokens, shape.text_dim or shape.embedding_dim)
            return network, embedding, time, text, hidden, mask
        case DecoderTaskConfig(model=shape):
            embedding = torch.empty(batch, shape.embedding_dim)
            present = torch.empty(batch, dtype=torch.bool)
            hidden, mask = _text(batch, text_length(shape), shape.text_dim)
            picture = torch.empty(batch, shape.in_channels, shape.image_size, shape.image_size)
            return network, picture, time, embedding, present, embedding if shape.text_dim else None, hidden, mask
        case UpsamplerTaskConfig(model=shape):
            crop = torch.empty(batch, shape.in_channels, task.crop_size, task.crop_size)
            return network, crop, time, torch.empty_like(crop), time if shape.noise_conditioning else None


def _both_towers(network: Clip, pixels: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    return network.encode_pixels(pixels), network.encode_tokens(ids).embedding


def text_length(shape: PriorConfig | DecoderConfig) -> int:
    """Text tokens that a network reads at most."""
    if isinstance(shape, PriorConfig):
        return shape.num_text_tokens
    if not shape.text_dim:
        return 0
    return shape.text_transformer.num_text_tokens if shape.text_transformer else CLIP_TOKENS


def _text(batch: int, length: int, width: int) -> tuple[Tensor | None, Tensor | None]:
    if not (length and width):
        return None, None
    return torch.empty(batch, length, width), torch.empty(batch, length, dtype=torch.bool)


def _estimates(task: TaskConfig) -> float:
    if isinstance(task, PriorTaskConfig | DecoderTaskConfig) and task.model.self_conditioning:
        return task.self_conditioning_prob
    return 0.0


def _tower(config: TrainConfig, clip: ClipConfig | None) -> TowerCost:
    """The frozen CLIP of a task. With stored embeddings it stays in memory, to check them by, and computes nothing."""
    task, stored = config.task, config.data.embeddings is not None
    if not isinstance(task, PriorTaskConfig | DecoderTaskConfig) or task.clip is None or (clip is None and stored):
        return TowerCost(0, 0, 0, 0)
    if clip is None:
        raise InputError(
            f"{config.name} computes features with the CLIP in {task.clip}, whose shape is not known here; "
            "train or put it there first, or set data.embeddings."
        )
    with torch.device("meta"):
        network = Clip(clip)
        text = count_flops(network.encode_tokens, torch.empty(1, clip.context_length, dtype=torch.int64))
        picture = count_flops(network.encode_pixels, torch.empty(1, 3, clip.image_size, clip.image_size))
    reads_text = isinstance(task, PriorTaskConfig) or task.model.text_dim > 0
    every_step = isinstance(task, PriorTaskConfig) and task.embed == "every_step"
    return TowerCost(
        parameters=count_parameters(network),
        bytes=_bytes([*network.parameters(), *network.buffers()]),
        flops_per_image=0 if stored else text * reads_text + picture * every_step,
        flops_once=0 if stored or every_step else picture,
    )


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
