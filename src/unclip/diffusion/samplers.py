"""The samplers by name."""

from unclip.diffusion.ddim import ddim
from unclip.diffusion.ddpm import ddpm
from unclip.diffusion.dpmpp_2m import dpmpp_2m
from unclip.diffusion.dpmpp_2m_sde import dpmpp_2m_sde
from unclip.diffusion.heun import heun
from unclip.diffusion.sampler import SamplerSpec
from unclip.errors import InputError, did_you_mean

SAMPLERS = {
    "ddpm": SamplerSpec("ddpm", ddpm, order=1, stochastic=True),
    "ddim": SamplerSpec("ddim", ddim, order=1, stochastic=False),
    "heun": SamplerSpec("heun", heun, order=2, stochastic=False),
    "dpm++": SamplerSpec("dpm++", dpmpp_2m, order=2, stochastic=False),
    "dpm++sde": SamplerSpec("dpm++sde", dpmpp_2m_sde, order=2, stochastic=True),
}


def get_sampler(name: str) -> SamplerSpec:
    """Return the sampler called `name`. Raises InputError with the nearest name for an unknown one."""
    if name not in SAMPLERS:
        raise InputError(f"unknown sampler {name!r}; {did_you_mean(name, SAMPLERS)}")
    return SAMPLERS[name]
