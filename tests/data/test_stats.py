"""The numbers of a set equal those counted by hand."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unclip.data import PictureFormat, PrepareConfig, open_source, prepare, stats
from unclip.errors import DataError


def test_sizes_are_counted_by_classes(tmp_path: Path) -> None:
    for index, size in enumerate([(31, 31), (32, 32), (63, 300), (64, 80), (400, 128)]):
        Image.new("RGB", size).save(tmp_path / f"{index}.png")
    (tmp_path / "cut.png").write_bytes(b"")
    counted = stats(open_source(tmp_path, "none"))
    assert (counted.num_samples, counted.num_unreadable) == (6, 1)
    assert {name: count for name, count in counted.sides.items() if count} == {
        "1 to 32": 1,
        "32 to 64": 2,
        "64 to 128": 1,
        "128 to 256": 1,
    }
    # 63 / 300 = 0.21, 64 / 80 = 0.8, 400 / 128 = 3.125
    assert {name: count for name, count in counted.aspects.items() if count} == {
        "0 to 0.25": 1,
        "0.8 to 1.25": 3,
        "2 to 4": 1,
    }
    assert counted.num_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert counted.prepared_bytes is None


def test_mean_and_deviation_count_every_picture_alike(album: Path) -> None:
    pictures = []
    for path in sorted(album.rglob("*.*")):
        with Image.open(path) as image:
            pictures.append(np.asarray(image.convert("RGB"), dtype=float).reshape(-1, 3) / 255)
    mean = np.mean([pixels.mean(0) for pixels in pictures], 0)
    square = np.mean([(pixels**2).mean(0) for pixels in pictures], 0)
    counted = stats(open_source(album, "none"))
    np.testing.assert_allclose(counted.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(counted.std, np.sqrt(square - mean**2), rtol=1e-9)


# A tar ends in two blocks of zeros and is filled up to 10,240 bytes.
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_the_disk_estimate_is_what_prepare_writes(album: Path, tmp_path: Path, suffix: str) -> None:
    config = PrepareConfig(image_size=32, form=PictureFormat.model_validate({"suffix": suffix}))
    counted = stats(open_source(album, "folders"), config)
    (shard,) = prepare(open_source(album, "folders"), tmp_path / "out", config).shards
    assert counted.prepared_bytes is not None
    assert 1024 <= shard.stat().st_size - counted.prepared_bytes < 1024 + 10240


def test_skipped_pictures_take_no_disk(album: Path) -> None:
    assert stats(open_source(album, "none"), PrepareConfig(image_size=500)).prepared_bytes == 0


def test_a_set_without_a_readable_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes(b"")
    with pytest.raises(DataError, match="none of the 1 pictures can be read"):
        stats(open_source(tmp_path, "none"))
