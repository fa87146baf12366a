"""`unclip finish`: go on with pictures that were stopped after a stage. Knows options; the pipeline draws."""

from pathlib import Path
from typing import Annotated

import typer

from unclip.cli.draw import draw, draw_part
from unclip.cli.options import Shared, StopAfter, shares_options


@shares_options(without=("seed",))
def finish(
    shared: Shared,
    draft: Annotated[Path, typer.Argument(help="What `unclip generate --stop-after` wrote.")],
    stop_after: StopAfter = None,
) -> None:
    """Finish pictures that were stopped after a stage."""
    from unclip.pipelines import Draft

    begun = Draft.load(draft)
    titles, count = [prompt or draft.stem for prompt in begun.prompts], len(begun.seeds)
    if stop_after is None:
        draw(shared, titles, count, lambda pipe, options: pipe.finish(begun, **options), begun=begun)
    else:
        draw_part(
            shared,
            titles,
            count,
            lambda pipe, options: pipe.advance(begun, stop_after=stop_after, **options),
            begun=begun,
        )
