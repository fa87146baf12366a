"""Operations of a sampling, counted on meta by the code that samples. Knows stages; no clock and no device."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from unclip.bench.jobs import StageJob
from unclip.bench.stage import prepare
from unclip.bench.weights import held_bytes
from unclip.models import count_parameters
from unclip.pipelines.networks import build_on_meta
from unclip.pipelines.sizes import count_step

__all__ = ["StageCount", "count_stage"]

META = torch.device("meta")


class StageCount(NamedTuple):
    """What a sampling of one stage takes, two operations per multiply-add."""

    setup: int
    """Once, for all pictures of the batch."""
    steps: tuple[int, ...]
    """In each step, for all pictures of the batch; both passes of guidance, and Heun's second one."""
    forward: int
    """One whole pass of the network for one picture, no part of it remembered: the figure that papers give."""
    num_parameters: int
    weight_bytes: int
    """In the format that it runs in, the network for the last step included."""

    @property
    def total(self) -> int:
        """Of the whole sampling."""
        return self.setup + sum(self.steps)


def count_stage(job: StageJob) -> StageCount:
    """Count the sampling of `job`; raises `InputError` as sampling it would for settings that cannot be."""
    shapes = [shape for shape in (job.shape, job.last) if shape is not None]
    networks = [build_on_meta(shape.load()) for shape in shapes]
    forward = count_step(networks[0])
    counter, dtype = FlopCounterMode(display=False), getattr(torch, job.dtype)
    held = sum(held_bytes(network, dtype) for network in networks)
    for network in networks:
        _remember(network, counter)
    begin = prepare(job, networks[0], networks[1] if len(networks) > 1 else None, META)
    remembered = [vars(network)["forward"] for network in networks]

    def so_far() -> int:
        return int(counter.get_total_flops()) + sum(function.spared for function in remembered)

    with torch.no_grad(), counter:
        steps = begin()
        marks = [so_far(), *(so_far() for _ in steps)]
    num_parameters = sum(count_parameters(network) for network in networks)
    differences = tuple(after - before for before, after in pairwise(marks))
    return StageCount(marks[0], differences, forward, num_parameters, held)


class _Remembered:
    """A forward pass that is made once for inputs of the same shapes; a U-Net takes a second, even on meta."""

    def __init__(self, forward: Callable[..., Tensor], counter: FlopCounterMode) -> None:
        self.forward, self.counter = forward, counter
        self.seen: dict[Any, tuple[int, Tensor]] = {}
        self.spared = 0
        """Operations of the passes that were not made."""

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        key = tuple((name, getattr(value, "shape", None)) for name, value in [*enumerate(inputs), *named.items()])
        if key in self.seen:
            flops, output = self.seen[key]
            self.spared += flops
            return output
        before = int(self.counter.get_total_flops())
        output = self.forward(*inputs, **named)
        self.seen[key] = (int(self.counter.get_total_flops()) - before, output)
        return output


def _remember(network: nn.Module, counter: FlopCounterMode) -> None:
    # On the object, where calls look first; a wrapper would be another class, by which stages tell networks apart.
    vars(network)["forward"] = _Remembered(network.forward, counter)
