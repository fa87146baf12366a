"""Run `embed` on many machines by Ray Data, a shard at a time.

A shard is computed whole and written at once. A worker that dies is started again and computes its shard from the
beginning, so the result is that of one process.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unclip.clip import TextImageEncoder
from unclip.data.embed import BATCH_SIZE, EmbedOptions, EmbedReport, ShardEmbedder
from unclip.data.shard_set import ShardSet
from unclip.errors import DataError, InputError, UnclipError, optional_module
from unclip.progress import Progress

OpenClip = Callable[[str], TextImageEncoder]


def embed_on_ray(
    location: str | Path,
    open_clip: OpenClip,
    out: str | Path,
    *,
    hidden: bool = False,
    batch_size: int = BATCH_SIZE,
    num_workers: int = 0,
    num_actors: int = 1,
    cpus_per_actor: float = 1.0,
    gpus_per_actor: float = 0.0,
    progress: Progress | None = None,
) -> EmbedReport:
    """Run `embed` by `num_actors` workers of the Ray cluster at RAY_ADDRESS, or of one started on this machine.

    `open_clip` is called with a device, on this machine ("cpu") and by each worker, to which it is sent; for example
    `functools.partial(unclip.model.open_clip, "emoji")`. `location`, `out` and the model must be reachable by the same
    path from all machines. A worker has as many threads as CPUs. The other settings are those of `embed`. Ray tries a
    shard whose worker died again without limit. Raises `DependencyError` without Ray.
    """
    options = EmbedOptions(hidden=hidden, batch_size=batch_size, num_workers=num_workers)
    if num_actors < 1 or cpus_per_actor <= 0 or gpus_per_actor < 0:
        raise InputError(
            f"num_actors={num_actors}, cpus_per_actor={cpus_per_actor}, gpus_per_actor={gpus_per_actor}: "
            "use at least 1 worker, more than 0 CPUs, 0 GPUs or more."
        )
    embedder = ShardEmbedder(ShardSet.open(location), open_clip("cpu"), Path(out).absolute(), options)
    chosen = embedder.missing()
    # Absolute, since workers do not share the working directory.
    location = location if "://" in str(location) else Path(location).absolute()
    device = "cuda" if gpus_per_actor else "cpu"
    settings = (str(location), open_clip, embedder.out, embedder.model_hash, options, device)
    counts = _run(settings, chosen, num_actors, cpus_per_actor, gpus_per_actor)
    return embedder.finish(chosen, counts, progress)


class _Worker:
    """Loads CLIP once, then computes one shard after the other."""

    def __init__(
        self, location: str, open_clip: OpenClip, out: Path, model_hash: str, options: EmbedOptions, device: str
    ) -> None:
        self._model_hash = model_hash
        self._embedder = ShardEmbedder(ShardSet.open(location), open_clip(device), out, options)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        """Compute the shard whose number is in `batch["shard"]`; an error is returned, since Ray would wrap it."""
        try:
            if self._embedder.model_hash != self._model_hash:
                raise DataError("a worker found another CLIP than this machine; give all machines the same model.")
            return {"num_samples": [sum(self._embedder.compute(batch["shard"].tolist()))], "error": [""]}
        except UnclipError as error:
            return {"num_samples": [0], "error": [str(error)]}


def _run(settings: tuple[Any, ...], chosen: list[int], num_actors: int, cpus: float, gpus: float) -> Iterator[int]:
    """Yield the number of samples of each shard when it is finished, in any order."""
    if not chosen:
        return
    ray = optional_module("ray", "embedding on a cluster", extra="cluster")
    ray_data = optional_module("ray.data", "embedding on a cluster", extra="cluster")
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False)
        ray_data.DataContext.get_current().enable_progress_bars = False
    rows = ray_data.from_items([{"shard": shard} for shard in chosen], override_num_blocks=len(chosen))
    results = rows.map_batches(
        _Worker,
        fn_constructor_args=settings,
        batch_size=1,
        compute=ray_data.ActorPoolStrategy(size=min(num_actors, len(chosen))),
        num_cpus=cpus,
        num_gpus=gpus or None,
    )
    for row in results.iter_rows():
        if row["error"]:
            raise DataError(row["error"])
        yield int(row["num_samples"])
