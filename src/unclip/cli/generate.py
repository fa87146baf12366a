"""`unclip generate`: pictures from a prompt. Knows options; the drawing is `UnClip.text_to_image`."""

from typing import Annotated

import typer

from unclip.cli.draw import Shared, draw
from unclip.cli.options import AsJson, Device, Guidance, ModelName, NumImages, Out, Sampler, Seed, Size, Steps

__all__ = ["generate"]


def generate(
    prompt: Annotated[str, typer.Argument(help="What to draw.")],
    num_images: NumImages = 1,
    seed: Seed = None,
    size: Size = None,
    steps: Steps = None,
    guidance: Guidance = None,
    sampler: Sampler = None,
    candidates: Annotated[int | None, typer.Option(help="Image embeddings to choose the best from.")] = None,
    model: ModelName = "emoji",
    out: Out = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Draw pictures of a prompt."""
    from unclip.pipelines import check_prompts

    check_prompts(prompt)
    shared = Shared(
        seed=seed, size=size, steps=steps, guidance=guidance, sampler=sampler, model=model, out=out, device=device,
        as_json=as_json,
    )  # fmt: skip
    draw(
        shared,
        prompt,
        num_images,
        lambda pipe, options: pipe.text_to_image(prompt, num_images, num_candidates=candidates, **options),
    )
