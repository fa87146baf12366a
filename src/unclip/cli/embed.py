"""`unclip embed`: pictures and captions of shards as CLIP features. Knows options; pipelines do the work."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unclip.cli.options import Device
from unclip.errors import InputError

if TYPE_CHECKING:
    from unclip.data import EmbedReport


SHOWN = 5
MAX_WORKERS = 16


def embed(
    shards: Annotated[str, typer.Argument(help="A folder of .tar shards, or s3://... or https://...")],
    clip: Annotated[str, typer.Option(help="A shipped model, a folder or a hub id; only its CLIP is read.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the features; what is there stays.")],
    hidden: Annotated[bool, typer.Option("--hidden", help="Keep the hidden states of the captions too.")] = False,
    batch_size: Annotated[int, typer.Option(help="Pictures that go through CLIP together.")] = 256,
    workers: Annotated[int | None, typer.Option(help="Processes that decode pictures; else by the device.")] = None,
    device: Device = "auto",
    node: Annotated[str, typer.Option(help="This machine's share: 0/4 to 3/4 on four that share the folder.")] = "0/1",
    ray: Annotated[int | None, typer.Option(help="Compute on Ray (RAY_ADDRESS) by this many workers.")] = None,
    cpus: Annotated[float, typer.Option(help="CPUs, and threads, of each of Ray's workers.")] = 1.0,
    gpus: Annotated[float, typer.Option(help="GPUs of each of Ray's workers.")] = 0.0,
) -> None:
    """Compute CLIP's features of pictures and captions; the same command again goes on where it stopped."""
    from functools import partial

    from unclip import data
    from unclip.model import open_clip
    from unclip.progress import show_progress
    from unclip.runtime import resolve_device

    share = parse_node(node)
    progress = partial(show_progress, "embedding", unit="samples")
    if ray is not None:
        if share != (0, 1):
            raise InputError(f"--node {node} and --ray both divide the work; give one of them.")
        report = data.embed_on_ray(
            shards,
            partial(open_clip, clip),
            out,
            hidden=hidden,
            batch_size=batch_size,
            num_workers=workers or 0,
            num_actors=ray,
            cpus_per_actor=cpus,
            gpus_per_actor=gpus,
            progress=progress,
        )
    else:
        report = data.embed(
            shards,
            open_clip(clip, device),
            out,
            hidden=hidden,
            batch_size=batch_size,
            num_workers=default_workers(resolve_device(device).type) if workers is None else workers,
            node=share,
            progress=progress,
        )
    print(as_text(report))


def parse_node(text: str) -> tuple[int, int]:
    """`0/4` as numbers; raises `InputError` for anything else."""
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal()):
        raise InputError(f"--node {text!r} cannot be read; write 0/4 for the first of four machines.")
    return int(number), int(count)


def default_workers(device_type: str) -> int:
    """One process for a CPU, whose cores the tower needs; for a GPU one per core, up to 16."""
    return 1 if device_type == "cpu" else min(os.cpu_count() or 1, MAX_WORKERS)


def as_text(report: "EmbedReport") -> str:
    """What was done, what could not be read, and where the features are."""
    lines = [f"embedded {report.num_samples} samples of {report.num_shards} shards"]
    for key, reason in list(report.damaged.items())[:SHOWN]:
        lines.append(f"left out {key}: {reason}")
    if len(report.damaged) > SHOWN:
        lines.append(f"left out {len(report.damaged) - SHOWN} more")
    if not report.finished:
        lines.append("shards of other machines are not there yet; the last of them writes the statistics")
    return "\n".join([*lines, str(report.out)])
