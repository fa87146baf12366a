"""Write the pictures of any source, made one size, as shards."""

import io
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from unclip.config import Config
from unclip.data.parallel import map_samples
from unclip.data.pictures import check_sizes, decode_alpha
from unclip.data.sources.base import Broken, Sample, Source, whole_text
from unclip.data.tars import ShardSample, hash_order, require_new, write_tars
from unclip.errors import DataError, InputError
from unclip.files import atomic_folder
from unclip.images import cut_square
from unclip.pictures import on_white
from unclip.progress import Progress

SKIPPED = "skipped.jsonl"
Crop = Literal["center", "shortest", "pad", "stretch", "none"]


class PictureFormat(Config):
    """File format of pictures."""

    suffix: Literal["png", "webp", "jpg"] = "png"
    """png (no loss), webp or jpg."""
    quality: int = 95
    """1 to 100, of webp and jpg; png has none."""

    def encode(self, picture: Image.Image) -> bytes:
        """Encode an RGB or RGBA picture as a file, without metadata; the same pixels give the same bytes.

        png and webp keep alpha, jpg is on white.
        """
        options: dict[str, Any] = {
            "png": {"format": "PNG", "compress_level": 6},
            "webp": {"format": "WEBP", "quality": self.quality, "method": 4},
            # Colour at full resolution: half of a small picture's pixels is little.
            "jpg": {"format": "JPEG", "quality": self.quality, "subsampling": 0},
        }
        if self.suffix == "webp" and picture.mode == "RGBA":
            options["webp"]["exact"] = True  # keeps the colours below what is clear
        file = io.BytesIO()
        (on_white(picture) if self.suffix == "jpg" else picture).save(file, **options[self.suffix])
        return file.getvalue()


class PrepareConfig(Config):
    """Settings of `prepare`."""

    image_size: int
    """Side in pixels; `crop` says which side."""
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
    """Report of `prepare`."""

    shards: tuple[Path, ...]
    num_written: int
    num_uncaptioned: int
    """Samples written with the empty text as caption."""
    num_skipped: int
    """Samples named with their reasons in `skipped.jsonl`."""


def prepare(
    source: Source, out: Path | str, config: PrepareConfig, progress: Progress | None = None, *, num_workers: int = 1
) -> Prepared:
    """Write the pictures of `source`, made one size, as WebDataset shards into the new folder `out`.

    Each sample is its key with `.png`, `.webp` or `.jpg`, `.txt` (the first caption) and `.json` (all captions, both
    sizes, the source's own fields); `load_shards` reads them. Pictures that cannot be read or are too small are left
    out and named in `skipped.jsonl`. The same call writes the same bytes for any number of workers. The folder appears
    when it is complete or not at all. Raises `InputError` if it exists already or cannot be written, `DataError` if
    every sample was skipped. With more than one worker a script needs the `if __name__ == "__main__"` guard.
    """
    out = Path(out)
    require_new(out)
    if config.image_size < 1 or config.samples_per_shard < 1 or not 1 <= config.form.quality <= 100:
        raise InputError(
            f"image_size={config.image_size}, samples_per_shard={config.samples_per_shard}, "
            f"quality={config.form.quality}: use sizes of at least 1 and a quality of 1 to 100."
        )
    order = hash_order(source.keys) if config.shuffle else range(len(source))
    results = map_samples(partial(make_shard_sample, config=config), source, order, num_workers, progress)
    skipped: list[Broken] = []
    has_caption: list[bool] = []

    def written() -> Iterator[ShardSample]:
        for result in results:
            if isinstance(result, Broken):
                skipped.append(result)
            else:
                has_caption.append(bool(result.files["txt"]))
                yield result

    with atomic_folder(out) as folder:
        names = write_tars(folder, config.prefix, written(), config.samples_per_shard)
        lines = [json.dumps({"name": one.name, "reason": one.reason}, ensure_ascii=False) + "\n" for one in skipped]
        (folder / SKIPPED).write_bytes(whole_text("".join(lines)).encode())
        if not names:
            raise DataError(
                f"all {len(source)} samples were skipped, the first ({skipped[0].name}: {skipped[0].reason}); "
                "nothing was written."
            )
    return Prepared(
        shards=tuple(out / name for name in names),
        num_written=len(has_caption),
        num_uncaptioned=has_caption.count(False),
        num_skipped=len(skipped),
    )


def make_shard_sample(sample: Sample, config: PrepareConfig) -> ShardSample:
    """Make the files of one sample; raises `DataError` for a picture that is damaged or too small."""
    original = whiten_clear(decode_alpha(sample.picture))
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
        config.form.suffix: config.form.encode(whiten_clear(picture)),
        "txt": whole_text(sample.captions[0]).encode(),
        "json": whole_text(json.dumps(info, ensure_ascii=False, sort_keys=True)).encode(),
    }
    return ShardSample(sample.key, files)


def fit_picture(picture: Image.Image, image_size: int, crop: Crop, *, allow_upscale: bool = False) -> Image.Image:
    """Fit `picture` (RGB or RGBA) to `image_size` by the rule `crop`.

    center: the largest centre square, scaled. shortest: the shorter side scaled to `image_size`, the other in
    proportion. pad: the longer side scaled to at most `image_size`, centred on a square that is white, or
    clear for RGBA. stretch: both sides
    scaled. none: unchanged. Scaling is Pillow's Lanczos over the whole picture. Raises `DataError` if a picture would
    have to be enlarged and `allow_upscale` is not set (pad leaves it at its size), `InputError` for an invalid size.
    """
    check_sizes([image_size])
    if crop == "none":
        return picture
    if crop != "pad" and min(picture.size) < image_size and not allow_upscale:
        raise DataError(f"it is {picture.width} x {picture.height} pixels, smaller than {image_size}")
    # Of stripes finer than 1.5 pixels of the result Lanczos leaves at most 5 % of the contrast, bicubic 16 %, and
    # Pillow's faster way (`reducing_gap=3`, which averages whole pixels first) 13 %.
    lanczos = Image.Resampling.LANCZOS
    if crop == "center":
        return cut_square(picture, image_size, lanczos)
    if crop == "stretch":
        return picture.resize((image_size, image_size), lanczos)
    scale = image_size / (min(picture.size) if crop == "shortest" else max(picture.size))
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    if crop == "shortest":
        return picture.resize(size, lanczos)
    inner = picture.resize(size, lanczos) if scale < 1 or allow_upscale else picture
    square = Image.new(picture.mode, (image_size, image_size), (255, 255, 255, 0)[: len(picture.mode)])
    square.paste(inner, ((image_size - inner.width) // 2, (image_size - inner.height) // 2))
    return square


def whiten_clear(picture: Image.Image) -> Image.Image:
    """Paint white what is fully transparent in an RGBA picture; one that is opaque everywhere becomes RGB."""
    if picture.mode != "RGBA" or picture.getchannel("A").getextrema()[0] == 255:
        return picture.convert("RGB")
    pixels = np.array(picture)
    pixels[pixels[..., 3] == 0, :3] = 255
    return Image.fromarray(pixels)
