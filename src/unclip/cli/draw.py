"""What every command that draws does around its task: read the options, load the model, write the files, report.

Knows options and files; the drawing is a method of `UnClip`.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unclip import __version__
from unclip.cli.options import parse_size
from unclip.cli.per_stage import parse_per_stage
from unclip.cli.progress import show_progress

if TYPE_CHECKING:
    from unclip.pipelines import DrawOptions, Result, UnClip

__all__ = ["Shared", "draw", "fast_matmul"]


@dataclass(frozen=True, kw_only=True)
class Shared:
    """The options that every command that draws has, as they were typed."""

    seed: int | None
    size: str | None
    steps: str | None
    guidance: str | None
    sampler: str | None
    model: str
    out: str | None
    device: str
    as_json: bool


def draw(
    shared: Shared,
    title: str,
    num_images: int,
    task: "Callable[[UnClip, DrawOptions], Result]",
    *,
    is_series: bool = False,
) -> None:
    """Run `task` and write its `num_images` pictures; files in a folder are called after `title`.

    With `is_series` they belong together: one seed, and one file unless a folder is asked for.

    Nothing is drawn when an option is wrong or a file could not be written, and nothing is written unless all is drawn.
    """
    started = time.monotonic()
    num_steps = parse_per_stage("--steps", shared.steps, int)
    guidance_scale = parse_per_stage("--guidance", shared.guidance, float)
    sampler, image_size = parse_per_stage("--sampler", shared.sampler, str), parse_size(shared.size)
    # Imported here: torch takes two seconds, and `unclip --help` needs none of it.
    from unclip.cli.output import check_writable, image_paths, save_images, series_paths
    from unclip.pipelines import UnClip, image_seeds

    seeds, name_files = image_seeds(shared.seed, num_images), series_paths if is_series else image_paths
    check_writable(name_files(shared.out, title, seeds))
    with fast_matmul():
        pipe = UnClip.load(shared.model, shared.device)
        result = task(
            pipe,
            {
                "seed": seeds[0],
                "image_size": image_size,
                "num_steps": num_steps,
                "guidance_scale": guidance_scale,
                "sampler": sampler,
                "progress": show_progress,
            },
        )
    # A task may keep other seeds than the first ones.
    paths = name_files(shared.out, title, result.seeds)
    save_images(result.images, paths, [_metadata(result, index, pipe.name) for index in range(len(paths))])
    _report(result, paths, pipe.name, time.monotonic() - started, shared.as_json)


@contextmanager
def fast_matmul() -> Iterator[None]:
    """Let float32 matrix products run in bfloat16 meanwhile: on AMD hosts MKL's float32 kernels are 3 times slower."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _metadata(result: "Result", index: int, model: str) -> dict[str, str]:
    """What a PNG says about itself: enough to draw it again."""
    return {
        "prompt": result.prompts[index],
        "seed": str(result.seeds[index]),
        "model": model,
        "version": __version__,
        "settings": json.dumps(result.settings, sort_keys=True),
    }


def _report(result: "Result", paths: list[Path], model: str, seconds: float, as_json: bool) -> None:
    for cut in filter(None, dict.fromkeys(result.cut)):
        print(f"note: the prompt is too long; not read: {cut!r}", file=sys.stderr)
    if not as_json:
        print("\n".join(str(path) for path in paths))
        return
    line = {
        "images": [str(path) for path in paths],
        "prompt": result.prompts[0],
        "seeds": result.seeds,
        "model": model,
        "version": __version__,
        "settings": result.settings,
        "cut": result.cut[0],
        "seconds": round(seconds, 3),
    }
    print(json.dumps(line))
