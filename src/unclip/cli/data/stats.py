"""`unclip data stats`: a set in numbers. Knows how to print them; the data part counts."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from unclip.cli.data.source import CaptionColumn, Captions, ImageColumn, Location, Workers, num_workers, open_and_tell

if TYPE_CHECKING:
    from unclip.data import CaptionStats, Stats


def stats(
    source: Location,
    image_size: Annotated[int, typer.Option(help="Estimate what shards of this size would take.")] = 64,
    captions: Captions = None,
    image_column: ImageColumn = None,
    caption_column: CaptionColumn = None,
    workers: Workers = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Show how many pictures there are, their sizes and colours, what the captions are like, and the disk they need."""
    from unclip.data import PrepareConfig
    from unclip.data import stats as count
    from unclip.progress import show_progress

    opened = open_and_tell(source, captions, image_column, caption_column)
    prepared = PrepareConfig(image_size=image_size, allow_upscale=True)
    counted = count(
        opened,
        prepared,
        lambda done, total: show_progress("stats", done, total, "pictures"),
        num_workers=num_workers(workers, opened),
    )
    print(counted.model_dump_json() if as_json else as_text(counted, image_size))


def as_text(counted: "Stats", image_size: int) -> str:
    """A line for each kind of number."""
    readable = counted.num_samples - counted.num_unreadable
    assert counted.prepared_bytes is not None
    lines = [
        f"pictures        {readable:,} of {counted.num_samples:,} can be read, {_megabytes(counted.num_bytes)}",
        f"shorter side    {_classes(counted.sides)}",
        f"width / height  {_classes(counted.aspects)}",
        f"mean            {_numbers(counted.mean)} (red, green, blue in 0 to 1)",
        f"deviation       {_numbers(counted.std)}",
        *_caption_lines(counted.captions),
        f"as shards       about {_megabytes(counted.prepared_bytes)} at {image_size} pixels, PNG",
    ]
    return "\n".join(lines)


def _caption_lines(captions: "CaptionStats") -> list[str]:
    first = (
        f"captions        {captions.num_captions:,}, {captions.num_distinct:,} different; "
        f"{captions.num_uncaptioned:,} pictures have none"
    )
    if captions.words is None or captions.tokens is None:
        return [first]
    words = ", ".join(f"{word} {count}" for word, count in list(captions.frequent_words.items())[:10])
    return [
        first,
        f"words           {captions.words.smallest:g} to {captions.words.largest:g} a caption, "
        f"median {captions.words.median:g}",
        f"tokens          {captions.tokens.smallest:g} to {captions.tokens.largest:g}, "
        f"median {captions.tokens.median:g}; {captions.num_cut:,} captions are longer than the 77 CLIP reads",
        f"frequent words  {words}",
    ]


def _classes(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{label}: {count:,}" for label, count in counts.items() if count)


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.3f}" for value in values)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
