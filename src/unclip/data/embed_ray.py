"""`embed` on many machines by Ray Data, a shard at a time. Knows how work is dealt out; not how features are computed.

A shard is computed whole and written at once. A worker that dies is started again and computes its shard from the
beginning, so the result is that of one process.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unclip.clip import TextImageEncoder, clip_hash
from unclip.data.embed import BATCH_SIZE, EmbedOptions, EmbedReport, Progress, embed_shards, finish, missing_shards
from unclip.data.shard_set import ShardSet
from unclip.errors import DataError, DependencyError, InputError, UnclipError

OpenClip = Callable[[str], TextImageEncoder]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What each worker is told."""

    location: str
    open_clip: OpenClip
    out: Path
    model_hash: str
    options: EmbedOptions
    device: str


class ShardEmbedder:
    """A worker: CLIP is loaded once, then shards come one by one."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._clip = job.open_clip(job.device)
        self._shards = ShardSet.open(job.location)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        """Compute the shards whose numbers are in `batch["shard"]`; an error is returned, since Ray would wrap it."""
        try:
            counts = [self._embed(int(shard)) for shard in batch["shard"]]
        except UnclipError as error:
            return {"num_samples": [0], "error": [str(error)]}
        return {"num_samples": counts, "error": [""] * len(counts)}

    def _embed(self, shard: int) -> int:
        job = self._job
        if clip_hash(self._clip) != job.model_hash:
            raise DataError("a worker found another CLIP than this machine; give all machines the same model.")
        return sum(embed_shards(self._shards, [shard], self._clip, job.out, job.model_hash, job.options))


def embed_on_ray(
    location: str | Path,
    open_clip: OpenClip,
    out: str | Path,
    *,
    hidden: bool = False,
    batch_size: int = BATCH_SIZE,
    num_workers: int = 0,
    dtype: torch.dtype | None = None,
    num_actors: int = 1,
    cpus_per_actor: float = 1.0,
    gpus_per_actor: float = 0.0,
    progress: Progress | None = None,
) -> EmbedReport:
    """`embed` by `num_actors` workers of the Ray cluster at RAY_ADDRESS, or of one that is started on this machine.

    `open_clip` is called with a device, on this machine ("cpu") and by each worker, to which it is sent; for example
    `functools.partial(unclip.pipelines.open_clip, "emoji")`. `location`, `out` and the model must be the same place to
    all machines. A worker has as many threads as CPUs. The other settings are those of `embed`. Ray tries a shard whose
    worker died again without limit. Raises `DependencyError` without Ray.
    """
    options = EmbedOptions(hidden=hidden, batch_size=batch_size, dtype=dtype, num_workers=num_workers)
    if num_actors < 1 or cpus_per_actor <= 0 or gpus_per_actor < 0:
        raise InputError(
            f"num_actors={num_actors}, cpus_per_actor={cpus_per_actor}, gpus_per_actor={gpus_per_actor}: "
            "use at least 1 worker, more than 0 CPUs, 0 GPUs or more."
        )
    clip, shards, out = open_clip("cpu"), ShardSet.open(location), Path(out).absolute()
    model_hash = clip_hash(clip)
    chosen = missing_shards(shards, out, model_hash, hidden)
    job = Job(
        location=_absolute(location),
        open_clip=open_clip,
        out=out,
        model_hash=model_hash,
        options=options,
        device="cuda" if gpus_per_actor else "cpu",
    )
    done, total = 0, sum(shards.shard_sizes[shard] for shard in chosen)
    for count in _spread(job, chosen, num_actors, cpus_per_actor, gpus_per_actor):
        done += count
        if progress is not None:
            progress(done, total)
    return finish(shards, out, clip, options, chosen)


def _spread(job: Job, chosen: list[int], num_actors: int, cpus: float, gpus: float) -> Iterator[int]:
    """The samples of each shard when it is done, in any order."""
    if not chosen:
        return
    ray_data = _start_ray()
    rows = ray_data.from_items([{"shard": shard} for shard in chosen], override_num_blocks=len(chosen))
    results = rows.map_batches(
        ShardEmbedder,
        fn_constructor_args=(job,),
        batch_size=1,
        compute=ray_data.ActorPoolStrategy(size=min(num_actors, len(chosen))),
        num_cpus=cpus,
        num_gpus=gpus or None,
    )
    for row in results.iter_rows():
        if row["error"]:
            raise DataError(row["error"])
        yield int(row["num_samples"])


def _start_ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError:
        raise DependencyError("embedding on a cluster needs Ray; pip install 'unclip[cluster]'.") from None
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False)
        ray.data.DataContext.get_current().enable_progress_bars = False
    return ray.data


def _absolute(location: str | Path) -> str:
    """A place that does not depend on the working directory, which workers do not share."""
    text = str(location)
    return text if "://" in text else str(Path(text).absolute())
