"""Plan a training run: its time, price, memory and disk, by arithmetic on counts.

Time is operations divided by a stated share of the GPUs' peak. Memory adds up what a step holds at once, so that it is
an upper bound where gradients fill while activations go.
"""

import math
from collections.abc import Iterator, Mapping
from itertools import product
from typing import get_args

from unclip.clip import ClipConfig
from unclip.config import Config
from unclip.errors import InputError, did_you_mean
from unclip.training.config import (
    AutoencoderTaskConfig,
    ClipTaskConfig,
    DecoderTaskConfig,
    PriorTaskConfig,
    Strategy,
    TrainConfig,
    UpsamplerTaskConfig,
)
from unclip.training.fit import check_run
from unclip.training.plan.cost import StepCost, count_step_cost, text_length

RESERVED_SHARE = 0.1
"""Share of a GPU's memory left to the driver, convolution workspaces and fragmentation."""
JPEG_BYTES_PER_PIXEL = 0.41
"""LAION-400M at 256 px: 270 MB for 10,000 samples (laion-prepro, laion400m/README.md)."""
CAPTION_TOKENS = 20
"""Mean length of a caption whose states are stored: an assumption, start and end included."""
FLOAT16_BYTES = 2
DAY = 86_400.0


class Gpu(Config):
    """One GPU: its memory, and its peak without sparsity."""

    name: str
    """Its name in plans."""
    memory: int
    """Bytes."""
    half_flops: float
    """Floating-point operations a second in bfloat16 (float16 if it has no bfloat16), summed in float32."""
    float32_flops: float
    """The same in float32 without TF32, which is how a run with `precision=float32` computes."""
    has_bfloat16: bool = True
    source: str
    """Data sheet."""


GPUS = {
    name: Gpu(
        name=name,
        memory=gigabytes * 10**9,
        half_flops=half * 1e12,
        float32_flops=single * 1e12,
        has_bfloat16=name != "v100",
        source=f"NVIDIA {source}",
    )
    for name, gigabytes, half, single, source in (
        ("a100", 80, 312, 19.5, "A100 80GB SXM data sheet"),
        ("h100", 80, 989, 67, "H100 SXM data sheet (1,979 with sparsity)"),
        ("h200", 141, 989, 67, "H200 SXM data sheet (1,979 with sparsity)"),
        ("l40s", 48, 362, 91.6, "L40S data sheet (733 with sparsity)"),
        ("rtx4090", 24, 165, 82.6, "Ada architecture white paper, appendix A (sums in float32)"),
        ("v100", 32, 125, 15.7, "V100 SXM2 32GB data sheet"),
    )
}
"""The GPUs that `plan` knows, by name."""


def get_gpu(name: str) -> Gpu:
    """Return the GPU called `name`; raises `InputError` that lists them if there is none."""
    if name not in GPUS:
        raise InputError(f"there is no GPU {name!r} in the table of plans; {did_you_mean(name, GPUS)}")
    return GPUS[name]


class Memory(Config):
    """Bytes on one GPU."""

    weights: int
    """Parameters and buffers, float32."""
    gradients: int
    optimizer: int
    averages: int
    """The moving averages of the weights."""
    clip: int
    """The frozen CLIP, float32."""
    gathered: int
    """Whole weights of other GPUs' shards."""
    compute_copies: int
    """Autocast's copies of the weights in the type of the forward pass."""
    communication: int
    """Gradients on their way to other GPUs: DDP's buckets, one block of FSDP's."""
    activations: int
    """What a micro batch keeps for the backward pass."""

    @property
    def total(self) -> int:
        return sum(self.model_dump().values())


class Disk(Config):
    """Bytes of the data on disk and of the run's checkpoints."""

    pictures: int
    """Shards of JPEG at `source_size`."""
    cache: int
    """Decoded pictures beside the shards; 0 if each is decoded for its batch."""
    embeddings: int
    """Stored features in float16, one caption of 20 tokens a picture; 0 if none are read."""
    checkpoints: int
    """Weights, averages and optimiser of those that are kept, and of the best."""


