"""Copy captioned pictures as shards, without what a classifier, opt-out lists, a hook or likeness remove."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from PIL import Image

from unclip.config import Config
from unclip.data.check import NsfwScore
from unclip.data.duplicates import HASH_BITS, Look, find_duplicates, look_of
from unclip.data.opt_out import Form, OptOut
from unclip.data.parallel import ordered_map
from unclip.data.pictures import decode_picture
from unclip.data.sources.base import Broken, Sample, Source, whole_text
from unclip.data.tars import ShardSample, require_new, write_tars
from unclip.errors import DataError, InputError
from unclip.files import atomic_folder, atomic_write
from unclip.progress import Progress

Hook: TypeAlias = Callable[[Image.Image, str, dict[str, Any]], str | None]
"""Takes a picture (RGB, on white), all its captions, one a line, and the fields of its .json; returns a reason to
remove it, or None."""
Reason = Literal["opt_out", "unreadable", "nsfw", "hook", "duplicate"]
"""In the order in which they are looked for: a sample has the first that holds."""
REPORT = "filter.json"
MAX_DETAIL = 200
# By its first bytes: shards know a picture by its suffix, and rows of tables have none.
SUFFIXES = {
    b"\x89PNG": "png", b"\xff\xd8\xff": "jpg", b"RIFF": "webp", b"GIF8": "gif", b"BM": "bmp", b"II*\0": "tif",
    b"MM\0*": "tif",
}  # fmt: skip


class FilterConfig(Config):
    """Settings of `filter_samples`."""

    nsfw_threshold: float = 0.5
    """Pictures are removed from this score on, 0 to 1."""
    max_distance: int | None = 4
    """Bits of 64 in which the hashes of duplicates differ, at most; None keeps duplicates."""
    samples_per_shard: int = 1000


class Removed(Config):
    """One sample that was removed, and why."""

    key: str
    sha256: str | None
    """Of the picture's file; None if it cannot be read."""
    reason: Reason
    detail: str


class Filtered(Config):
    """Report of `filter_samples`; holds no picture and no caption."""

    description: str
    num_read: int
    num_kept: int
    counts: dict[Reason, int]
    """Removed samples by their first reason, for each reason that was looked for."""
    opt_out: dict[Form, int]
    """Entries of the opt-out lists by form; a plain text is words and a name."""
    settings: FilterConfig
    removed: tuple[Removed, ...]
    """In the order of the samples."""

    @property
    def counts_text(self) -> str:
        """The counts as text: "3 opt-out, 0 unreadable, 12 duplicate"."""
        return ", ".join(f"{count} {reason.replace('_', '-')}" for reason, count in self.counts.items())


class _Judgement(NamedTuple):
    """What is kept of a sample until duplicates are known."""

    sha256: str | None
    look: Look | None
    removal: tuple[Reason, str] | None


def filter_samples(
    source: Source,
    out: Path | str | None,
    config: FilterConfig | None = None,
    progress: Progress | None = None,
    *,
    nsfw: NsfwScore | None = None,
    opt_out: OptOut | None = None,
    hook: Hook | None = None,
    num_workers: int = 1,
) -> Filtered:
    """Write the samples of `source` that nothing removes as shards into the new folder `out`; None counts alone.

    Pictures stay as they are, byte for byte, and so do captions, the fields of the .json and the order; `filter.json`
    names each removed sample with its first reason. Of pictures that look the same the first stays, and none where one
    of them is on an opt-out list. The folder appears when it is complete or not at all. Every picture is decoded once;
    some 200 bytes a sample are held in memory. With more than one worker, `nsfw` and `hook` must be functions of
    modules, and a script needs the `if __name__ == "__main__"` guard.

    Raises `InputError` for settings out of range, a folder that exists already, and a function that fails or returns
    something else, with the sample; `DataError` if nothing is left, or a sample changes meanwhile.
    """
    config, opt_out = config or FilterConfig(), opt_out or OptOut.read([])
    if not 0 <= config.nsfw_threshold <= 1 or not 0 <= (config.max_distance or 0) <= 16 or config.samples_per_shard < 1:
        raise InputError(
            f"nsfw_threshold={config.nsfw_threshold:g}, max_distance={config.max_distance}, samples_per_shard="
            f"{config.samples_per_shard}: use a threshold of 0 to 1, 0 to 16 bits, and 1 sample or more."
        )
    if out is not None:
        require_new(Path(out))
    items = ((source.names[index], source.item(index)) for index in range(len(source)))
    judge = partial(_judge, threshold=config.nsfw_threshold, nsfw=nsfw, opt_out=opt_out, hook=hook)
    judgements = list(ordered_map(judge, items, len(source), num_workers, progress))
    removals = [one.removal for one in judgements]
    if config.max_distance is not None:
        # Sorted by what is opted out, so that a copy of such a picture is found to look like it.
        order = [index for index, one in enumerate(removals) if one is None]
        opted_out = [index for index, one in enumerate(removals) if one is not None and one[0] == "opt_out"]
        places = [index for index in opted_out + order if judgements[index].look is not None]
        looks = [look for index in places if (look := judgements[index].look) is not None]
        for copy, first, distance in find_duplicates(looks, config.max_distance):
            like = removals[places[first]]
            reason: Reason = "opt_out" if like is not None and like[0] == "opt_out" else "duplicate"
            detail = f"looks like {source.keys[places[first]]} ({distance} of {HASH_BITS} bits differ)"
            removals[places[copy]] = removals[places[copy]] or (reason, detail)
    looked_for = {"opt_out": any(opt_out.entries.values()), "unreadable": True, "nsfw": nsfw, "hook": hook}
    looked_for["duplicate"] = config.max_distance is not None
    counts = Counter(one[0] for one in removals if one is not None)
    report = Filtered(
        description=source.description,
        num_read=len(source),
        num_kept=removals.count(None),
        counts={reason: counts[reason] for reason in get_args(Reason) if looked_for[reason]},
        opt_out={form: len(entries) for form, entries in opt_out.entries.items()},
        settings=config,
        removed=tuple(
            Removed(key=key, sha256=one.sha256, reason=removal[0], detail=removal[1])
            for key, one, removal in zip(source.keys, judgements, removals, strict=True)
            if removal is not None
        ),
    )
    if out is not None:
        if not report.num_kept:
            raise DataError(f"all {len(source)} samples would be removed ({report.counts_text}); nothing was written.")
        kept = ((index, one.sha256) for index, one in enumerate(judgements) if removals[index] is None)
        with atomic_folder(out) as folder:
            samples = (_shard_sample(source, index, sha256) for index, sha256 in kept)
            write_tars(folder, "data", samples, config.samples_per_shard)
            atomic_write(folder / REPORT, report.model_dump_json(indent=1) + "\n")
    return report


