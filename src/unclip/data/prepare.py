"""From any source to shards at one size. Knows sources, fitting and shards; not how a trainer reads them."""

import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from unclip.config import Config
from unclip.data.parallel import ordered_map
from unclip.data.pixels import Crop, PictureFormat, decode_picture, encode_picture, fit_picture
from unclip.data.sources.base import Broken, Sample, Source, whole_text
from unclip.data.tars import ShardSample, hash_order, require_new, write_tars
from unclip.errors import DataError, InputError
from unclip.files import atomic_folder

SKIPPED = "skipped.jsonl"


class PrepareConfig(Config):
    """How `prepare` makes shards."""

    image_size: int
    """Side in pixels; what it is the side of, `crop` says."""
    crop: Crop = "center"
    """center, shortest, pad, stretch or none, as in `fit_picture`."""
    allow_upscale: bool = False
    """Enlarge pictures that are too small; else they are skipped (padded, with pad)."""
    form: PictureFormat = PictureFormat()
    samples_per_shard: int = 1000
    prefix: str = "data"
    """Shards are named `<prefix>-000000.tar` and on."""
    shuffle: bool = True
    """Mix the samples by the hashes of their keys; else they keep the order of the source."""


class Prepared(Config):
    """What `prepare` wrote."""

    shards: tuple[Path, ...]
    num_written: int
    num_uncaptioned: int
    """Of the written ones; their caption is the empty text."""
    num_skipped: int
    """Named with their reasons in `skipped.jsonl`."""


def prepare(
    source: Source,
    out: Path | str,
    config: PrepareConfig,
    progress: Callable[[int, int], None] | None = None,
    *,
    num_workers: int = 1,
) -> Prepared:
    """Write the pictures of `source`, made one size, as WebDataset shards into the new folder `out`.

    Each sample is its key with `.png`, `.webp` or `.jpg`, `.txt` (the first caption) and `.json` (all captions, both
    sizes, what the source knows); `load_shards` reads them. Pictures that cannot be read or are too small are left out
    and named in `skipped.jsonl`. The same call writes the same bytes for any number of workers. `progress` is called
    with (done, total). The folder appears when it is complete or not at all. Raises `InputError` when it exists already
    or cannot be written, `DataError` when every sample was skipped. With more than one worker a script needs the
    `if __name__ == "__main__"` guard.
    """
    out = Path(out)
    require_new(out)
    if config.image_size < 1 or config.samples_per_shard < 1 or not 1 <= config.form.quality <= 100:
        raise InputError(
            f"image_size={config.image_size}, samples_per_shard={config.samples_per_shard}, "
            f"quality={config.form.quality}: use sizes of at least 1 and a quality of 1 to 100."
        )
    order = hash_order(source.keys) if config.shuffle else range(len(source))
    items = ((source.names[index], source.item(index)) for index in order)
    made = ordered_map(partial(_make, config), items, num_workers)
    tally = _Tally()
    with atomic_folder(out) as folder:
        samples = tally.written(_counted(made, len(source), progress))
        names = write_tars(folder, config.prefix, samples, config.samples_per_shard)
        lines = "".join(_line(broken) for broken in tally.skipped)
        (folder / SKIPPED).write_bytes(whole_text(lines).encode())
        if not names:
            raise DataError(
                f"all {len(source)} samples were skipped, the first ({_first(tally)}); nothing was written."
            )
    return Prepared(
        shards=tuple(out / name for name in names),
        num_written=tally.num_written,
        num_uncaptioned=tally.num_uncaptioned,
        num_skipped=len(tally.skipped),
    )


def make_shard_sample(sample: Sample, config: PrepareConfig) -> ShardSample:
    """One sample as it stands in a shard; raises `DataError` for a picture that is damaged or too small."""
    original = decode_picture(sample.picture)
    picture = fit_picture(original, config.image_size, config.crop, allow_upscale=config.allow_upscale)
    info = {
        **sample.info,
        "key": sample.key,
        "captions": list(sample.captions),
        "width": picture.width,
        "height": picture.height,
        "original_width": original.width,
        "original_height": original.height,
    }
    files = {
        config.form.suffix: encode_picture(picture, config.form),
        "txt": whole_text(sample.captions[0]).encode(),
        "json": whole_text(json.dumps(info, ensure_ascii=False, sort_keys=True)).encode(),
    }
    return ShardSample(sample.key, files)


def _make(config: PrepareConfig, item: tuple[str, Sample | Broken]) -> ShardSample | Broken:
    name, sample = item
    if isinstance(sample, Broken):
        return sample
    try:
        return make_shard_sample(sample, config)
    except DataError as error:
        return Broken(name=name, reason=str(error))


class _Tally:
    """Counts what passes through."""

    def __init__(self) -> None:
        self.num_written = self.num_uncaptioned = 0
        self.skipped: list[Broken] = []

    def written(self, made: Iterable[ShardSample | Broken]) -> Iterator[ShardSample]:
        """The samples that could be made; the others are kept in `skipped`."""
        for sample in made:
            if isinstance(sample, Broken):
                self.skipped.append(sample)
            else:
                self.num_written += 1
                self.num_uncaptioned += not sample.files["txt"]
                yield sample


def _counted(
    made: Iterable[ShardSample | Broken], total: int, progress: Callable[[int, int], None] | None
) -> Iterator[ShardSample | Broken]:
    for index, sample in enumerate(made, start=1):
        yield sample
        if progress is not None:
            progress(index, total)


def _line(broken: Broken) -> str:
    return json.dumps({"name": broken.name, "reason": broken.reason}, ensure_ascii=False) + "\n"


def _first(tally: _Tally) -> str:
    return f"{tally.skipped[0].name}: {tally.skipped[0].reason}"
