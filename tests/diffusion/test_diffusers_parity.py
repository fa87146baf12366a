"""Schedules, grids and samplers against those of diffusers, with the float32 tables that it builds."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, UnCLIPScheduler
from torch import Tensor, nn

from unclip.diffusion import (
    DiscreteSchedule,
    SamplerStep,
    bind,
    clip_x0,
    cosine_schedule,
    ddim,
    ddpm,
    dpmpp_2m,
    dpmpp_2m_sde,
    linear_schedule,
    make_schedule,
    time_grid,
)

COSINE = cosine_schedule(dtype=torch.float32)
SHAPE = (2, 3, 4, 4)


class Network(nn.Module):
    """A smooth function of x_t and time with as many channels as asked for, the second half within [-1, 1]."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, padding=1)

    @torch.no_grad()
    def forward(self, x_t: Tensor, timestep: Tensor) -> Tensor:
        return torch.tanh(self.conv(x_t) + timestep[:, None, None, None] / 1000)


class Draws:
    """The same noise for both sides."""

    def __init__(self, seed: int = 5) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self) -> Tensor:
        return torch.randn(SHAPE, generator=self.generator)


def run_theirs(scheduler, network: Network, x: Tensor, kwargs) -> list[Tensor]:
    states = []
    for index, timestep in enumerate(scheduler.timesteps):
        output = network(x, timestep.float().expand(len(x)))
        x = scheduler.step(output, timestep, x, **kwargs(scheduler, index)).prev_sample
        states.append(x)
    return states


def compare(ours: list[SamplerStep], theirs: list[Tensor], tolerance: float) -> None:
    assert len(ours) == len(theirs)
    for step, theirs_x_t in zip(ours, theirs, strict=True):
        torch.testing.assert_close(step.x_t, theirs_x_t, rtol=tolerance, atol=tolerance)


def test_float32_tables_are_equal_bit_for_bit() -> None:
    assert torch.equal(COSINE.alphas_cumprod.float(), UnCLIPScheduler().alphas_cumprod)
    theirs = DDPMScheduler(beta_start=1e-4, beta_end=0.02).alphas_cumprod
    assert torch.equal(linear_schedule(dtype=torch.float32).alphas_cumprod.float(), theirs)
    kandinsky = DDPMScheduler(beta_start=0.00085, beta_end=0.012).alphas_cumprod
    assert torch.equal(make_schedule("kandinsky", dtype=torch.float32).alphas_cumprod.float(), kandinsky)


def test_grids_are_equal_for_every_number_of_steps() -> None:
    scheduler = UnCLIPScheduler()
    for num_steps in range(2, 1001):
        scheduler.set_timesteps(num_steps)
        assert COSINE.timestep(time_grid(COSINE, num_steps))[:-1].tolist() == scheduler.timesteps.tolist()


