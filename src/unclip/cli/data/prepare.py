"""`unclip data prepare`: any source as shards of one size. Knows options; the data part does the work."""

from pathlib import Path
from typing import Annotated

import typer

from unclip.cli.data.source import CaptionColumn, Captions, ImageColumn, Location, Workers, num_workers, open_and_tell


def prepare(
    source: Location,
    out: Annotated[Path, typer.Argument(help="New folder for the shards.")],
    image_size: Annotated[int, typer.Option(help="Side in pixels.")],
    crop: Annotated[str, typer.Option(help="center, shortest, pad, stretch or none.")] = "center",
    allow_upscale: Annotated[
        bool, typer.Option("--allow-upscale", help="Enlarge pictures that are too small.")
    ] = False,
    form: Annotated[str, typer.Option("--format", help="png, webp or jpg.")] = "png",
    quality: Annotated[int, typer.Option(help="1 to 100, of webp and jpg.")] = 95,
    samples_per_shard: Annotated[int, typer.Option(help="Samples in each .tar.")] = 1000,
    shuffle: Annotated[bool, typer.Option(help="Mix the samples; else they keep their order.")] = True,
    captions: Captions = None,
    image_column: ImageColumn = None,
    caption_column: CaptionColumn = None,
    workers: Workers = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Make WebDataset shards of one size from captioned pictures, however they are kept.

    center cuts the largest square, shortest scales the shorter side and cuts nothing, pad puts the whole picture on a
    white square, stretch ignores proportions, none keeps every size. Pictures that are damaged or too small are left
    out and named in skipped.jsonl.
    """
    from unclip.config import load_config
    from unclip.data import PrepareConfig
    from unclip.data import prepare as write
    from unclip.progress import show_progress

    config = load_config(
        PrepareConfig,
        {
            "image_size": image_size,
            "crop": crop,
            "allow_upscale": allow_upscale,
            "form": {"suffix": form, "quality": quality},
            "samples_per_shard": samples_per_shard,
            "shuffle": shuffle,
        },
    )
    opened = open_and_tell(source, captions, image_column, caption_column)
    done = write(
        opened,
        out,
        config,
        lambda now, total: show_progress("prepare", now, total, "pictures"),
        num_workers=num_workers(workers, opened),
    )
    if as_json:
        print(done.model_dump_json())
        return
    skipped = f"; {done.num_skipped} skipped, see {out / 'skipped.jsonl'}" if done.num_skipped else ""
    without = f", {done.num_uncaptioned} without a caption" if done.num_uncaptioned else ""
    print(f"{out}: {done.num_written} samples{without} in {len(done.shards)} shards{skipped}")
