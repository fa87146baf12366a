"""Writing WebDataset shards of the emoji. Knows the items and PNG; not tar files, and not how a trainer reads them."""

import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from PIL import Image

from unclip.data._emoji import EmojiItem, emoji_items
from unclip.data._parallel import ordered_map
from unclip.data._rasterize import rasterize
from unclip.data._tar_writer import ShardSample, hash_order, require_new, write_tars
from unclip.files import atomic_folder

__all__ = ["write_emoji_shards", "write_shards"]

Progress = Callable[[int, int], None]
ITEMS_PER_SHARD = 1000


def write_emoji_shards(
    out: Path | str,
    image_size: int,
    split: str = "train",
    progress: Progress | None = None,
    *,
    source: Path | str | None = None,
    num_workers: int = 2,
) -> list[Path]:
    """Draw the emoji of a split into WebDataset shards in the new folder `out`; returns the shards' paths.

    Each sample is `<design>/<name>.png` (image_size x image_size, RGB, on white), `.txt` (the plain caption) and
    `.json` (all captions, label, concept, design, tags, skin tones). The same call writes the same bytes. `progress`
    is called with (drawn, total). The folder appears when it is complete or not at all; raises `InputError` when it
    exists already or cannot be written. With more than one worker a script needs the `if __name__ == "__main__"` guard.
    """
    require_new(Path(out))
    return write_shards(
        out, emoji_items(split, source), image_size, f"emoji-{split}", progress, num_workers=num_workers
    )


def write_shards(
    out: Path | str,
    items: Sequence[EmojiItem],
    image_size: int,
    prefix: str,
    progress: Progress | None = None,
    *,
    num_workers: int = 1,
) -> list[Path]:
    """`write_emoji_shards` for chosen items; shards are named `<prefix>-000000.tar` and on."""
    require_new(Path(out))
    items = [items[index] for index in hash_order([item.key for item in items])]
    draw = partial(_draw, image_size=image_size)
    with atomic_folder(out) as folder:
        samples = _counted(ordered_map(draw, items, num_workers), len(items), progress)
        names = write_tars(folder, prefix, samples, ITEMS_PER_SHARD)
    return [Path(out) / name for name in names]


def _draw(item: EmojiItem, image_size: int) -> ShardSample:
    file = io.BytesIO()
    Image.fromarray(rasterize(item, image_size)).save(file, "PNG", compress_level=6)
    info = json.dumps(item.info(), ensure_ascii=False, sort_keys=True).encode()
    return ShardSample(item.key, {"json": info, "png": file.getvalue(), "txt": item.captions[0].encode()})


def _counted(samples: Iterable[ShardSample], total: int, progress: Progress | None) -> Iterator[ShardSample]:
    for index, sample in enumerate(samples, start=1):
        yield sample
        if progress is not None:
            progress(index, total)
