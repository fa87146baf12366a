"""`unclip ema`: the weights of a run averaged over another length, after it. Knows options; no mathematics."""

from pathlib import Path
from typing import Annotated

import typer


def ema(
    run: Annotated[Path, typer.Argument(help="Folder of a run that was trained with ema=power.")],
    sigma_rel: Annotated[float, typer.Option(help="Width of the average, as a share of the images seen.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The file to write, such as decoder.safetensors.")],
    images: Annotated[int | None, typer.Option(help="Average as of this many images; else of the newest.")] = None,
) -> None:
    """Make a stage of any EMA length from the averages that a run stored.

    The file is the stage as a model folder holds it. The error is that of the profile: how far the weight of each
    moment is from what was asked for.
    """
    from unclip.files import check_writable
    from unclip.training import average_stage

    check_writable([out])
    made = average_stage(run, sigma_rel, out, images)
    print(
        f"{out}: sigma_rel {sigma_rel:g} at {made.images_seen:,} images, "
        f"from {made.num_snapshots} snapshots; profile error {made.error:.2%}"
    )
