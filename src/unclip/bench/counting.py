"""Operations of a sampling, counted on meta by the code that samples. Knows stages; no clock and no device."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from unclip.bench.jobs import StageJob
from unclip.bench.stage import prepare
from unclip.bench.weights import held_bytes
from unclip.model.families import build_on_meta, count_step
from unclip.models import count_flops, count_parameters

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
    held = sum(held_bytes(network, getattr(torch, job.dtype)) for network in networks)
    num_parameters = sum(count_parameters(network) for network in networks)
    setup, steps = _count_sampling(job, networks)
    return StageCount(setup, steps, forward, num_parameters, held)


@torch.no_grad()
def _count_sampling(job: StageJob, networks: Sequence[Any]) -> tuple[int, tuple[int, ...]]:
    """Operations of the set-up and of each step."""
    # What goes through its network once may do so by another way than a forward pass.
    passes = [_remember(network) for network in networks if job.settings is not None]
    begin = prepare(job, networks[0], networks[1] if len(networks) > 1 else None, META)
    with FlopCounterMode(display=False) as counter:
        steps = begin()
    setup = int(counter.get_total_flops())
    if job.settings is None:
        return setup, (count_flops(lambda: next(steps)),)
    marks = [0]
    for _ in steps:
        marks.append(sum(remembered.flops for remembered in passes))
    return setup, tuple(after - before for before, after in pairwise(marks))


class _Remembered:
    """A forward pass that is counted, and made once for inputs of the same shapes: one of a U-Net takes a second."""

    def __init__(self, forward: Callable[..., Tensor]) -> None:
        self.forward = forward
        self.seen: dict[Any, tuple[int, Tensor]] = {}
        self.flops = 0
        """Operations of all passes."""

    def __call__(self, *inputs: Any, **named: Any) -> Tensor:
        key = tuple((name, getattr(value, "shape", None)) for name, value in [*enumerate(inputs), *named.items()])
        if key not in self.seen:
            with FlopCounterMode(display=False) as counter:
                output = self.forward(*inputs, **named)
            self.seen[key] = (int(counter.get_total_flops()), output)
        flops, output = self.seen[key]
        self.flops += flops
        return output


def _remember(network: nn.Module) -> _Remembered:
    # On the object, where calls look first; a wrapper would be another class, by which stages tell networks apart.
    vars(network)["forward"] = remembered = _Remembered(network.forward)
    return remembered
