"""Reading shards: pixels, captions, the cache, and every kind of damage."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shard_files import write_tar
from unclip.data import EmojiItem, load_shards, rasterize
from unclip.errors import DataError, InputError
from unclip.images import from_uint8, resize, to_uint8


def png(width: int, height: int) -> bytes:
    """Black, with the centre square white."""
    side = min(width, height)
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[(height - side) // 2 :, (width - side) // 2 :][:side, :side] = 255
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_pixels_captions_and_info(few: list[EmojiItem], shards: Path) -> None:
    data = load_shards(shards, 32)
    assert len(data) == len(few)
    assert data.images.shape == (len(few), 32, 32, 3)
    for item in few:
        index = data.keys.index(item.key)
        np.testing.assert_array_equal(data.images[index], rasterize(item, 32))
        assert data.captions[index] == list(item.captions)
        assert data.info[index] == item.info()


def test_reduction_is_that_of_images_resize(few: list[EmojiItem], shards: Path) -> None:
    full, half = load_shards(shards, 32), load_shards(shards, 16)
    difference = np.abs(to_uint8(resize(from_uint8(full.images), 16)).astype(int) - half.images)
    # Pillow rounds and clamps between its two passes, which shows beside sharp edges only.
    assert difference.mean() < 0.2
    assert np.median(difference) == 0


def test_cache_is_mapped_and_reused(shards: Path) -> None:
    first = load_shards(shards, 16)
    assert isinstance(first.images, np.memmap)
    [cache] = shards.glob(".cache-16-*.npy")
    written = cache.stat().st_mtime_ns
    np.testing.assert_array_equal(load_shards(shards, 16).images, first.images)
    assert cache.stat().st_mtime_ns == written


def test_other_content_is_another_cache(shards: Path) -> None:
    load_shards(shards, 16)
    write_tar(shards / "more.tar", {"a.png": png(16, 16), "a.txt": b"a"})
    assert load_shards(shards, 16).keys[-1] == "a"
    assert len(list(shards.glob(".cache-16-*.npy"))) == 2


def test_foreign_shard_without_json_and_not_square(tmp_path: Path) -> None:
    write_tar(
        tmp_path / "a.tar", {"x/wide.png": png(20, 10), "x/wide.txt": b"wide", "tall.PNG": png(9, 21), "tall.txt": b"t"}
    )
    data = load_shards(tmp_path, 8)
    assert data.keys == ["x/wide", "tall"]
    assert data.captions == [["wide"], ["t"]]
    assert data.info == [{}, {}]
    assert (data.images == 255).all()


def test_flipped_byte_names_shard_and_key(few: list[EmojiItem], shards: Path) -> None:
    shard = shards / "few-000000.tar"
    with tarfile.open(shard) as tar:
        member = tar.getmember("noto/zebra.png")
    whole = shard.read_bytes()
    content = bytearray(whole)
    content[member.offset_data + member.size // 2] ^= 0xFF
    shard.write_bytes(content)
    with pytest.raises(DataError, match=r"few-000000\.tar: noto/zebra cannot be read"):
        load_shards(shards, 32)
    shard.write_bytes(whole)
    assert len(load_shards(shards, 32)) == len(few)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"a.txt": b"a"}, "a cannot be read"),
        ({"a.png": png(8, 8), "a.txt": b"a", "a.json": b"{"}, "a cannot be read"),
        ({"a.png": png(8, 8), "a.txt": b"\xff"}, "a cannot be read"),
        ({"a.png": b"", "a.txt": b"a"}, "a cannot be read"),
        ({"a.png": png(7, 9), "a.txt": b"a"}, "7 x 9 pixels, smaller than image_size=8; use at most 7"),
    ],
)
def test_bad_sample_names_itself(tmp_path: Path, files: dict[str, bytes], reason: str) -> None:
    write_tar(tmp_path / "bad.tar", files)
    with pytest.raises(DataError, match=rf"bad\.tar: .*{reason}"):
        load_shards(tmp_path, 8)


def test_folder_without_shards(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no \.tar shard"):
        load_shards(tmp_path, 8)


def test_size_below_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="image_size=0"):
        load_shards(tmp_path, 0)