class Plan(Config):
    """A run on some GPUs: its size, time, price and memory."""

    recipe: str
    gpu: Gpu
    num_gpus: int
    utilisation: float
    """Share of the GPU's peak that is assumed."""
    precision: str
    strategy: Strategy
    parameters: int
    """Of the trained network."""
    clip_parameters: int
    """Of the frozen CLIP in memory."""
    forward_flops: int
    """One forward pass of one image, two per multiply-add."""
    flops_per_image: int
    """One image of training: all passes, and CLIP's where its features are not stored."""
    flops_once: int
    """For all pictures together when the run starts: CLIP embeddings that are not stored."""
    batch_size: int
    micro_batch_size: int
    """Images of one forward pass on one GPU."""
    accumulation: int
    """Forward passes of a GPU in one step."""
    num_images: int
    num_steps: int
    images_per_second: float
    """All GPUs together."""
    days: float
    gpu_hours: float
    price: float | None
    """Of one GPU for an hour, in dollars."""
    dollars: float | None
    memory: Mapping[Strategy, Memory]
    """On one GPU under each strategy."""
    fits: bool
    """Whether the chosen strategy leaves a tenth of the memory free."""
    advice: str
    """The smallest change that makes it fit; empty if it fits."""
    host_memory: int
    """Main memory of the first process of a run, in bytes: a checkpoint, which is read whole to resume."""
    num_pictures: int
    disk: Disk
    notes: tuple[str, ...]


def make_plan(
    config: TrainConfig,
    *,
    num_pictures: int,
    num_gpus: int = 1,
    gpu: str = "h100",
    utilisation: float = 0.4,
    price: float | None = None,
    clip: ClipConfig | None = None,
) -> Plan:
    """Plan `config` on `num_gpus` GPUs called `gpu`, at `utilisation` (0 to 1) of their dense peak.

    `num_pictures` is the size of the data set; `price` is dollars for an hour of one GPU; `clip` is the shape of the
    frozen CLIP, for recipes that store no embeddings. Raises `InputError` for an unknown GPU, for invalid numbers, and
    for a CLIP that is needed and not given; `ConfigError` for a CLIP that the network does not fit.
    """
    if not 1 <= num_gpus <= config.batch_size:
        raise InputError(
            f"{num_gpus} GPUs cannot share a batch of {config.batch_size}; use 1 to {config.batch_size}, "
            "or a larger batch_size."
        )
    if not 0 < utilisation <= 1:
        raise InputError(f"utilisation={utilisation} is not a share of the peak; use a number above 0, at most 1.")
    if price is not None and not 0 <= price < math.inf:
        raise InputError(f"price={price} is not dollars for an hour; use a number from 0.")
    if num_pictures < 1:
        raise InputError(f"{num_pictures} pictures are no data set; use at least 1.")
    check_run(config, clip)
    device, cost = get_gpu(gpu), count_step_cost(config, clip)
    share = math.ceil(config.batch_size / num_gpus)
    micro = min(config.micro_batch_size or share, share)
    flops_once = cost.tower.flops_once * num_pictures
    peak = device.float32_flops if config.precision == "float32" else device.half_flops
    flops_per_second = num_gpus * utilisation * peak
    seconds = (config.num_images * cost.flops_per_image + flops_once) / flops_per_second
    gpu_hours = seconds * num_gpus / 3600
    strategies: tuple[Strategy, ...] = get_args(Strategy)
    checkpointing = config.activation_checkpointing
    memory = {kind: predict_memory(cost, kind, num_gpus, micro, checkpointing) for kind in strategies}
    room = round((1 - RESERVED_SHARE) * device.memory)
    fits = memory[config.strategy].total <= room
    return Plan(
        recipe=config.name,
        gpu=device,
        num_gpus=num_gpus,
        utilisation=utilisation,
        precision=config.precision,
        strategy=config.strategy,
        parameters=cost.parameters,
        clip_parameters=cost.tower.parameters,
        forward_flops=cost.forward_flops,
        flops_per_image=cost.flops_per_image,
        flops_once=flops_once,
        batch_size=config.batch_size,
        micro_batch_size=micro,
        accumulation=math.ceil(share / micro),
        num_images=config.num_images,
        num_steps=math.ceil(config.num_images / config.batch_size),
        images_per_second=flops_per_second / cost.flops_per_image,
        days=seconds / DAY,
        gpu_hours=gpu_hours,
        price=price,
        dollars=None if price is None else gpu_hours * price,
        memory=memory,
        fits=fits,
        advice="" if fits else _advice(cost, config, num_gpus, micro, room),
        host_memory=cost.state.checkpoint,
        num_pictures=num_pictures,
        disk=_disk(cost, config, num_pictures),
        notes=tuple(_notes(config, device)),
    )


