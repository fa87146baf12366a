"""Somebody's pictures, checked and made shards. Knows sources and files; no network."""

import io
import json
import os
import shutil
from collections.abc import Callable
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
from unclip.recipes.choose import IMAGE_SIZES, MAX_VOCAB, SHARDS

MIN_PICTURES = 8
LARGE_ENOUGH = 0.9
"""Share of the pictures that must have the size that is drawn; the others are enlarged."""
SMALL_SIDE, TINY_SIDE = 64, 16
"""Where most pictures are below the first, as MNIST's and CIFAR's are, only those below the second are left out."""
NUM_PROBED = 64
"""Pictures that tell which of them holds."""
MANY = 2_000
"""Samples from which on processes of their own decode them."""
CHECK_FILE, DATA_FILE = "check.json", "data.json"

Tell = Callable[[str, int, int], None]
"""Gets what is done, how many of it, and of how many."""


class OwnData(Config):
    """The shards, in numbers."""

    num_pictures: int
    image_size: int
    """Side of the pictures to draw."""
    vocab_size: int
    """Tokens that the captions yield, up to 4096."""
    longest_caption: int
    """Tokens of OpenAI's tokenizer, up to 77."""


def make_shards(location: str, captions: str | None, out: Path, tell: Tell, clip_size: int | None = None) -> OwnData:
    """Check the pictures at `location`, leave out those with a finding, and write the rest as shards to `out/shards`.

    The findings stay in `out/check.json`. They are made once: the same call again reads the files. Pictures become the
    largest square of `IMAGE_SIZES` that nine in ten have, or what the given CLIP sees (`clip_size`) where that is more.
    Raises `InputError` or `DataError` in one line where fewer than 8 usable pictures or no captions are found.
    """
    done = out / DATA_FILE
    if done.exists():
        return load_config(OwnData, json.loads(done.read_text()))
    source = open_source(location, captions)
    report = _checked(source, out, tell)
    try:
        kept = _usable(source, report)
    except UnclipError:
        # The same call is to see what its user has mended.
        (out / CHECK_FILE).unlink()
        raise
    shorter = [_shorter_side(kept, index) for index in range(len(kept))]
    image_size = next((size for size in IMAGE_SIZES if _share_from(shorter, size) >= LARGE_ENOUGH), IMAGE_SIZES[-1])
    _write(kept, out, max(image_size, clip_size or 0), tell)
    data = _counted(out, image_size)
    atomic_write(done, data.model_dump_json(indent=2) + "\n")
    return data


def read_check(out: Path) -> CheckReport:
    """What was found in the pictures."""
    return load_config(CheckReport, json.loads((out / CHECK_FILE).read_text()))


def _checked(source: Source, out: Path, tell: Tell) -> CheckReport:
    if not (out / CHECK_FILE).exists():
        # In a small set, drawings that are alike but not equal are worth more than a copy that is trained on twice.
        config = CheckConfig(min_side=TINY_SIDE if _is_small(source) else SMALL_SIDE, max_distance=0)
        report = check(source, config, lambda done, total: tell("check", done, total), num_workers=_workers(source))
        atomic_write(out / CHECK_FILE, report.model_dump_json(indent=1) + "\n")
    return read_check(out)


def _is_small(source: Source) -> bool:
    """Whether most pictures are smaller than what is left out elsewhere, by some of them."""
    sides = []
    for index in range(0, len(source), max(1, len(source) // NUM_PROBED)):
        sample = source.item(index)
        try:
            sides += [min(decode_picture(sample.picture).size)] if isinstance(sample, Sample) else []
        except DataError:
            continue
    return bool(sides) and median(sides) < SMALL_SIDE


def _usable(source: Source, report: CheckReport) -> Source:
    """The samples without a finding; raises `DataError` where they are too few, `InputError` where none has a text."""
    if report.captions.num_captions == 0:
        raise InputError(
            f"none of the {len(source)} pictures has a caption ({source.description}); write a .txt beside each, or "
            "say --captions folders to take the names of their folders."
        )
    bad = {finding.name for finding in report.findings}
    good = [index for index, name in enumerate(source.names) if name not in bad]
    if len(good) < MIN_PICTURES:
        found = ", ".join(f"{count} {problem}" for problem, count in sorted(report.counts.items())) or "no problems"
        raise DataError(
            f"{len(good)} of {len(source)} pictures can be used ({found}); training needs {MIN_PICTURES} at the very "
            "least, and hundreds to draw anything new."
        )
    return source.only(good)


def _shorter_side(source: Source, index: int) -> int:
    """From the header alone."""
    sample = source.item(index)
    if not isinstance(sample, Sample):
        return 0
    with Image.open(io.BytesIO(sample.picture)) as image:
        return min(image.size)


def _share_from(sides: list[int], size: int) -> float:
    return sum(side >= size for side in sides) / len(sides)


def _write(source: Source, out: Path, side: int, tell: Tell) -> None:
    if (out / SHARDS).exists():
        return
    # What a killed run left.
    for left in out.glob(f".{SHARDS}.*.tmp"):
        shutil.rmtree(left)
    config = PrepareConfig(image_size=side, allow_upscale=True)
    prepare(source, out / SHARDS, config, lambda done, total: tell("shards", done, total), num_workers=_workers(source))


def _counted(out: Path, image_size: int) -> OwnData:
    shards = ShardSet.open(out / SHARDS)
    texts = [text for index in range(len(shards)) for text in shards.sample(index).captions]
    tokens = read_check(out).captions.tokens
    return OwnData(
        num_pictures=len(shards),
        image_size=image_size,
        vocab_size=Tokenizer.largest_vocab_size(texts, MAX_VOCAB),
        longest_caption=0 if tokens is None else round(tokens.largest),
    )


def _workers(source: Source) -> int:
    return min(os.cpu_count() or 1, 8) if len(source) >= MANY else 1
