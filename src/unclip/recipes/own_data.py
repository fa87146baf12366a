"""A user's pictures, checked and written as shards."""

import io
import json
import os
import shutil
from functools import partial
from pathlib import Path
from statistics import median

from PIL import Image

from unclip.clip import Tokenizer
from unclip.config import Config, load_config
from unclip.data import (
    CheckConfig,
    CheckReport,
    PrepareConfig,
    Sample,
    ShardSet,
    Source,
    check,
    decode_picture,
    open_source,
    prepare,
)
from unclip.errors import DataError, InputError, UnclipError
from unclip.files import atomic_write
from unclip.pipelines.options import Progress
from unclip.recipes.choose import IMAGE_SIZES, MAX_VOCAB, SHARDS

MIN_PICTURES = 8
LARGE_ENOUGH = 0.9
"""Share of the pictures that must have the size that is drawn; the others are enlarged."""
SMALL_SIDE, TINY_SIDE = 64, 16
"""Where most pictures are below the first, as MNIST's and CIFAR's are, only those below the second are left out."""
NUM_PROBED = 64
"""Pictures that are decoded to choose between the two."""
MANY = 2_000
"""Pictures from which on several processes decode them."""
CHECK_FILE, DATA_FILE = "check.json", "data.json"


class OwnData(Config):
    """The shards, in numbers."""

    num_pictures: int
    image_size: int
    """Side of the pictures to draw."""
    vocab_size: int
    """Tokens that the captions yield, up to 4096."""
    longest_caption: int
    """Tokens of OpenAI's tokenizer, up to 77."""
    has_alpha: bool = False
    """Whether at least half of the pictures have alpha."""


def make_shards(
    location: str, captions: str | None, out: Path, progress: Progress, clip_size: int | None = None
) -> OwnData:
    """Check the pictures at `location`, leave out those with a finding, and write the rest as shards to `out/shards`.

    The findings stay in `out/check.json`. All is made once: the same call again reads the files. Pictures become the
    largest square of `IMAGE_SIZES` that nine in ten have, or what an existing CLIP sees (`clip_size`) if that is more.
    Raises `InputError` or `DataError` where fewer than 8 usable pictures or no captions are found.
    """
    if (out / DATA_FILE).exists():
        return load_config(OwnData, json.loads((out / DATA_FILE).read_text()))
    source = open_source(location, captions)
    num_workers = min(os.cpu_count() or 1, 8) if len(source) >= MANY else 1
    if not (out / CHECK_FILE).exists():
        # In a small set, drawings that are alike but not equal are worth more than a copy that is trained on twice.
        config = CheckConfig(min_side=TINY_SIDE if _is_small(source) else SMALL_SIDE, max_distance=0)
        report = check(source, config, partial(progress, "check"), num_workers=num_workers)
        atomic_write(out / CHECK_FILE, report.model_dump_json(indent=1) + "\n")
    try:
        usable = _usable(source, read_check(out))
    except UnclipError:
        # The same call must check again what its user has mended.
        (out / CHECK_FILE).unlink()
        raise
    shorter = [_shorter_side(usable, index) for index in range(len(usable))]
    shares = {size: sum(side >= size for side in shorter) / len(shorter) for size in IMAGE_SIZES}
    image_size = next((size for size, share in shares.items() if share >= LARGE_ENOUGH), IMAGE_SIZES[-1])
    if not (out / SHARDS).exists():
        for leftover in out.glob(f".{SHARDS}.*.tmp"):  # of a killed run
            shutil.rmtree(leftover)
        shape = PrepareConfig(image_size=max(image_size, clip_size or 0), allow_upscale=True)
        prepare(usable, out / SHARDS, shape, partial(progress, "shards"), num_workers=num_workers)
    shards, tokens = ShardSet.open(out / SHARDS), read_check(out).captions.tokens
    texts, num_clear = list[str](), 0
    for index in range(len(shards)):
        sample = shards.sample(index)
        texts += sample.captions
        with Image.open(io.BytesIO(sample.picture)) as image:
            # `prepare` writes those that are opaque everywhere as RGB.
            num_clear += image.mode == "RGBA"
    data = OwnData(
        num_pictures=len(shards),
        image_size=image_size,
        vocab_size=Tokenizer.largest_vocab_size(texts, MAX_VOCAB),
        longest_caption=0 if tokens is None else round(tokens.largest),
        has_alpha=2 * num_clear >= len(shards),
    )
    atomic_write(out / DATA_FILE, data.model_dump_json(indent=2) + "\n")
    return data


def read_check(out: Path) -> CheckReport:
    """Read the report of `make_shards` on the pictures."""
    return load_config(CheckReport, json.loads((out / CHECK_FILE).read_text()))


def _is_small(source: Source) -> bool:
    """Return whether most pictures, judged by some of them, are below 64 px."""
    sides = []
    for index in range(0, len(source), max(1, len(source) // NUM_PROBED)):
        sample = source.item(index)
        try:
            sides += [min(decode_picture(sample.picture).size)] if isinstance(sample, Sample) else []
        except DataError:
            continue
    return bool(sides) and median(sides) < SMALL_SIDE


def _usable(source: Source, report: CheckReport) -> Source:
    """Return the samples without a finding; raises `DataError` if they are too few, `InputError` if none has a text."""
    if report.captions.num_captions == 0:
        raise InputError(
            f"none of the {len(source)} pictures has a caption ({source.description}); write a .txt beside each, or "
            "say --captions folders to take the names of their folders."
        )
    bad = {finding.name for finding in report.findings}
    good = [index for index, name in enumerate(source.names) if name not in bad]
    if len(good) < MIN_PICTURES:
        raise DataError(
            f"{len(good)} of {len(source)} pictures can be used ({problems_of(report) or 'no problems'}); training "
            f"needs {MIN_PICTURES} at the very least, and hundreds to draw anything new."
        )
    return source.only(good)


def problems_of(report: CheckReport) -> str:
    """Return how many pictures have each problem, as text: "2 duplicate, 1 unreadable"."""
    return ", ".join(f"{count} {problem}" for problem, count in sorted(report.counts.items()))


def _shorter_side(source: Source, index: int) -> int:
    sample = source.item(index)
    if not isinstance(sample, Sample):
        return 0
    with Image.open(io.BytesIO(sample.picture)) as image:  # reads the header alone
        return min(image.size)
