"""An upsampler as a stage: small pictures to larger ones."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unclip.diffusion import Denoiser, Region, SamplerStep, Tiling, bind, clip_x0, hand_over, tiled
from unclip.images import resize
from unclip.model.settings import PIXEL_BOUND, StageSettings
from unclip.models import Upsampler
from unclip.pipelines.stage import FROM_NOISE, Stage, Start, run_to_end, sample_steps, stage_times
from unclip.runtime import NoiseSource
from unclip.shapes import Images

# In pixels. A pass of the shipped network over a tile takes 150 MB: smaller ones save little of that, and cost time.
# With a halo of 32 its tiles differ from one pass by 89 dB, with 16 by 75 (float32, tiles of 512 px).
TILE_SIZE, HALO = 1024, 32

LargeImages = Float[Tensor, "batch channels large_height large_width"]


@dataclass(frozen=True, eq=False, repr=False)
class UpsamplerStage(Stage):
    """An upsampler network and how it is sampled unless a caller says otherwise. It uses no guidance."""

    network: Upsampler
    last_step_network: Upsampler | None = None
    """A second network for the last step alone, such as Karlo's."""

    @property
    def name(self) -> str:
        return f"upsampler_{self.image_size}"

    @property
    def networks(self) -> dict[str, nn.Module]:
        last = {} if self.last_step_network is None else {f"{self.name}_last": self.last_step_network}
        return {self.name: self.network, **last}

    @property
    def image_size(self) -> int:
        """Side of its pictures in pixels."""
        return self.network.config.image_size

    @property
    def channels(self) -> int:
        """Channels of its pictures: 3, or 4 where RGB on white is followed by its coverage."""
        return self.network.config.in_channels

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
        size, halo = (math.ceil(side / multiple) * multiple for side in (max(TILE_SIZE, self.image_size), HALO))
        return Tiling(tile_size=size, halo=halo, multiple=multiple)

    def denoiser(self, low_res: Images, settings: StageSettings, handover_time: float = 0.0) -> Denoiser:
        """Make the denoiser of large pictures, of small ones that hold noise of deviation `settings.augmentation`.

        From `handover_time` on it is the network for the last step, where there is one.
        """
        denoiser = self._bind(self.network, low_res, settings)
        if self.last_step_network is not None:
            denoiser = hand_over(denoiser, self._bind(self.last_step_network, low_res, settings), handover_time)
        return clip_x0(denoiser, settings.x0_bound or PIXEL_BOUND)

    def _bind(self, network: Upsampler, low_res: Images, settings: StageSettings) -> Denoiser:
        config, conditioning = network.config, {"low_res": low_res}
        if config.noise_conditioning:
            conditioning["augmentation"] = torch.full((len(low_res),), settings.augmentation, device=low_res.device)
        return bind(network, self.schedule_of(settings), config.prediction_type, conditioning, config.learned_variance)

    def tiled_denoiser(self, low_res: Images, size: tuple[int, int], settings: StageSettings) -> Denoiser:
        """Make the denoiser of pictures of (height, width), by tiles where they are larger than one."""
        # Enlarged once, as the network would do in every step.
        enlarged, schedule = resize(low_res, size), self.schedule_of(settings)
        handover_time = float(stage_times(schedule, settings)[-2])

        def denoiser_of(region: Region) -> Denoiser:
            return self.denoiser(enlarged[(..., *region)], settings, handover_time)

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
        """Sample pixels, step by step; the `x_t` of the last is the picture in [-1, 1].

        `size` is its (height, width), multiples of `size_multiple`; None is a square of `image_size`. What is larger
        than a tile is computed by tiles, from the same noise.
        After the start, and before the steps, `noise` is drawn once for the augmentation where that is above 0.
        """
        height, width = size or (self.image_size, self.image_size)
        draw = partial(self.draw, noise, (self.channels, height, width), low_res.device)
        start = start if start.x_T is not None else start._replace(x_T=draw())
        if settings.augmentation > 0.0:
            low_res = low_res + settings.augmentation * noise(low_res.shape[1:], low_res.device)
        denoiser = self.tiled_denoiser(low_res, (height, width), settings)
        return sample_steps(denoiser, self.schedule_of(settings), settings, draw, start)

    def finish(self, x_0: LargeImages) -> LargeImages:
        """Make pictures in [-1, 1] of the result of `steps`."""
        return x_0.clamp(-1.0, 1.0)

    def sample(self, low_res: Images, noise: NoiseSource, settings: StageSettings | None = None) -> LargeImages:
        """Sample pictures (batch, channels, image_size, image_size) of small ones (batch, channels, height, width)."""
        return run_to_end(self.steps(low_res, noise, settings or self.defaults))
