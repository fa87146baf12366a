"""RePaint's resampling around any sampler."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from unclip.diffusion.denoiser import Denoiser
from unclip.diffusion.process import renoise
from unclip.diffusion.sampler import Noise, Sampler, SamplerStep, draw, grid_steps
from unclip.errors import InputError
from unclip.shapes import Sample


# RePaint algorithm 1, with the jumps of its section 4.2.
def repaint(
    sampler: Sampler,
    denoiser: Denoiser,
    x_T: Sample,
    times: Tensor,
    noise: Noise | None = None,
    num_resamples: int = 1,
    jump: int = 1,
) -> Iterator[SamplerStep]:
    """Run `sampler` in segments of `jump` steps, each num_resamples times, noised back to its start in between.

    The repainted part adapts to the known one each time; `keep_known` makes the denoiser for it. Segments are
    counted from the clean end, where the step to t = 0 is by itself and made once; the first may be shorter. A sampler
    that looks at earlier steps begins afresh in each. num_resamples = 1 is the plain sampler. `index` and `num_steps`
    count every step. Raises InputError for num_resamples or jump below 1, and where noise is needed and missing.
    """
    if num_resamples < 1 or jump < 1:
        raise InputError(f"num_resamples={num_resamples} and jump={jump} must be 1 or more; RePaint uses 10 and 10.")
    if num_resamples == 1:
        yield from sampler(denoiser, x_T, times, noise)
        return
    runs = [run for run, count in segments(times, jump, num_resamples) for _ in range(count)]
    index, num_steps, x_t = 0, sum(len(run) - 1 for run in runs), x_T
    at = runs[0][0]
    for run in runs:
        if run[0] > at:
            x_t = renoise(denoiser.schedule, x_t, at, run[0], draw(noise, torch.tensor(1.0), x_t))
        for step in sampler(denoiser, x_t, run, noise):
            yield replace(step, index=index, num_steps=num_steps)
            index, x_t = index + 1, step.x_t
        at = run[-1]


def segments(times: Tensor, jump: int, num_resamples: int) -> list[tuple[Tensor, int]]:
    """Cut a time grid into pieces, each from its first time to the first of the next, and how often each is run."""
    steps = grid_steps(times)
    grid = torch.stack([step.t for step in steps] + [steps[-1].t_next])
    last = len(steps) - int(grid[-1] == 0)  # Where the only step to t = 0 begins, or the end of a grid without one.
    cuts = [*range(last, 0, -jump), 0][::-1]
    pieces = [(grid[start : stop + 1], num_resamples) for start, stop in itertools.pairwise(cuts)]
    return pieces if last == len(steps) else [*pieces, (grid[last:], 1)]
