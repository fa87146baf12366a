"""Noise schedules: how much signal and noise a sample holds at time t."""

import math
from typing import Literal, Protocol, TypeVar, get_args, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from unclip.errors import ConfigError, did_you_mean

ScheduleName = Literal["cosine", "linear", "kandinsky"]
Number = TypeVar("Number", float, Tensor)


@runtime_checkable
class NoiseSchedule(Protocol):
    """x_t = alpha(t) x0 + sigma(t) noise with alpha^2 + sigma^2 = 1; t in [0, 1], 0 is clean."""

    def alpha(self, t: Tensor | float) -> Tensor:
        """Signal scale at t, float64, in the shape of t."""
        ...

    def sigma(self, t: Tensor | float) -> Tensor:
        """Noise scale at t, float64, in the shape of t."""
        ...


@runtime_checkable
class TimestepSchedule(NoiseSchedule, Protocol):
    """A schedule with the time step that a network reads for t, and the number of steps of its training."""

    num_timesteps: int

    def timestep(self, t: Tensor | float) -> Tensor:
        """The number a network receives for t, float32, in the shape of t."""
        ...


class DiscreteSchedule:
    """A table of T cumulative products, entry i at t = (i + 1) / T; between entries the log-SNR is linear in t.

    alphas_cumprod: (T,), strictly decreasing inside (0, 1), kept in float64 whatever dtype it came in.
    Table entries are hit bit for bit, also from a float32 t. t = 0 is clean (alpha 1, sigma 0); below 1/T alpha^2 is
    linear.
    betas: (T,), where the table is one that was rounded, and samplers are to step between its neighbours by them.
    Raises ConfigError for a table that is empty, not one-dimensional, not decreasing or outside (0, 1).
    """

    def __init__(
        self,
        alphas_cumprod: Float[Tensor, " num_timesteps"],
        name: str,
        betas: Float[Tensor, " num_timesteps"] | None = None,
    ) -> None:
        table = alphas_cumprod.detach().to("cpu", torch.float64)
        _check_table(table, name)
        self.name = name
        self.num_timesteps = len(table)
        self.alphas_cumprod = table
        self.betas = None if betas is None else betas.detach().to("cpu", torch.float64)
        log_snr = table.log() - (-table).log1p()
        # Index 0 of both is the clean end: alpha^2 = 1 there, and its infinite log-SNR is never used.
        padded = torch.stack([torch.cat([table.new_ones(1), table]), torch.cat([table.new_zeros(1), log_snr])])
        self._by_device = {torch.device("cpu"): padded}

    def __repr__(self) -> str:
        return f"DiscreteSchedule({self.name!r}, num_timesteps={self.num_timesteps})"

    def alpha(self, t: Tensor | float) -> Tensor:
        """sqrt of the cumulative product at t, float64, in the shape of t."""
        return self._alpha_squared(t).sqrt()

    def sigma(self, t: Tensor | float) -> Tensor:
        """sqrt(1 - alpha^2) at t, float64, in the shape of t."""
        return (1 - self._alpha_squared(t)).sqrt()

    def timestep(self, t: Tensor | float) -> Tensor:
        """t T - 1, float32: the table index where t is a table point, a fraction between two."""
        return (self._position(t) - 1).float()

    def step_beta(self, t: Tensor | float, t_prev: Tensor | float) -> Tensor:
        """Variance that the forward process adds between t_prev and t, float64 (beta_t of DDPM eq. 2)."""
        exact = 1 - self._alpha_squared(t) / self._alpha_squared(t_prev)
        if self.betas is None:
            return exact
        index = self._position(t) - 1
        known = (index == self._position(t_prev)) & (index == index.round())
        # A float32 table holds 1 - beta to 7 digits: of the first beta, 4e-5, 3 are left.
        return torch.where(known, self.betas.to(index.device)[index.clamp(min=0).long()], exact)

    def time(self, index: Tensor | int) -> Tensor:
        """The t of table entry `index` in [0, T), float64; index -1 is the clean end t = 0."""
        return (torch.as_tensor(index).double() + 1) / self.num_timesteps

    def _position(self, t: Tensor | float) -> Tensor:
        position = as_time(t) * self.num_timesteps
        nearest = position.round()
        # A float32 t is off by up to T 2^-24 from its table point; take it as that point.
        return torch.where((position - nearest).abs() <= self.num_timesteps * 2**-23, nearest, position)

    def _alpha_squared(self, t: Tensor | float) -> Tensor:
        position = self._position(t)
        table, log_snr = self._tables(position.device)
        lower = position.floor().long()
        upper = (lower + 1).clamp(max=self.num_timesteps)
        fraction = position - lower
        near_clean = torch.lerp(table[lower], table[upper], fraction)
        between = torch.sigmoid(torch.lerp(log_snr[lower], log_snr[upper], fraction))
        return torch.where(fraction == 0, table[lower], torch.where(lower == 0, near_clean, between))

    def _tables(self, device: torch.device) -> Tensor:
        if device not in self._by_device:
            self._by_device[device] = self._by_device[torch.device("cpu")].to(device)
        return self._by_device[device]


