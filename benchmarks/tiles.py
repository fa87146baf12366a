"""Claim: large pictures are drawn by tiles that nobody sees, within 2 GB, by the shipped upsampler: 1024 and 2048 px.

    python benchmarks/tiles.py

At 1024 px, tiles of 512 beside a single pass (dB) on a picture of colours and edges, and the steps between neighbouring
pixels of an enlarged gradient, across the cuts and elsewhere. Then seconds and peak resident memory of 1024 px (in one
pass) and 2048 px (by four tiles), each in a new process.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import torch
from record import write_result
from torch import Tensor

import unclip
from unclip.diffusion import Denoiser, Tiling, get_sampler, tiled, time_grid
from unclip.images import resize
from unclip.metrics import psnr
from unclip.pipelines import UpsamplerStage, run_to_end
from unclip.runtime import NoiseSource

SIZES = (1024, 2048)
SEED = 0
TILING = Tiling(tile_size=512, halo=32, multiple=8)


def main() -> None:
    """Print the figures and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draw", type=int, default=None, help="only draw one picture of this size, and print seconds")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/tiles.json"))
    arguments = parser.parse_args()
    if arguments.draw is not None:
        print(draw(arguments.draw))
        return
    stage = unclip.UnClip.load("emoji").upsamplers[1024].stage
    result = {
        "tiled_against_one_pass_db": round(
            float(psnr(*(enlarge(stage, rings(256), tiling) for tiling in (TILING, None)))), 1
        ),
        "gradient": seams(stage),
        **{f"{size}_px": measure(size) for size in SIZES},
    }
    print(json.dumps(write_result(arguments.out, result)))


def rings(side: int) -> Tensor:
    """Coloured rings, some with hard edges."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    radius = (x.square() + y.square()).sqrt()
    return torch.stack([torch.sin(12 * radius), torch.sin(20 * radius + x).sign() * 0.8, x * y])[None]


@torch.inference_mode()
def enlarge(stage: UpsamplerStage, low_res: Tensor, tiling: Tiling | None) -> Tensor:
    """A picture of 1024 px by these tiles, or in one pass."""
    x_T, large = NoiseSource.from_seeds([SEED])((3, 1024, 1024)), resize(low_res, 1024)
    denoiser: Denoiser = stage.denoiser(large)
    if tiling is not None:
        denoiser = tiled(lambda region: stage.denoiser(large[(..., *region)]), stage.schedule, tiling)
    times = time_grid(stage.schedule, stage.defaults.num_steps, stage.defaults.spacing)
    return run_to_end(get_sampler(stage.defaults.sampler).sample(denoiser, x_T, times, None)).clamp(-1.0, 1.0)


def seams(stage: UpsamplerStage) -> dict[str, float]:
    """Largest mean step between columns of a gradient, in levels of 255: in the fade around a cut, and elsewhere."""
    low_res = torch.linspace(-0.9, 0.9, 256).expand(1, 3, 256, 256)
    steps = enlarge(stage, low_res, TILING).diff(dim=-1).mean(dim=(0, 1, 2)).abs() * 127.5
    cut = torch.zeros_like(steps, dtype=torch.bool)
    cut[512 - TILING.halo // 2 - 1 : 512 + TILING.halo // 2] = True
    margin = slice(32, -32)  # the picture's own border is no seam
    inside, outside = steps[margin][cut[margin]], steps[margin][~cut[margin]]
    return {"largest_step_at_cuts": round(inside.max().item(), 3), "elsewhere": round(outside.max().item(), 3)}


def measure(size: int) -> dict[str, float]:
    """Seconds of drawing and peak memory of a process that draws one picture."""
    command = [sys.executable, __file__, "--draw", str(size)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    seconds = float(process.stdout.read())
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, f"drawing {size} px ended with {status}"
    return {"seconds": seconds, "peak_memory_bytes": usage.ru_maxrss * 1024}


def draw(size: int) -> float:
    """Seconds for one picture."""
    stage = unclip.UnClip.load("emoji").upsamplers[1024].stage
    started = time.monotonic()
    with torch.inference_mode():
        run_to_end(stage.steps(rings(size // 4), NoiseSource.from_seeds([SEED]), stage.defaults, size=(size, size)))
    return round(time.monotonic() - started, 2)


if __name__ == "__main__":
    main()