@pytest.mark.parametrize("exact", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize("num_steps", [2, 7, 25])
@pytest.mark.parametrize("their_type", ["sample", "epsilon"])
def test_ddpm_is_the_unclip_scheduler(num_steps: int, their_type: str, exact: bool) -> None:
    network, x_T, bound = Network(), torch.randn(SHAPE), 0.8
    scheduler = UnCLIPScheduler(prediction_type=their_type, clip_sample_range=bound)
    schedule, tolerance = tables(scheduler, exact)
    denoiser = clip_x0(bind(network, schedule, "x0" if their_type == "sample" else "eps", {}), bound)
    ours = list(ddpm(denoiser, x_T, time_grid(schedule, num_steps), Draws()))
    compare(ours, unclip_states(scheduler, network, x_T, num_steps), tolerance)


@pytest.mark.parametrize("exact", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize("num_steps", [2, 25])
def test_ddpm_with_learned_variance_is_the_unclip_scheduler(num_steps: int, exact: bool) -> None:
    network, x_T, scheduler = Network(6), torch.randn(SHAPE), UnCLIPScheduler(variance_type="learned_range")
    schedule, tolerance = tables(scheduler, exact)
    denoiser = clip_x0(bind(network, schedule, "eps", {}, learned_variance=True))
    ours = list(ddpm(denoiser, x_T, time_grid(schedule, num_steps), Draws()))
    compare(ours, unclip_states(scheduler, network, x_T, num_steps), tolerance)


def tables(scheduler: UnCLIPScheduler, exact: bool) -> tuple[DiscreteSchedule, float]:
    """Our schedule and the tolerance: 3e-4 as diffusers comes, 1e-5 once its tables are in float64.

    In float32 its last step multiplies x0 by beta / (1 - alpha-bar) = 0.9997 where both are the same number, which our
    float32 table repeats; what is left is the rounding of the other coefficients.
    """
    if not exact:
        return COSINE, 3e-4
    schedule = cosine_schedule()
    scheduler.alphas_cumprod = schedule.alphas_cumprod
    scheduler.alphas = schedule.alphas_cumprod / torch.cat([torch.ones(1), schedule.alphas_cumprod[:-1]])
    scheduler.betas, scheduler.one = 1 - scheduler.alphas, torch.ones((), dtype=torch.float64)
    return schedule, 1e-5


def unclip_states(scheduler: UnCLIPScheduler, network: Network, x: Tensor, num_steps: int) -> list[Tensor]:
    """UnCLIPScheduler takes no noise, so its generator is seeded as ours; it draws none at timestep 0."""
    scheduler.set_timesteps(num_steps)
    generator = torch.Generator().manual_seed(5)

    def kwargs(scheduler: UnCLIPScheduler, index: int) -> dict[str, object]:
        following = scheduler.timesteps[index + 1] if index + 1 < num_steps else None
        return {"generator": generator, "prev_timestep": following}

    return run_theirs(scheduler, network, x, kwargs)


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_ddim_is_the_ddim_scheduler(eta: float) -> None:
    network, x_T, noise = Network(), torch.randn(SHAPE), Draws()
    scheduler = DDIMScheduler(
        beta_schedule="squaredcos_cap_v2", clip_sample=False, set_alpha_to_one=True, timestep_spacing="trailing"
    )
    scheduler.set_timesteps(20)
    times = torch.cat([COSINE.time(scheduler.timesteps), torch.zeros(1, dtype=torch.float64)])
    # The first evaluation divides by alpha = 5e-5, in float32 on both sides; the grid starts behind it.
    scheduler.timesteps, times = scheduler.timesteps[1:], times[1:]
    ours = list(ddim(bind(network, COSINE, "eps", {}), x_T, times, Draws(), eta=eta))
    theirs = run_theirs(
        scheduler, network, x_T, lambda *_: {"eta": eta, "variance_noise": noise() if eta > 0 else None}
    )
    compare(ours, theirs, 1e-4)


def test_ddim_with_clipping_is_the_ddim_scheduler() -> None:
    network, x_T = Network(), torch.randn(SHAPE)
    scheduler = DDIMScheduler(beta_schedule="squaredcos_cap_v2", timestep_spacing="trailing")
    scheduler.set_timesteps(20)
    times = torch.cat([COSINE.time(scheduler.timesteps), torch.zeros(1, dtype=torch.float64)])
    ours = list(ddim(clip_x0(bind(network, COSINE, "eps", {})), x_T, times))
    theirs = run_theirs(scheduler, network, x_T, lambda *_: {"use_clipped_model_output": True})
    compare(ours, theirs, 1e-4)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # numpy 2 inside diffusers
@pytest.mark.parametrize(("algorithm", "sample"), [("dpmsolver++", dpmpp_2m), ("sde-dpmsolver++", dpmpp_2m_sde)])
def test_dpm_solver_is_the_multistep_scheduler(algorithm: str, sample) -> None:
    network, x_T, noise = Network(), torch.randn(SHAPE), Draws()
    scheduler = DPMSolverMultistepScheduler(
        beta_schedule="linear", beta_start=1e-4, algorithm_type=algorithm, final_sigmas_type="zero"
    )
    scheduler.set_timesteps(20)
    schedule = linear_schedule(dtype=torch.float32)
    times = torch.cat([schedule.time(scheduler.timesteps), torch.zeros(1, dtype=torch.float64)])
    ours = list(sample(bind(network, schedule, "eps", {}), x_T, times, Draws()))
    stochastic = algorithm.startswith("sde")
    theirs = run_theirs(scheduler, network, x_T, lambda *_: {"variance_noise": noise() if stochastic else None})
    compare(ours, theirs, 1e-3)