class CosineSchedule:
    """The cosine schedule in closed form, without the table and its clipped last steps; for theory and continuous time.

    alpha(1) is 0 up to rounding, so eps and v conversions are undefined at t = 1 itself.
    """

    num_timesteps = 1000

    def alpha(self, t: Tensor | float) -> Tensor:
        """sqrt(f(t) / f(0)), float64, in the shape of t."""
        return torch.cos(_cosine_angle(as_time(t))) / math.cos(_cosine_angle(0.0))

    def sigma(self, t: Tensor | float) -> Tensor:
        """sqrt(1 - alpha^2) at t, float64, in the shape of t."""
        return (1 - self.alpha(t).square()).clamp(min=0).sqrt()

    def timestep(self, t: Tensor | float) -> Tensor:
        """1000 t - 1, float32: the scale of the 1000-step table."""
        return (as_time(t) * self.num_timesteps - 1).float()


# Cosine schedule, Improved DDPM eq. 17: beta_i = min(1 - f(i + 1) / f(i), 0.999).
def cosine_schedule(num_timesteps: int = 1000, dtype: torch.dtype = torch.float64) -> DiscreteSchedule:
    """The cosine table; dtype=torch.float32 multiplies it up in float32, as diffusers does.

    Raises ConfigError for num_timesteps < 1.
    """
    _check_num_timesteps(num_timesteps)
    f = [math.cos(_cosine_angle(i / num_timesteps)) ** 2 for i in range(num_timesteps + 1)]
    betas = torch.tensor([min(1 - f[i + 1] / f[i], 0.999) for i in range(num_timesteps)], dtype=dtype)
    return DiscreteSchedule((1 - betas).cumprod(0), "cosine", betas if dtype == torch.float32 else None)


# Linear schedule, DDPM section 4: beta from 1e-4 to 0.02 over 1000 steps.
def linear_schedule(
    num_timesteps: int = 1000,
    dtype: torch.dtype = torch.float64,
    *,
    beta_start: float = 1e-4,
    beta_end: float = 0.02,
) -> DiscreteSchedule:
    """The linear table; each of T steps stands for 1000 / T steps of the 1000-step process.

    The factor 1 - beta is raised to 1000 / T rather than beta multiplied, which passes 1 below T = 20.
    dtype as in cosine_schedule. Raises ConfigError for num_timesteps < 1.
    """
    _check_num_timesteps(num_timesteps)
    factors = (1 - torch.linspace(beta_start, beta_end, num_timesteps, dtype=dtype)) ** (1000 / num_timesteps)
    return DiscreteSchedule(factors.cumprod(0), "linear", 1 - factors if dtype == torch.float32 else None)


def make_schedule(
    name: ScheduleName | str, num_timesteps: int = 1000, dtype: torch.dtype = torch.float64
) -> DiscreteSchedule:
    """The schedule called `name`. Raises ConfigError with the nearest name for an unknown one."""
    if name == "cosine":
        return cosine_schedule(num_timesteps, dtype)
    if name == "linear":
        return linear_schedule(num_timesteps, dtype)
    if name == "kandinsky":  # That of Stable Diffusion's latents, but linear in beta instead of its root.
        return linear_schedule(num_timesteps, dtype, beta_start=0.00085, beta_end=0.012)
    raise ConfigError(f"unknown schedule {name!r}; {did_you_mean(name, get_args(ScheduleName))}")


def half_log_snr(schedule: NoiseSchedule, t: Tensor | float) -> Tensor:
    """log(alpha / sigma) at t, float64 (lambda of DPM-Solver); infinite at t = 0."""
    return schedule.alpha(t).log() - schedule.sigma(t).log()


def per_sample(coefficient: Float[Tensor, "*batch"], x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Shape a coefficient, one number or one per sample, to multiply x.

    The cast to the dtype of x is the last thing that happens to it: ratios of schedule values lose digits in float32.
    """
    if coefficient.ndim == 0:
        return coefficient  # A zero-dimensional tensor takes the dtype and device of x by itself.
    return coefficient.reshape(-1, *[1] * (x.ndim - 1)).to(x)


def as_time(t: Tensor | float) -> Tensor:
    """t as a float64 tensor, where `as_float64` puts it."""
    return as_float64(t) if isinstance(t, Tensor) else torch.tensor(t, dtype=torch.float64)


def as_float64(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """x in float64, on the device it came on (on the CPU where that device has no float64)."""
    return x.cpu().double() if x.device.type == "mps" else x.double()


# The angle inside f of Improved DDPM eq. 17, s = 0.008.
def _cosine_angle(t: Number) -> Number:
    return (t + 0.008) / 1.008 * (math.pi / 2)


def _check_num_timesteps(num_timesteps: int) -> None:
    if num_timesteps < 1:
        raise ConfigError(f"num_timesteps={num_timesteps} is below 1; released models use 1000.")


def _check_table(table: Tensor, name: str) -> None:
    if table.ndim != 1 or len(table) == 0:
        raise ConfigError(f"schedule {name!r}: the table has shape {tuple(table.shape)}; it must be (num_timesteps,).")
    if not (bool((table > 0).all()) and bool((table < 1).all()) and bool((table.diff() < 0).all())):
        raise ConfigError(
            f"schedule {name!r}: the table runs from {table[0]:.3g} to {table[-1]:.3g}; "
            "cumulative products must fall strictly inside (0, 1)."
        )
