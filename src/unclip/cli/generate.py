"""`unclip generate`: pictures from a prompt. Knows options and files; the drawing is `UnClip.text_to_image`."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unclip import __version__
from unclip.cli.per_stage import parse_per_stage
from unclip.cli.progress import show_progress

if TYPE_CHECKING:
    from unclip.pipelines import Result

__all__ = ["generate"]


def generate(
    prompt: Annotated[str, typer.Argument(help="What to draw.")],
    num_images: Annotated[int, typer.Option("-n", "--num-images", help="Pictures to draw.")] = 1,
    seed: Annotated[int | None, typer.Option(help="Picture k has this seed + k; without it, a random one.")] = None,
    size: Annotated[int | None, typer.Option(help="Side in pixels: one of the sizes the model draws.")] = None,
    steps: Annotated[str | None, typer.Option(help="For all stages, or prior=25,decoder=25,upsampler_256=7.")] = None,
    guidance: Annotated[str | None, typer.Option(help="1 is off; for all stages, or prior=1,decoder=3.")] = None,
    sampler: Annotated[str | None, typer.Option(help="ddpm, ddim, heun, dpm++ or dpm++sde; also per stage.")] = None,
    candidates: Annotated[int | None, typer.Option(help="Image embeddings to choose the best from.")] = None,
    model: Annotated[str, typer.Option(help="A shipped model, a folder or a hub id.")] = "emoji",
    out: Annotated[str | None, typer.Option("-o", "--out", help="A .png file or a folder; else this folder.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Draw pictures of a prompt."""
    started = time.monotonic()
    num_steps = parse_per_stage("--steps", steps, int)
    guidance_scale = parse_per_stage("--guidance", guidance, float)
    samplers = parse_per_stage("--sampler", sampler, str)
    # Imported here: torch takes two seconds, and `unclip --help` needs none of it.
    from unclip.cli.output import check_writable, image_paths, save_images
    from unclip.pipelines import UnClip, check_prompts, image_seeds

    check_prompts(prompt)
    seeds = image_seeds(seed, num_images)
    paths = image_paths(out, prompt, seeds)
    check_writable(paths)
    with fast_matmul():
        pipe = UnClip.load(model, device)
        result = pipe.text_to_image(
            prompt,
            num_images,
            seed=seeds[0],
            image_size=size,
            num_steps=num_steps,
            guidance_scale=guidance_scale,
            sampler=samplers,
            num_candidates=candidates,
            progress=show_progress,
        )
    save_images(result.images, paths, [metadata(result, index, pipe.name) for index in range(len(paths))])
    _report(result, paths, pipe.name, time.monotonic() - started, as_json)


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


def metadata(result: "Result", index: int, model: str) -> dict[str, str]:
    """What a PNG says about itself: enough to draw it again."""
    return {
        "prompt": result.prompts[index],
        "seed": str(result.seeds[index]),
        "model": model,
        "version": __version__,
        "settings": json.dumps(result.settings, sort_keys=True),
    }


def _report(result: "Result", paths: list[Path], model: str, seconds: float, as_json: bool) -> None:
    if result.cut[0]:
        print(f"note: the prompt is too long; not read: {result.cut[0]!r}", file=sys.stderr)
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