def _judge(
    item: tuple[str, Sample | Broken], *, threshold: float, nsfw: NsfwScore | None, opt_out: OptOut, hook: Hook | None
) -> _Judgement:
    """Look for all reasons to remove a sample but the last, which needs the others."""
    name, sample = item
    if isinstance(sample, Broken):
        return _Judgement(None, None, ("unreadable", sample.reason))
    sha256 = hashlib.sha256(sample.picture).hexdigest()
    entry = opt_out.match((sample.key, name), sha256, sample.captions, sample.info)
    try:
        _suffix(sample.picture)
        picture = decode_picture(sample.picture)
    except DataError as error:
        return _Judgement(sha256, None, ("opt_out", entry) if entry else ("unreadable", str(error)))
    removal: tuple[Reason, str] | None = ("opt_out", entry) if entry else None
    if removal is None and nsfw is not None:
        score = _call("nsfw", nsfw, name, picture)
        if not isinstance(score, int | float) or not 0 <= score <= 1:
            raise InputError(f"nsfw returned {score!r} for {name}; it must return a number of 0 to 1.")
        if score >= threshold:
            removal = "nsfw", f"score {score:.3f}, from {threshold:g} on"
    if removal is None and hook is not None:
        fields = {**sample.info, "key": sample.key, "captions": list(sample.captions)}
        answer = _call("hook", hook, name, picture, "\n".join(sample.captions), fields)
        if answer is not None and not (isinstance(answer, str) and answer.strip()):
            raise InputError(f"hook returned {answer!r} for {name}; it must return a reason as a text, or None.")
        if answer is not None:
            removal = "hook", " ".join(answer.split())[:MAX_DETAIL]
    return _Judgement(sha256, look_of(picture), removal)


def _call(what: str, function: Callable[..., Any], name: str, *arguments: object) -> Any:
    """Call a function of the user's; whatever it raises becomes an `InputError` of one line with the sample."""
    try:
        return function(*arguments)
    except Exception as error:
        raise InputError(f"{what} failed on {name}: {type(error).__name__}: {error}; correct the function.") from error


def _suffix(picture: bytes) -> str:
    """Return the suffix of a picture's file; raises `DataError` for a format that shards do not hold."""
    suffix = next((suffix for start, suffix in SUFFIXES.items() if picture.startswith(start)), None)
    suffix = "avif" if picture[4:12] == b"ftypavif" else suffix
    if suffix is None:
        raise DataError("not a picture of a kind that shards hold (PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF)")
    return suffix


def _shard_sample(source: Source, index: int, sha256: str | None) -> ShardSample:
    """Read a sample that is kept again, and make its files."""
    sample = source.item(index)
    if isinstance(sample, Broken) or hashlib.sha256(sample.picture).hexdigest() != sha256:
        raise DataError(f"{source.names[index]} was changed while the set was filtered; filter it again.")
    info = {**sample.info, "key": sample.key, "captions": list(sample.captions)}
    files = {
        _suffix(sample.picture): sample.picture,
        "txt": whole_text(sample.captions[0]).encode(),
        "json": whole_text(json.dumps(info, ensure_ascii=False, sort_keys=True)).encode(),
    }
    return ShardSample(sample.key, files)