def predict_memory(cost: StepCost, strategy: Strategy, num_gpus: int, micro: int, checkpointing: bool) -> Memory:
    """Predict the bytes on one of `num_gpus` GPUs at a micro batch, with or without `checkpointing` of activations.

    "ddp" holds everything, and the gradients again in the buckets that travel. "fsdp" divides weights, gradients,
    optimiser and averages from the start, since networks are built on the meta device and filled when they are sharded,
    and gathers float32 weights: what is outside of blocks, and two blocks at a time (one ahead); "fsdp_zero2" keeps all
    that it gathered until the backward pass is done. Autocast's copies are kept whole through both passes.
    """
    state, saved = cost.state, cost.saved_per_image
    parts, gathered, communication = 1, 0, 0 if num_gpus == 1 else state.gradients
    if strategy != "ddp" and num_gpus > 1:
        parts, gathered = num_gpus, state.gradients
        communication = max(state.largest_block, state.outside_blocks)
        if strategy == "fsdp":
            gathered = min(state.outside_blocks + 2 * state.largest_block, gathered)
    return Memory(
        weights=math.ceil(state.weights / parts),
        gradients=math.ceil(state.gradients / parts),
        optimizer=math.ceil(state.optimizer / parts),
        averages=math.ceil(state.averages / parts),
        clip=cost.tower.bytes,
        gathered=gathered,
        compute_copies=state.half_copies,
        communication=communication,
        activations=micro * (saved.checkpointed if checkpointing else saved.everything),
    )


def _advice(cost: StepCost, config: TrainConfig, num_gpus: int, micro: int, room: int) -> str:
    """Find the first change, in order of what it costs, that fits with some micro batch."""
    strategies: tuple[Strategy, ...] = (config.strategy, *(("fsdp_zero2", "fsdp") if num_gpus > 1 else ()))
    recomputed = (config.activation_checkpointing, True)
    changes = product(dict.fromkeys(strategies), dict.fromkeys(recomputed), range(micro.bit_length()))
    for strategy, checkpointing, exponent in changes:
        smaller = math.ceil(micro / 2**exponent)
        if predict_memory(cost, strategy, num_gpus, smaller, checkpointing).total <= room:
            options = {
                f"--set micro_batch_size={smaller}": smaller != micro,
                "--set activation_checkpointing=true": checkpointing != config.activation_checkpointing,
                f"--strategy {strategy}": strategy != config.strategy,
            }
            return " ".join(option for option, is_needed in options.items() if is_needed)
    return "no micro batch, checkpointing or sharding fits it here; use more GPUs, or ones with more memory"


def _disk(cost: StepCost, config: TrainConfig, num_pictures: int) -> Disk:
    data, task = config.data, config.task
    cached = numbers = 0
    if data.cache and not isinstance(task, PriorTaskConfig):
        sides = [task.image_size if isinstance(task, AutoencoderTaskConfig) else task.model.image_size]
        sides += [task.model.low_res_size] if isinstance(task, UpsamplerTaskConfig) else []
        cached = sum(side**2 for side in sides) * (3 if isinstance(task, ClipTaskConfig) else task.model.in_channels)
    if data.embeddings is not None and isinstance(task, PriorTaskConfig | DecoderTaskConfig):
        # Image and text embedding, and the text's states if they are read.
        width = task.model.embedding_dim if task.model.text_dim is None else task.model.text_dim
        numbers = 2 * task.model.embedding_dim + min(CAPTION_TOKENS, text_length(task.model)) * width
    return Disk(
        pictures=round(JPEG_BYTES_PER_PIXEL * data.source_size**2) * num_pictures,
        cache=cached * num_pictures,
        embeddings=FLOAT16_BYTES * numbers * num_pictures,
        checkpoints=cost.state.checkpoint * (config.keep_checkpoints + 1),
    )


def _notes(config: TrainConfig, gpu: Gpu) -> Iterator[str]:
    if config.precision == "bfloat16" and not gpu.has_bfloat16:
        yield f"{gpu.name} has no bfloat16; train with --set precision=float16"
    if isinstance(config.task, PriorTaskConfig | DecoderTaskConfig) and text_length(config.task.model):
        yield "counted with texts of full length; shorter ones cost less"
    if config.optimizer.name == "muon" and config.strategy != "ddp":
        yield "muon needs whole matrices; train with --strategy ddp"
