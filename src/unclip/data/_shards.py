"""Writing WebDataset shards of the emoji. Knows tar, PNG and the items; not how a trainer reads them."""

import hashlib
import io
import json
import multiprocessing
import os
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice
from pathlib import Path

from PIL import Image

from unclip.data._emoji import EmojiItem, emoji_items
from unclip.data._rasterize import rasterize
from unclip.errors import InputError

__all__ = ["write_emoji_shards", "write_shards"]

Progress = Callable[[int, int], None]
ITEMS_PER_SHARD = 1000
ITEMS_PER_JOB = 16


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
    _require_new(Path(out))
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
    # Mixed by hash: sorted keys would put one design in each shard, and readers shuffle only near neighbours.
    items = sorted(items, key=lambda item: hashlib.sha256(item.key.encode()).digest())
    with _new_folder(Path(out)) as folder:
        pictures = _pictures(items, image_size, num_workers)
        samples = zip(items, pictures, strict=True)
        names = _write_tars(folder, prefix, _counted(samples, len(items), progress))
    return [Path(out) / name for name in names]


def _pictures(items: Sequence[EmojiItem], image_size: int, num_workers: int) -> Iterator[bytes]:
    draw = partial(_draw_png, image_size=image_size)
    if num_workers <= 1:
        yield from map(draw, items)
        return
    # Processes, since resvg holds the interpreter's lock; spawned, since a fork would copy the threads of torch.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_workers, mp_context=context) as pool:
        yield from pool.map(draw, items, chunksize=ITEMS_PER_JOB)


def _draw_png(item: EmojiItem, image_size: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rasterize(item, image_size)).save(file, "PNG", compress_level=6)
    return file.getvalue()


def _counted(
    samples: Iterable[tuple[EmojiItem, bytes]], total: int, progress: Progress | None
) -> Iterator[tuple[EmojiItem, bytes]]:
    for index, sample in enumerate(samples, start=1):
        yield sample
        if progress is not None:
            progress(index, total)


def _write_tars(folder: Path, prefix: str, samples: Iterator[tuple[EmojiItem, bytes]]) -> list[str]:
    names: list[str] = []
    for first in samples:
        names.append(f"{prefix}-{len(names):06d}.tar")
        with open(folder / names[-1], "wb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                for item, png in chain([first], islice(samples, ITEMS_PER_SHARD - 1)):
                    _add_sample(tar, item, png)
            file.flush()
            os.fsync(file.fileno())
    return names


def _add_sample(tar: tarfile.TarFile, item: EmojiItem, png: bytes) -> None:
    info = json.dumps(item.info(), ensure_ascii=False, sort_keys=True).encode()
    for suffix, content in (("json", info), ("png", png), ("txt", item.captions[0].encode())):
        member = tarfile.TarInfo(f"{item.key}.{suffix}")  # time, owner and mode keep their fixed defaults
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out` that takes its name on success and vanishes on failure."""
    _require_new(out)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        temporary.replace(out)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror or error}; choose a writable path with room.") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _require_new(out: Path) -> None:
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"{out} exists already; name a new or empty folder, or remove this one.")
