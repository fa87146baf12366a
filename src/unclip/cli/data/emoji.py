"""`unclip data emoji`: the emoji set as shards. Knows options; the data part makes the shards."""

from pathlib import Path
from typing import Annotated

import typer


def emoji(
    out: Annotated[Path, typer.Argument(help="Folder for the shards.")],
    image_size: Annotated[int, typer.Option(help="Side of the pictures in pixels.")] = 64,
    split: Annotated[str, typer.Option(help="train or test.")] = "train",
) -> None:
    """Rasterise the emoji set into WebDataset shards."""
    from functools import partial

    from unclip.data import write_emoji_shards
    from unclip.progress import show_progress

    write_emoji_shards(out, image_size, split, progress=partial(show_progress, split, unit="pictures"))
    print(out)
