"""`unclip finish`: go on with pictures that were stopped after a stage. Knows options; the pipeline draws."""

from pathlib import Path
from typing import Annotated

import typer

from unclip.cli.draw import Shared, draw, draw_part
from unclip.cli.options import AsJson, Device, Guidance, ModelName, Out, Sampler, Size, Steps, StopAfter

__all__ = ["finish"]


def finish(
    draft: Annotated[Path, typer.Argument(help="What `unclip generate --stop-after` wrote.")],
    size: Size = None,
    steps: Steps = None,
    guidance: Guidance = None,
    sampler: Sampler = None,
    stop_after: StopAfter = None,
    model: ModelName = "emoji",
    out: Out = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Finish pictures that were stopped after a stage."""
    from unclip.pipelines import Draft

    shared = Shared(
        seed=None, size=size, steps=steps, guidance=guidance, sampler=sampler, model=model, out=out, device=device,
        as_json=as_json,
    )  # fmt: skip
    begun = Draft.load(draft)
    title, count = begun.prompts[0] or draft.stem, len(begun.seeds)
    if stop_after is None:
        draw(shared, title, count, lambda pipe, options: pipe.finish(begun, **options), begun=begun)
    else:
        draw_part(
            shared,
            title,
            count,
            lambda pipe, options: pipe.advance(begun, stop_after=stop_after, **options),
            begun=begun,
        )
