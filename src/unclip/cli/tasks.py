"""The commands that draw: each takes the options of a task from its description, and calls it.

The annotated parameters of a command are what differs on the command line; all else comes from the description.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from typer import Option

from unclip.cli.draw import DrawCommand, draws
from unclip.cli.options import Typed, one_prompt, parse_numbers, parse_pair
from unclip.errors import InputError

ONE_PICTURE = "The picture; - is stdin."
TextArgument: TypeAlias = Annotated[str | None, Typed("prompt")]
# Commands spell the prompt in two ways, and accept the other one too: it is hidden.
PromptOption: TypeAlias = Annotated[str | None, Typed("prompt", "--prompt", hidden=True)]


@draws("text_to_image")
def generate(
    command: DrawCommand,
    prompt: Annotated[str | None, Typed("prompts", metavar="PROMPT")] = None,
    prompt_option: Annotated[str | None, Typed("prompts", "--prompt", hidden=True)] = None,
    stop_after: Annotated[str | None, Typed("stop_after", "--stop-after", task="draft")] = None,
    unconditional: Annotated[bool, Option("--unconditional", help="Draw without a prompt; needs a decoder.")] = False,
    *,
    best_of: int | None,
    **options: Any,
) -> None:
    """Draw pictures of a prompt.

    The model emoji, which ships, has learned emoji alone: it draws other things as emoji would show them. Other models
    are named by --model.
    """
    text = one_prompt(prompt, prompt_option)
    if unconditional:
        needless = {"a prompt": text, "--stop-after": stop_after, "--best-of": best_of}
        needless |= {"--candidates": options["num_candidates"], "--negative": options["negative_prompt"] or None}
        for name in (name for name, value in needless.items() if value is not None):
            raise InputError(f"--unconditional draws of nothing, and {name} has no use for it; leave one of both out.")
        replace(command, task="unconditional").draw("unconditional", num_images=options["num_images"])
        return
    if text is None:
        raise InputError('nothing says what to draw; write: unclip generate "a red apple" (see unclip generate --help)')
    if stop_after is not None and best_of is not None:
        raise InputError("--best-of judges pictures, and --stop-after may leave none; use one of them.")
    from unclip.pipelines import check_prompts

    check_prompts(text)
    if stop_after is None:
        command.draw(text, text, best_of=best_of, **options)
    else:
        replace(command, task="draft").draw(text, text, stop_after=stop_after, **options)


@draws("image_variations")
def variations(
    command: DrawCommand,
    image: Annotated[Path, Typed("images", help=ONE_PICTURE)],
    text: Annotated[str | None, Typed("prompt", metavar="PROMPT", hidden=True)] = None,
    prompt: Annotated[str | None, Typed("prompt", "--prompt")] = None,
    **options: Any,
) -> None:
    """Draw variations of a picture."""
    (picture,), words = read_pictures(image), one_prompt(text, prompt)
    command.draw(f"{title_of(image)}-variation", picture, prompt=words, **options)


@draws("image_to_image")
def image_to_image(
    command: DrawCommand,
    image: Annotated[Path, Typed("images", help=ONE_PICTURE)],
    prompt: TextArgument = None,
    prompt_option: PromptOption = None,
    **options: Any,
) -> None:
    """Draw over a picture."""
    (picture,), words = read_pictures(image), one_prompt(prompt, prompt_option)
    command.draw(words or f"{title_of(image)}-over", picture, words, **options)


@draws("mix")
def mix(
    command: DrawCommand,
    parts: Annotated[
        list[str], Typed("parts", help='Texts and files of pictures, - is stdin: "a cat=0.7" dog.png=0.3.')
    ],
    **options: Any,
) -> None:
    """Draw pictures of texts and pictures at once, each with its weight: 1 unless it says =WEIGHT."""
    names, weights = zip(*(parse_part(part) for part in parts), strict=True)
    inputs = list(zip(read_pictures(*names), weights, strict=True))
    command.draw(" ".join(map(title_of, names)), inputs, **options)


@draws("interpolate")
def interpolate(
    command: DrawCommand,
    a: Annotated[str, Typed("a", help="Where to begin: a picture's file, - (stdin), or a text.")],
    b: Annotated[str, Typed("b", help="Where to end: a picture's file, - (stdin), or a text.")],
    **options: Any,
) -> None:
    """Draw the way from one text or picture to another."""
    first, second = read_pictures(a, b)
    command.draw(f"{title_of(a)} to {title_of(b)}", first, second, **options)


@draws("text_diff")
def edit(
    command: DrawCommand,
    image: Annotated[Path, Typed("image", help=ONE_PICTURE)],
    source: Annotated[str, Typed("source", "--from")],
    target: Annotated[str, Typed("target", "--to")],
    theta: Annotated[str | None, Typed("theta", "--theta")] = None,
    **options: Any,
) -> None:
    """Move a picture from one text to another."""
    thetas = parse_numbers("--theta", theta, float, "0,0.2,0.4")
    (picture,) = read_pictures(image)
    command.draw(f"{title_of(image)}-{target}", picture, source, target, theta=thetas, **options)


@draws("inpaint")
def inpaint(
    command: DrawCommand,
    image: Annotated[Path, Typed("image", help=ONE_PICTURE)],
    mask: Annotated[
        Path | None,
        Typed("mask", help="White, or transparent, where to paint, - is stdin; else the picture's clear part."),
    ] = None,
    text: Annotated[str | None, Typed("prompt", metavar="PROMPT")] = None,
    prompt: Annotated[
        str | None, Typed("prompt", "--prompt", help="What to paint where no mask is given before it.")
    ] = None,
    **options: Any,
) -> None:
    """Paint a part of a picture anew; the rest stays to the bit."""
    (picture, selected), words = read_pictures(image, mask), one_prompt(text, prompt)
    command.draw(f"{title_of(image)}-inpainted", picture, selected, words, **options)


@draws("outpaint")
def outpaint(
    command: DrawCommand,
    image: Annotated[Path, Typed("image", help=ONE_PICTURE)],
    prompt: TextArgument = None,
    prompt_option: PromptOption = None,
    aspect: Annotated[str | None, Typed("aspect", "--aspect")] = None,
    **options: Any,
) -> None:
    """Continue a picture beyond its borders; the picture itself stays to the bit."""
    shape = None if aspect is None else parse_pair("--aspect", aspect, ":", "WIDTH:HEIGHT, such as 16:9")
    (picture,), words = read_pictures(image), one_prompt(prompt, prompt_option)
    command.draw(f"{title_of(image)}-outpainted", picture, words, aspect=shape, **options)


@draws("upscale")
def upscale(
    command: DrawCommand,
    image: Annotated[Path, Typed("images", help="The picture, of any size and shape; - is stdin.")],
    **options: Any,
) -> None:
    """Enlarge a picture and sharpen it."""
    (picture,) = read_pictures(image)
    command.draw(f"{title_of(image)}-upscaled", picture, **options)


@draws("probe")
def probe(
    command: DrawCommand,
    image: Annotated[Path, Typed("image", help=ONE_PICTURE)],
    components: Annotated[str | None, Typed("num_components", "--components")] = None,
    basis: Annotated[Path | None, Typed("basis", "--basis")] = None,
) -> None:
    """Draw what is left of a picture in the leading components of its embedding."""
    counts = parse_numbers("--components", components, int, "1,4,16")
    (picture,) = read_pictures(image)
    from unclip.model import EmbeddingBasis

    loaded = None if basis is None else EmbeddingBasis.load(basis)
    command.draw(f"{title_of(image)} probe", picture, counts, basis=loaded)


@draws("finish")
def finish(
    command: DrawCommand,
    draft: Annotated[Path, Typed("draft", help="What `unclip generate --stop-after` wrote.")],
    stop_after: Annotated[str | None, Typed("stop_after", "--stop-after", task="advance")] = None,
) -> None:
    """Finish pictures that were stopped after a stage."""
    from unclip.pipelines import Draft

    begun = Draft.load(draft)
    titles = [prompt or draft.stem for prompt in begun.prompts]
    background = command.options["background"] or begun.background
    command = replace(command, options={**command.options, "background": background})
    if stop_after is None:
        command.draw(titles, begun, seeds=begun.seeds)
    else:
        replace(command, task="advance").draw(titles, begun, seeds=begun.seeds, stop_after=stop_after)


def read_pictures(*inputs: str | Path | None) -> list[Any]:
    """Return the inputs of a task with the picture on stdin for `-`; raises `InputError` if that is there twice."""
    count = sum(str(name) == "-" for name in inputs)
    if count > 1:
        raise InputError("- was given twice, but stdin holds one picture; give a file for the other.")
    if count and (sys.stdin is None or sys.stdin.isatty()):
        raise InputError("- is the picture on stdin, and nothing is piped there; write: unclip ... - < picture.png")
    from unclip.pictures import read_picture

    title = "the picture on stdin"
    return [read_picture(sys.stdin.buffer.read(), title) if str(name) == "-" else name for name in inputs]


def title_of(source: str | Path) -> str:
    """Return the text after which the files of a picture or a text are called."""
    return "stdin" if str(source) == "-" else Path(source).stem


def parse_part(part: str) -> tuple[str, float]:
    """Read a text or a file, and the weight after its last `=`; raises `InputError` if that is no number."""
    name, separator, weight = part.rpartition("=")
    if not separator:
        return part, 1.0
    try:
        return name, float(weight)
    except ValueError:
        raise InputError(
            f"{part!r}: {weight!r} is no weight; write a number after the last =, as in {part}=1."
        ) from None
