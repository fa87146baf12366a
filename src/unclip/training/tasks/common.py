"""What several tasks need: pictures, initialisation from a seed, diffusion losses, frozen embeddings. Knows no loop."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from unclip.clip import TextImageEncoder
from unclip.data import Item, PictureSet, emoji_items, item_or_next, open_pictures, probe_uncaptioned, write_shards
from unclip.diffusion import DiscreteSchedule, Weighting, add_noise, diffusion_loss, estimate_x0
from unclip.errors import DataError
from unclip.images import from_uint8
from unclip.runtime import autocast, forked_random_state, inference_dtype
from unclip.training.config import DataConfig
from unclip.training.task import Request, Stream
from unclip.training.tasks.drawing import StageConfig, bounded, learns_variance

N = TypeVar("N", bound=nn.Module)
EMBED_BATCH = 256
# Of a coordinate's size: deviations below are those of rounding.
LEAST_STD = 1e-6


def load_pictures(config: DataConfig, *image_sizes: int) -> PictureSet:
    """The data set at these sizes; the emoji set is rasterised first where its folder is missing."""
    if config.emoji_split is not None and not Path(config.folder).exists():
        items = emoji_items(config.emoji_split)[:: config.every][: config.limit]
        workers = 1 if config.limit else 2
        write_shards(config.folder, items, config.source_size, f"emoji-{config.emoji_split}", num_workers=workers)
    return open_pictures(config.folder, image_sizes, cache=config.cache)


def caption_notes(pictures: PictureSet, location: str, *, is_required: bool = True) -> tuple[str, ...]:
    """A line about pictures without a caption, where there are some.

    Raises `DataError` where no picture has one and captions are required: there is nothing to learn from.
    """
    missing, count = probe_uncaptioned(pictures)
    if missing and missing == count and is_required:
        raise DataError(
            f"none of {count:,} pictures in {location} has a caption; if they stand in another field, write shards "
            "with them by `unclip data prepare --caption-column FIELD`."
        )
    return (f"{missing:,} of {count:,} pictures have no caption; their text is empty.",) if missing else ()


class Read(NamedTuple):
    """Samples that could be read."""

    items: list[Item]
    indices: np.ndarray
    """Their numbers: those asked for, but for damaged ones, whose next readable neighbours stand in."""
    skipped: tuple[str, ...]


def read_items(pictures: PictureSet, indices: Sequence[int] | np.ndarray) -> Read:
    """The samples of these numbers; a damaged one is named and the next one takes its place."""
    found = [item_or_next(pictures, int(index)) for index in indices]
    return Read(
        [item for item, _, _ in found],
        np.array([index for _, index, _ in found], np.int64),
        tuple(name for _, _, names in found for name in names),
    )


def stack_pixels(items: Sequence[Item], image_size: int) -> Tensor:
    """The items' pictures at a size, uint8 (items, height, width, 3)."""
    return torch.from_numpy(np.stack([item.pixels[image_size] for item in items]))


@dataclass(frozen=True, eq=False)
class EmbeddingTable:
    """Image embeddings in memory, (samples, dim) float32."""

    rows: Tensor

    def image(self, indices: np.ndarray) -> Tensor:
        """The embeddings of these samples."""
        return self.rows[torch.from_numpy(np.asarray(indices))]

    @property
    def mean(self) -> Tensor:
        """Mean of each coordinate."""
        return self.rows.mean(dim=0)

    @property
    def std(self) -> Tensor:
        """What each coordinate is divided by; see `divisor`."""
        return divisor(self.mean, self.rows.std(dim=0, correction=min(1, len(self.rows) - 1)))


def divisor(mean: Tensor, std: Tensor) -> Tensor:
    """The standard deviation of each coordinate, and 1 for those that are the same in all pictures.

    One picture has no deviation at all. Divided by next to nothing, the rounding of an embedding, and any picture that
    is not like those of the training set, would become numbers of any size.
    """
    return torch.where(std > LEAST_STD * mean.abs().clamp_min(1.0), std, torch.ones_like(std))


@torch.inference_mode()
def embed_pictures(encoder: TextImageEncoder, pictures: PictureSet, limit: int | None = None) -> EmbeddingTable:
    """CLIP embeddings of all pictures, or of `limit` spread over the set."""
    count = len(pictures)
    chosen = np.arange(count) if limit is None else np.unique(np.linspace(0, count - 1, min(limit, count)).astype(int))
    size, device = encoder.clip.config.image_size, encoder.device
    parts = []
    with autocast(device, inference_dtype(device)):
        for start in range(0, len(chosen), EMBED_BATCH):
            items = read_items(pictures, chosen[start : start + EMBED_BATCH]).items
            pixels = from_uint8(stack_pixels(items, size)).to(device)
            parts.append(encoder.encode_image(pixels).float().cpu())
    return EmbeddingTable(torch.cat(parts).clone())


def seeded_network(build: Callable[[], N], seed: int) -> N:
    """Build a network whose initial weights depend on `seed` alone; the caller's random state is untouched."""
    with forked_random_state(seed):
        return build()


def draw_times(request: Request, num_timesteps: int) -> Tensor:
    """Uniform table points t = (i + 1) / T, stratified over the whole batch so that it covers all noise levels."""
    count, generator = request.batch_size, request.shared()
    strata = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    index = (strata * num_timesteps).long().clamp_(max=num_timesteps - 1)
    t = ((index + 1).double() / num_timesteps)[torch.randperm(count, generator=generator)]
    return t[torch.from_numpy(request.slots)]


def draw_self_conditioning(request: Request, prob: float) -> Tensor:
    """Whether the network is shown its own estimate, (samples,) bool.

    One draw for a whole batch of training, so that the other batches are spared its cost; of the held-out samples, one
    each.
    """
    generator = request.shared(Stream.SELF_CONDITIONING)
    if not request.is_held_out:
        return (torch.rand((), generator=generator) < prob).expand(len(request.slots))
    return (torch.rand(request.batch_size, generator=generator) < prob)[torch.from_numpy(request.slots)]


def denoising_losses(
    network: nn.Module,
    model: StageConfig,
    schedule: DiscreteSchedule,
    weighting: Weighting,
    batch: Mapping[str, Tensor],
    conditioning: Mapping[str, Tensor | None],
) -> Tensor:
    """The loss of each sample, (batch,), at the `x0`, `noise` and times `t` of the batch.

    Where the batch has `self_condition` set, the network first makes an estimate of x0 and is then shown it.
    """
    x0, noise, t = batch["x0"], batch["noise"], batch["t"]
    x_t = add_noise(schedule, x0, noise, t)
    timestep = schedule.timestep(t).float()
    if "self_condition" in batch:
        estimate = torch.zeros_like(x0)
        is_shown = batch["self_condition"]
        # Processes that share a sharded network make as many passes; held-out samples of one may all be shown nothing.
        if not network.training or bool(is_shown.any()):
            estimated = estimate_x0(bounded(network, model, schedule, conditioning), x_t, t)
            estimate = torch.where(is_shown.view(-1, *[1] * (x0.ndim - 1)), estimated, estimate)
        conditioning = {**conditioning, "self_condition": estimate.float()}
    output = network(x_t, timestep, **conditioning)
    return diffusion_loss(output, model.prediction_type, schedule, x0, noise, x_t, t, weighting, learns_variance(model))
