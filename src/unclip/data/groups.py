"""Group the samples of shards by the values of fields of their .json."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from unclip.data.shard_set import ShardSet
from unclip.errors import DataError, did_you_mean


def read_groups(
    location: str | Path, fields: Sequence[str], keys: Sequence[str], setting: str
) -> Int64[np.ndarray, " samples"]:
    """Read the group of each of the samples `keys` in the shards at `location`: equal where all `fields` agree.

    A group's number is a hash of its values, so it is the same in every process and for every part of the set. Reads
    the .json of every sample. Raises `DataError`, which begins with the name of the `setting`, for a sample without one
    of the fields (null counts as none) or outside the shards, and as `ShardSet.open` and `ShardSet.info` do.
    """
    shards = ShardSet.open(location)
    groups = np.empty(len(keys), np.int64)
    for place, index in enumerate(_indices(shards, keys, setting)):
        info = shards.info(index)
        for name in fields:
            if info.get(name) is None:
                names = [other for other, value in info.items() if value is not None]
                fix = did_you_mean(name, names) if names else "its .json holds no fields, or there is none."
                raise DataError(f"{setting}={json.dumps(list(fields))}: {shards.name(index)} has no {name!r}; {fix}")
        values = json.dumps([info[name] for name in fields], sort_keys=True).encode()
        groups[place] = int.from_bytes(hashlib.sha256(values).digest()[:8], "big", signed=True)
    return groups


def _indices(shards: ShardSet, keys: Sequence[str], setting: str) -> Sequence[int]:
    """Return the numbers of the samples of these keys; raises `DataError` naming the first that is missing."""
    if len(keys) == len(shards) and all(map(str.__eq__, keys, shards.keys)):
        return range(len(shards))
    number_of = {key: number for number, key in enumerate(shards.keys)}
    missing = [key for key in keys if key not in number_of]
    if missing:
        raise DataError(
            f"{setting} reads the .json of the pictures, but {shards.location} does not hold {missing[0]} and "
            f"{len(missing) - 1} more of {len(keys)} samples; name their shards by data.folder."
        )
    return [number_of[key] for key in keys]
