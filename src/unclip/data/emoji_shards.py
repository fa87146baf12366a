"""Write the emoji set, and compositions of its drawings, as shards."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from unclip.data.compositions import Compositions
from unclip.data.emoji import EmojiItem, draw_svg, emoji_items
from unclip.data.parallel import ordered_map
from unclip.data.prepare import PictureFormat
from unclip.data.tars import ShardSample, hash_order, require_new, write_tars
from unclip.files import atomic_folder
from unclip.progress import Progress

ITEMS_PER_SHARD = 1000


def write_emoji_shards(
    out: Path | str,
    image_size: int,
    split: str = "train",
    progress: Progress | None = None,
    *,
    compositions: int = 0,
    source: Path | str | None = None,
    num_workers: int = 2,
) -> list[Path]:
    """Draw the emoji of a split into WebDataset shards in the new folder `out`; returns the shards' paths.

    Each sample is `<design>/<name>.png` (image_size x image_size, RGBA, white where it is clear), `.txt` (the plain
    caption) and `.json` (all captions, label, concept, design, tags, synonyms, skin tones). To the train split as many
    new pictures as `compositions` says are added, of `Compositions`. The same call writes the same bytes. The folder
    appears when it is complete or not at all; raises `InputError` if it exists already or cannot be written, and for
    compositions of the test split. With more than one worker a script needs the `if __name__ == "__main__"` guard.
    """
    require_new(Path(out))
    items = emoji_items(split, source)
    composed = Compositions(items, compositions) if compositions else None
    return write_shards(
        out, items, image_size, f"emoji-{split}", progress, compositions=composed, num_workers=num_workers
    )


def write_shards(
    out: Path | str,
    items: Sequence[EmojiItem],
    image_size: int,
    prefix: str,
    progress: Progress | None = None,
    *,
    compositions: Compositions | None = None,
    num_workers: int = 1,
) -> list[Path]:
    """Do as `write_emoji_shards` for chosen items; shards are named `<prefix>-000000.tar` and on."""
    require_new(Path(out))
    keys = [item.key for item in items] + (compositions.keys if compositions else [])
    order = hash_order(keys)
    # Compositions are made when their turn comes: all together are gigabytes of text.
    ordered = (
        items[index] if index < len(items) or not compositions else compositions[index - len(items)] for index in order
    )
    draw = partial(_draw, image_size=image_size)
    with atomic_folder(out) as folder:
        samples = ordered_map(draw, ordered, len(order), num_workers, progress)
        names = write_tars(folder, prefix, samples, ITEMS_PER_SHARD)
    return [Path(out) / name for name in names]


def _draw(item: EmojiItem, image_size: int) -> ShardSample:
    picture = PictureFormat().encode(draw_svg(item, image_size))
    info = json.dumps(item.info(), ensure_ascii=False, sort_keys=True).encode()
    return ShardSample(item.key, {"json": info, "png": picture, "txt": item.captions[0].encode()})
