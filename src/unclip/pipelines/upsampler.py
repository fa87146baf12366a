"""An upsampler as a stage: small pictures to larger ones. Knows pixels and a sampler; not CLIP or the decoder."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from unclip.diffusion import Denoiser, DiscreteSchedule, Region, SamplerStep, Tiling, bind, clip_x0, hand_over, tiled
from unclip.images import resize
from unclip.model.settings import PIXEL_BOUND, StageSettings
from unclip.models import Upsampler
from unclip.pipelines.sampling import (
    FROM_NOISE,
    Start,
    describe_stage,
    run_to_end,
    sample_dtype,
    sample_steps,
    stage_times,
    trained_schedule,
)
from unclip.runtime import NoiseSource
from unclip.shapes import Images

# In pixels. A pass of the shipped network over a tile takes 150 MB: smaller ones save little of that, and cost time.
# With a halo of 32 its tiles differ from one pass by 89 dB, with 16 by 75 (float32, tiles of 512 px).
TILE_SIZE, HALO = 1024, 32

LargeImages = Float[Tensor, "batch channels large_height large_width"]


@dataclass(frozen=True, eq=False, repr=False)
class UpsamplerStage:
    """An upsampler network and how it is sampled unless a caller says otherwise. It uses no guidance."""

    network: Upsampler
    defaults: StageSettings
    last: Upsampler | None = None
    """A second network for the last step alone, such as Karlo's."""

    def __repr__(self) -> str:
        return f"<UpsamplerStage: {describe_stage(self.network, self.defaults)}>"

    @property
    def schedule(self) -> DiscreteSchedule:
        """The noise schedule that the network was trained on."""
        return self.schedule_of(self.defaults)

    def schedule_of(self, settings: StageSettings) -> DiscreteSchedule:
        """The schedule in the precision that `settings` ask for."""
        config = self.network.config
        return trained_schedule(config.schedule, config.num_timesteps, settings.schedule_dtype)

    @property
    def image_size(self) -> int:
        """Side of its pictures in pixels."""
        return self.network.config.image_size

    @property
    def size_multiple(self) -> int:
        """What the sides of its pictures must be divisible by."""
        return self.network.config.size_multiple

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device

    @property
    def tiling(self) -> Tiling:
        """How larger pictures are drawn, so that the memory of a pass does not grow with them.

        A tile is never smaller than what the network was trained for, since group norms depend on all that it sees.
        """
        multiple = self.size_multiple
        size = max(TILE_SIZE, self.image_size)
        return Tiling(tile_size=_round_up(size, multiple), halo=_round_up(HALO, multiple), multiple=multiple)

    @property
    def name(self) -> str:
        """What the stage is called in settings and files."""
        return f"upsampler_{self.image_size}"

    def denoiser(self, low_res: Images, settings: StageSettings, last_time: float = 0.0) -> Denoiser:
        """Denoiser of large pictures given small ones that hold noise of standard deviation `settings.augmentation`.

        From `last_time` on it is the network for the last step, where there is one.
        """
        first, x0_bound = self._bind(self.network, low_res, settings), settings.x0_bound or PIXEL_BOUND
        if self.last is None:
            return clip_x0(first, x0_bound)
        return clip_x0(hand_over(first, self._bind(self.last, low_res, settings), last_time), x0_bound)

    def tiled_denoiser(self, low_res: Images, size: tuple[int, int], settings: StageSettings) -> Denoiser:
        """Denoiser of pictures of (height, width), by tiles where they are larger than one."""
        # Enlarged once, as the network would do in every step.
        enlarged, schedule = resize(low_res, size), self.schedule_of(settings)
        last_time = float(stage_times(schedule, settings)[-2])

        def denoiser_of(region: Region) -> Denoiser:
            return self.denoiser(enlarged[(..., *region)], settings, last_time)

        return tiled(denoiser_of, schedule, self.tiling)

    def steps(
        self,
        low_res: Images,
        noise: NoiseSource,
        settings: StageSettings,
        *,
        size: tuple[int, int] | None = None,
        start: Start = FROM_NOISE,
    ) -> Iterator[SamplerStep]:
        """Sampler steps over pixels; the `x_t` of the last is the picture in [-1, 1].

        `size` is its (height, width), multiples of `size_multiple`; None is a square of `image_size`. What is larger
        than a tile is computed by tiles, from the same noise.
        After the start, and before the steps, `noise` is drawn once for the augmentation where that is above 0.
        """
        height, width = size or (self.image_size, self.image_size)
        shape, device = (3, height, width), low_res.device

        def draw() -> Tensor:
            return noise(shape, device, sample_dtype(self.network))

        start = start if start.x_T is not None else start._replace(x_T=draw())
        if settings.augmentation > 0.0:
            low_res = low_res + settings.augmentation * noise(low_res.shape[1:], device)
        denoiser = self.tiled_denoiser(low_res, (height, width), settings)
        return sample_steps(denoiser, self.schedule_of(settings), settings, draw, start)

    def sample(self, low_res: Images, noise: NoiseSource, settings: StageSettings | None = None) -> LargeImages:
        """Pictures (batch, 3, image_size, image_size) for small ones (batch, 3, height, width) in [-1, 1]."""
        return run_to_end(self.steps(low_res, noise, settings or self.defaults))

    def _bind(self, network: Upsampler, low_res: Images, settings: StageSettings) -> Denoiser:
        config, schedule = network.config, self.schedule_of(settings)
        conditioning = {"low_res": low_res}
        if config.noise_conditioning:
            conditioning["augmentation"] = torch.full((len(low_res),), settings.augmentation, device=low_res.device)
        return bind(network, schedule, config.prediction_type, conditioning, config.learned_variance)


def _round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
