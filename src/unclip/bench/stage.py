"""A stage under measurement: made-up inputs, the sampling that the pipeline does with them, and its operations."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from unclip.clip import ClipConfig, MultilingualConfig, TextFeatures
from unclip.config import Config, load_config
from unclip.model import StageSettings
from unclip.model.families import FAMILIES, build_on_meta, count_step, family_of
from unclip.model.family import CLIP_TOKENS
from unclip.models import count_flops, count_parameters
from unclip.pipelines import Condition, DecoderStage, PriorStage, UpsamplerStage
from unclip.runtime import NoiseSource, seeded

META = torch.device("meta")


class StageJob(Config):
    """Sampling one stage at one batch size."""

    kind: Literal["stage"] = "stage"
    stage: str
    shapes: tuple[tuple[str, dict[str, Any]], ...]
    """Class and configuration of the network, and of that of the last step if it has its own; see `shape_of`."""
    settings: StageSettings | None = None
    """None: it is not sampled, but goes through its network once."""
    size: tuple[PositiveInt, PositiveInt] | None = None
    """(height, width) of what the network makes, in its own numbers: latents are smaller than pictures."""
    text_tokens: PositiveInt | None = None
    """Length of texts for networks that do not limit it; None is CLIP's."""
    batch: PositiveInt
    num_candidates: PositiveInt = 1
    dtype: str
    device: str
    num_steps: PositiveInt = 1
    """Steps of a whole sampling."""
    repeats: PositiveInt
    """Steps that are timed at least."""
    model: str | None = None
    """Where weights are read; None: random ones."""

    def networks(self) -> list[Any]:
        """Build the networks on the meta device."""
        return [build_on_meta(load_config(FAMILIES[name].config, config)) for name, config in self.shapes]


def shape_of(config: Config) -> tuple[str, dict[str, Any]]:
    """Describe a network by its class and configuration, as a process can be sent it."""
    return family_of(config).network.__name__, config.model_dump(mode="json")


class StageCount(NamedTuple):
    """Operations of sampling one stage, two per multiply-add, and its weights."""

    setup: int
    """Once, for all pictures of the batch."""
    steps: tuple[int, ...]
    """In each step, for all pictures of the batch; both passes of guidance, and Heun's second one."""
    forward: int
    """One whole pass of the network for one picture, without remembered parts: the figure that papers give."""
    num_parameters: int
    weight_bytes: int
    """In the format that it runs in, the network for the last step included."""


def count_stage(job: StageJob) -> StageCount:
    """Count the sampling of `job` on meta, by the code that samples; raises `InputError` for invalid settings."""
    networks = job.networks()
    forward, num_parameters = count_step(networks[0]), sum(map(count_parameters, networks))
    weight_bytes = num_parameters * getattr(torch, job.dtype).itemsize
    # Statistics stay in float32.
    weight_bytes += sum(buffer.numel() * 4 for network in networks for buffer in network.buffers())
    passes = list[int]()
    for network in networks if job.settings else []:
        _count_forward(network, passes)
    begin = prepare(job, networks, META)
    with torch.no_grad():
        with FlopCounterMode(display=False) as counter:
            steps = begin()
        setup = int(counter.get_total_flops())
        totals = [sum(passes) for _ in steps] if job.settings else [count_flops(lambda: next(steps))]
    flops = tuple(after - before for before, after in pairwise([0, *totals]))
    return StageCount(setup, flops, forward, num_parameters, weight_bytes)


def _count_forward(network: nn.Module, passes: list[int]) -> None:
    """Make the network append the operations of each forward pass to `passes`.

    A pass is made once for inputs of the same shapes, since one of a large U-Net takes a second on meta.
    """
    forward, by_shape = network.forward, dict[Any, tuple[int, Tensor]]()

    def counted(*inputs: Any, **named: Any) -> Tensor:
        key = tuple((name, getattr(value, "shape", None)) for name, value in [*enumerate(inputs), *named.items()])
        if key not in by_shape:
            with FlopCounterMode(display=False) as counter:
                output = forward(*inputs, **named)
            by_shape[key] = (int(counter.get_total_flops()), output)
        passes.append(by_shape[key][0])
        return by_shape[key][1]

    # On the object, where calls look first: a wrapper would be another class, by which stages recognise networks.
    vars(network)["forward"] = counted


def prepare(job: StageJob, networks: Sequence[Any], device: torch.device) -> Callable[[], Iterator[object]]:
    """Make inputs on `device`, which may be meta; each call of the result begins a sampling and returns its steps.

    Work that a sampling does once is done during the call.
    """
    network, shape, settings, batch = networks[0], networks[0].config, job.settings, job.batch
    if settings is None:
        run = _encoding(job, network, device)
        return lambda: (run() for _ in range(1))
    family = family_of(shape)
    inputs = family.example_inputs(shape, batch, job.size, job.text_tokens or CLIP_TOKENS)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=seeded(0)).to(device)

    def text(rows: int) -> TextFeatures:
        # A network that reads no text gets one, too, and ignores it.
        embedding, hidden = inputs.get("text_embedding"), inputs.get("text_hidden")
        tokens = (1, 1) if hidden is None else hidden.shape[1:]
        mask = torch.ones(rows, tokens[0], dtype=torch.bool, device=device)
        return TextFeatures(normal(rows, 1 if embedding is None else embedding.shape[1]), normal(rows, *tokens), mask)

    def noise() -> NoiseSource:
        return NoiseSource.from_seeds(range(batch))

    if family.stage == "prior":
        prior, prompts, null = PriorStage(network, settings), text(batch), text(1)
        return lambda: prior.steps(prompts, null, noise(), settings, job.num_candidates)
    if family.stage == "decoder":
        # Without its autoencoder, which is measured by itself.
        decoder, image = DecoderStage(network, settings), normal(batch, shape.embedding_dim)
        condition = Condition(text(batch), text(1), image[:1])
        return lambda: decoder.steps(image, condition, noise(), settings, size=job.size)
    assert job.size is not None, "an upsampler makes pictures of some size"
    upsampler, factor = UpsamplerStage(network, settings, *networks[1:]), shape.image_size // shape.low_res_size
    low_res = normal(batch, shape.in_channels, job.size[0] // factor, job.size[1] // factor).clamp(-1.0, 1.0)
    return lambda: upsampler.steps(low_res, noise(), settings, size=job.size)


def _encoding(job: StageJob, network: Any, device: torch.device) -> Callable[[], object]:
    """Return the one pass of a network that is not sampled."""
    match network.config:
        case ClipConfig(context_length=length, end_token=end):
            ids = torch.zeros(job.batch, length, dtype=torch.int64)
            ids[:, -1] = end
            ids = ids.to(device)
            # The prompts, and the empty one that guidance leads away from.
            return lambda: (network.encode_tokens(ids), network.encode_tokens(ids[:1]))
        case MultilingualConfig(context_length=length, pad_token=pad):
            ids = torch.full((job.batch, length), pad + 1, device=device)
            return lambda: network(ids, torch.ones_like(ids, dtype=torch.bool))
        case shape:
            assert job.size is not None, "an autoencoder decodes latents of some size"
            latents = torch.randn(job.batch, shape.latent_channels, *job.size, generator=seeded(0)).to(device)
            return lambda: network.decode(latents)
