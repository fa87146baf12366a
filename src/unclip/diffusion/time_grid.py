"""Time grids: the times that a sampler visits."""

from typing import Literal, assert_never

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from unclip.diffusion.schedules import DiscreteSchedule, half_log_snr
from unclip.errors import InputError

Spacing = Literal["uniform", "logsnr"]


def time_grid(
    schedule: DiscreteSchedule, num_steps: int, spacing: Spacing = "uniform", sigma_min: float = 0.0
) -> Float64[Tensor, " num_times"]:
    """Return num_steps + 1 falling times from the last table point to 0, on the CPU.

    "uniform" takes evenly spaced table entries, rounded, as released unCLIP models were sampled; "logsnr" is even in
    log-SNR and leaves the table. Entries with less noise than sigma_min are left out, and one step leads from there to
    0: for `invert`, since below a network's own error eps = (x_t - alpha x0) / sigma is that error, enlarged.

    Raises InputError for num_steps < 1, or above the number of entries for "uniform", and sigma_min outside [0, 1].
    """
    if not 0 <= sigma_min <= 1:
        raise InputError(f"sigma_min={sigma_min} must lie in [0, 1]; 0 leaves nothing out, 0.1 suits small networks.")
    if num_steps < 1:
        raise InputError(f"num_steps={num_steps} is below 1; use 10 to 50.")
    first = first_above(schedule, sigma_min)
    match spacing:
        case "uniform":
            times = uniform_times(schedule, num_steps, first)
        case "logsnr":
            times = logsnr_times(schedule, num_steps, first)
        case _:
            assert_never(spacing)
    return torch.cat([times, times.new_zeros(1)])


# The start of an edit, SDEdit algorithm 1.
def times_from(times: Float[Tensor, " num_times"], strength: float) -> Float[Tensor, " num_left"]:
    """Return the tail of a time grid from its point nearest to t = strength on; at least one step is left.

    strength: in (0, 1], the share of the way to noise that a picture is taken before it is drawn again; 1 is the whole
    grid. Raises InputError outside.
    """
    if not 0 < strength <= 1:
        raise InputError(f"strength={strength} must lie in (0, 1]; 0.3 keeps most of a picture, 1 nothing.")
    return times[int((times[:-1] - strength).abs().argmin()) :]


def first_above(schedule: DiscreteSchedule, sigma: float) -> int:
    """Return the first entry of the table with at least so much noise, the last if none has."""
    last = schedule.num_timesteps - 1
    sigmas = schedule.sigma(schedule.time(torch.arange(last)))
    return int((sigmas < sigma).sum())


# Evenly spaced timesteps, Improved DDPM section 4.
def uniform_times(schedule: DiscreteSchedule, num_steps: int, first: int = 0) -> Float64[Tensor, " num_steps"]:
    """Return table points first + round(i (T - 1 - first) / (num_steps - 1)), falling; the last alone for one step."""
    last = schedule.num_timesteps - 1
    entries = last + 1 - first
    if num_steps > entries:
        raise InputError(f"num_steps={num_steps} exceeds the {entries} steps of the schedule; use 1 to {entries}.")
    # Halves round to even, and the stride is multiplied: other orders move single entries by one.
    rounded = np.round(np.arange(num_steps) * ((last - first) / (num_steps - 1))) if num_steps > 1 else last - first
    indices = first + np.atleast_1d(rounded)
    return schedule.time(torch.from_numpy(indices[::-1].copy()))


# Uniform steps in lambda, DPM-Solver section 3.4.
def logsnr_times(schedule: DiscreteSchedule, num_steps: int, first: int = 0) -> Float64[Tensor, " num_steps"]:
    """Return times from the last table point to `first`, in equal steps of log-SNR, in which the table is linear."""
    table_times = schedule.time(torch.arange(first, schedule.num_timesteps))
    noisiness = -half_log_snr(schedule, table_times).numpy()
    wanted = np.linspace(noisiness[-1], noisiness[0], num_steps)
    return torch.from_numpy(np.interp(wanted, noisiness, table_times.numpy()))
