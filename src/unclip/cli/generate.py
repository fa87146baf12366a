"""`unclip generate`: pictures from a prompt. Knows options; the drawing is `UnClip.text_to_image` or `draft`."""

from typing import Annotated

import typer

from unclip.cli.draw import draw, draw_part
from unclip.cli.options import Negative, NumImages, PromptOption, Shared, StopAfter, one_prompt, shares_options
from unclip.errors import InputError


@shares_options()
def generate(
    shared: Shared,
    prompt: Annotated[str | None, typer.Argument(metavar="PROMPT", help="What to draw.")] = None,
    prompt_option: PromptOption = None,
    num_images: NumImages = 1,
    candidates: Annotated[int | None, typer.Option(help="Image embeddings to choose the best from.")] = None,
    best_of: Annotated[int | None, typer.Option(help="Pictures to draw, of which CLIP keeps the nearest.")] = None,
    negative: Negative = "",
    stop_after: StopAfter = None,
    unconditional: Annotated[
        bool, typer.Option("--unconditional", help="Draw without a prompt; needs a decoder.")
    ] = False,
) -> None:
    """Draw pictures of a prompt.

    The model emoji, which ships, has learned emoji alone: it draws other things as emoji would show them. Other models
    are named by --model.
    """
    text = one_prompt(prompt, prompt_option)
    if unconditional:
        given = {"a prompt": text, "--candidates": candidates, "--best-of": best_of, "--stop-after": stop_after}
        for name, value in (given | {"--negative": negative or None}).items():
            if value is not None:
                raise InputError(
                    f"--unconditional draws of nothing, and {name} has no use for it; leave one of both out."
                )
        draw(shared, "unconditional", num_images, lambda pipe, options: pipe.unconditional(num_images, **options))
        return
    if text is None:
        raise InputError('nothing says what to draw; write: unclip generate "a red apple" (see unclip generate --help)')
    from unclip.pipelines import check_prompts

    check_prompts(text)
    if stop_after is None:
        draw(
            shared,
            text,
            num_images,
            lambda pipe, options: pipe.text_to_image(
                text, num_images, num_candidates=candidates, best_of=best_of, negative_prompt=negative, **options
            ),
        )
        return
    if best_of is not None:
        raise InputError("--best-of judges pictures, and --stop-after may leave none; use one of them.")
    draw_part(
        shared,
        text,
        num_images,
        lambda pipe, options: pipe.draft(
            text, num_images, stop_after=stop_after, num_candidates=candidates, negative_prompt=negative, **options
        ),
    )
