"""WebDataset shards as a source. Knows `ShardSet`; not tar files."""

from functools import partial
from itertools import chain, repeat

from unclip.data._shard_set import ShardSet
from unclip.data._source import Content, Source
from unclip.errors import InputError

__all__ = ["tar_source"]


def tar_source(location: str, captions: str | None) -> Source:
    """The samples of the shards at a folder, a file or a URL; captions as `ShardSet` finds them.

    Raises `InputError` where other `captions` than "none" are asked for, `DataError` as `ShardSet` does.
    """
    if captions not in (None, "none"):
        raise InputError(f"{location} holds shards, so captions={captions!r} does not fit; leave it out, or say none.")
    shards = ShardSet.open(location)
    shard_of_each = chain.from_iterable(map(repeat, shards.shard_names, shards.shard_sizes))
    names = [f"{shard} {key}" for shard, key in zip(shard_of_each, shards.keys, strict=True)]
    source = Source(
        description=f"{len(shards.shard_names)} shards with {len(shards)} samples",
        names=names,
        keys=shards.keys,
        num_uncaptioned=None,
        read=partial(_read, shards),
    )
    return source.without_captions(captions == "none")


def _read(shards: ShardSet, index: int) -> Content:
    sample = shards.sample(index)
    captions = tuple(text for text in sample.captions if text.strip())
    return Content(sample.picture, captions, sample.info)
