"""Time grids: the times that a sampler visits; they know a schedule, not the sampler."""

from typing import Literal, assert_never

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from unclip.diffusion.schedules import DiscreteSchedule, NoiseSchedule, half_log_snr
from unclip.errors import InputError

Spacing = Literal["uniform", "logsnr"]


def time_grid(
    schedule: DiscreteSchedule, num_steps: int, spacing: Spacing = "uniform"
) -> Float64[Tensor, " num_times"]:
    """num_steps + 1 falling times from the last table point to 0, on the CPU.

    "uniform" takes evenly spaced table entries, rounded, as released unCLIP models were sampled; "logsnr" is even in
    log-SNR and leaves the table. Raises InputError for num_steps < 1, or above the table's length for "uniform".
    """
    if num_steps < 1:
        raise InputError(f"num_steps={num_steps} is below 1; use 10 to 50.")
    match spacing:
        case "uniform":
            times = uniform_times(schedule, num_steps)
        case "logsnr":
            times = logsnr_times(schedule, num_steps)
        case _:
            assert_never(spacing)
    return torch.cat([times, times.new_zeros(1)])


# The start of an edit, SDEdit algorithm 1.
def times_from(times: Float[Tensor, " num_times"], strength: float) -> Float[Tensor, " num_left"]:
    """The tail of a time grid that begins at its point nearest to t = strength; at least one step is left.

    strength: in (0, 1], the share of the way to noise that a picture is taken before it is drawn again; 1 is the whole
    grid. Raises InputError outside.
    """
    if not 0 < strength <= 1:
        raise InputError(f"strength={strength} must lie in (0, 1]; 0.3 keeps most of a picture, 1 nothing.")
    return times[int((times[:-1] - strength).abs().argmin()) :]


def times_above(
    schedule: NoiseSchedule, times: Float[Tensor, " num_times"], sigma: float
) -> Float[Tensor, " num_left"]:
    """A time grid without the times whose noise is below `sigma`; its first and last stay.

    For `invert`: below a network's own error, eps = (x_t - alpha x0) / sigma is that error, enlarged. Raises InputError
    for sigma outside [0, 1].
    """
    if not 0 <= sigma <= 1:
        raise InputError(f"sigma={sigma} must lie in [0, 1]; 0 keeps every time, 0.1 suits small networks.")
    kept = schedule.sigma(times) >= sigma
    kept[[0, -1]] = True
    return times[kept]


# Evenly spaced timesteps, Improved DDPM section 4.
def uniform_times(schedule: DiscreteSchedule, num_steps: int) -> Float64[Tensor, " num_steps"]:
    """Table points round(i (T - 1) / (num_steps - 1)), falling; the last table point alone for one step."""
    last = schedule.num_timesteps - 1
    if num_steps > schedule.num_timesteps:
        raise InputError(f"num_steps={num_steps} exceeds the {last + 1} steps of the schedule; use 1 to {last + 1}.")
    # Halves round to even, and the stride is multiplied: other orders move single entries by one.
    indices = np.round(np.arange(num_steps) * (last / (num_steps - 1))) if num_steps > 1 else np.array([last])
    return schedule.time(torch.from_numpy(indices[::-1].copy()))


# Uniform steps in lambda, DPM-Solver section 3.4.
def logsnr_times(schedule: DiscreteSchedule, num_steps: int) -> Float64[Tensor, " num_steps"]:
    """Times from the last table point to the first, equal steps in log-SNR; exact, as the table is piecewise linear."""
    table_times = schedule.time(torch.arange(schedule.num_timesteps))
    noisiness = -half_log_snr(schedule, table_times).numpy()
    wanted = np.linspace(noisiness[-1], noisiness[0], num_steps)
    return torch.from_numpy(np.interp(wanted, noisiness, table_times.numpy()))
