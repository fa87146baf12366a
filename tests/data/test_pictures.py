"""Sets of pictures: what is cached equals what is streamed, damage is told and passed over, workers share an epoch."""

import io
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from shard_files import http_server, picture, sent, write_set, write_tar
from unclip.data import EmojiItem, Item, Order, PictureSet, item_or_next, load_shards, open_pictures
from unclip.errors import DataError, InputError


def encoded(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def both(folder: Path, image_sizes: Sequence[int]) -> list[PictureSet]:
    return [open_pictures(folder, image_sizes, cache=cache) for cache in (True, False)]


def assert_equal(first: Item, second: Item) -> None:
    assert (first.key, first.captions, list(first.pixels)) == (second.key, second.captions, list(second.pixels))
    for size, pixels in first.pixels.items():
        np.testing.assert_array_equal(pixels, second.pixels[size])


def noise(mode: str, size: tuple[int, int]) -> Image.Image:
    channels = len(Image.new(mode, (1, 1)).getbands())
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], channels), np.uint8)
    return Image.fromarray(values.squeeze(), mode)


def test_cached_and_streamed_items_are_equal_for_every_kind_of_picture(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    deep = Image.fromarray(np.random.default_rng(0).integers(0, 65536, (20, 20)).astype(np.uint16))
    files = {
        "rgb.png": encoded(noise("RGB", (33, 20))),
        "alpha.png": encoded(noise("RGBA", (20, 33))),
        "grey.webp": encoded(noise("L", (20, 20)), "WEBP"),
        "palette.png": encoded(noise("RGB", (21, 21)).quantize(16)),
        "cmyk.jpg": encoded(noise("CMYK", (24, 20)), "JPEG"),
        "deep.png": encoded(deep),
        "turned.jpeg": encoded(noise("RGB", (40, 20)), "JPEG", exif=turned),
    }
    write_tar(tmp_path / "a.tar", files)
    cached, streamed = both(tmp_path, [16, 8])
    assert list(cached.keys) == list(streamed.keys) == [name.partition(".")[0] for name in files]
    assert cached.shard_sizes == streamed.shard_sizes == [7]
    for index in range(7):
        assert_equal(cached.item(index), streamed.item(index))
        assert {size: pixels.shape for size, pixels in cached.item(index).pixels.items()} == {
            8: (8, 8, 3),
            16: (16, 16, 3),
        }


def test_transparency_is_white_and_a_turned_picture_upright(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 3
    halves = Image.new("RGB", (16, 16), "red")
    halves.paste("blue", (0, 8, 16, 16))
    files = {"clear.png": encoded(Image.new("RGBA", (8, 8))), "turned.png": encoded(halves, exif=turned)}
    write_tar(tmp_path / "a.tar", files)
    for pictures in both(tmp_path, [8]):
        assert (pictures.item(0).pixels[8] == 255).all()
        assert pictures.item(1).pixels[8][0, 0].tolist() == [0, 0, 255]
        assert pictures.item(1).pixels[8][7, 7].tolist() == [255, 0, 0]


def test_a_fourth_channel_is_coverage_and_the_others_stay_on_white(tmp_path: Path) -> None:
    half = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    half.paste((255, 0, 0, 255), (0, 0, 8, 16))
    half.putpixel((0, 0), (0, 0, 255, 51))
    write_tar(tmp_path / "a.tar", {"half.png": encoded(half), "plain.jpg": encoded(noise("RGB", (16, 16)), "JPEG")})
    plain = open_pictures(tmp_path, [16, 8])
    for cache in (True, False):
        pictures = open_pictures(tmp_path, [16, 8], channels=4, cache=cache)
        item = pictures.item(0)
        assert item.pixels[16].shape == (16, 16, 4)
        assert item.pixels[16][0, 0].tolist() == [204, 204, 255, 51]
        assert item.pixels[16][4, [4, 12]].tolist() == [[255, 0, 0, 255], [255, 255, 255, 0]]
        # A bicubic kernel gives one weight to each pixel, whatever its alpha: red on white and coverage go together.
        edge = item.pixels[8][4].astype(int)
        np.testing.assert_allclose(255 - edge[:, 1], edge[:, 3], atol=1)
        assert 0 < edge[4, 3] < 64 < 192 < edge[3, 3] < 255
        assert (pictures.item(1).pixels[8][..., 3] == 255).all()
        for index in range(2):
            for size in (16, 8):
                expected = plain.item(index).pixels[size]
                np.testing.assert_array_equal(pictures.item(index).pixels[size][..., :3], expected)
    names = sorted(path.name.rpartition("-")[0] for path in tmp_path.glob(".cache-*.npy"))
    assert names == [".cache-16", ".cache-16x4", ".cache-8", ".cache-8x4"]


def test_channels_are_three_or_four(tmp_path: Path) -> None:
    write_set(tmp_path, [1])
    with pytest.raises(InputError, match=r"channels=1 is unknown; use 3 \(RGB on white\) or 4"):
        open_pictures(tmp_path, [4], channels=1)


def test_items_are_those_of_load_shards(few: list[EmojiItem], shards: Path) -> None:
    data = load_shards(shards, 16)
    for pictures in both(shards, [32, 16]):
        for index in range(len(few)):
            item = pictures.item(index)
            assert (item.key, list(item.captions)) == (data.keys[index], data.captions[index])
            np.testing.assert_array_equal(item.pixels[16], data.images[index])


def test_the_cache_is_read_and_not_made_again(tmp_path: Path) -> None:
    write_set(tmp_path, [3])
    open_pictures(tmp_path, [8, 4])
    [path] = tmp_path.glob(".cache-4-*.npy")
    written = np.load(path, mmap_mode="r+")
    written[2] = 99
    written.flush()
    assert (open_pictures(tmp_path, [4]).item(2).pixels[4] == 99).all()
    for broken in ("", "{}", json.dumps({"captions": [], "damage": {}})):
        path.with_suffix(".json").write_text(broken)
        assert (open_pictures(tmp_path, [4]).item(2).pixels[4] == 2).all()
    pictures = open_pictures(tmp_path, [4])
    path.unlink()
    with pytest.raises(DataError, match=r"\.npy cannot be read"):
        pictures.item(0)


def test_a_read_only_folder_is_cached_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_set(tmp_path / "set", [2])
    monkeypatch.setenv("UNCLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert (open_pictures(tmp_path / "set", [4]).item(1).pixels[4] == 1).all()
    assert len(list((tmp_path / "cache").rglob(".cache-4-*.npy"))) == 1
    assert list((tmp_path / "set").glob(".cache*")) == []


@pytest.mark.parametrize("cache", [True, False])
def test_pictures_of_a_web_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: bool) -> None:
    monkeypatch.setenv("UNCLIP_CACHE", str(tmp_path / "cache"))
    keys = write_set(tmp_path / "set", [2, 1])
    with http_server(tmp_path / "set") as (address, _):
        pictures = open_pictures(address, [4], cache=cache)
        assert list(pictures.keys) == keys
        assert [int(pictures.item(index).pixels[4].mean()) for index in range(3)] == [0, 1, 2]
        assert [pictures.item(index).captions for index in range(3)] == [("grey 0",), ("grey 1",), ("grey 2",)]


def damaged_set(folder: Path) -> None:
    whole = picture(8)
    files = {f"a{index}.png": whole for index in range(6)}
    files |= {"a1.png": encoded(noise("RGB", (8, 8)))[:100], "a2.png": b"no picture", "a5.png": picture(7)}
    write_tar(folder / "a.tar", files)
    write_tar(folder / "b.tar", {"b.txt": b"no picture at all"})


def test_damage_is_told_the_same_way_by_both(tmp_path: Path) -> None:
    damaged_set(tmp_path)
    for pictures in (*both(tmp_path, [8, 4]), open_pictures(tmp_path, [8, 4])):
        reasons = []
        for index in (1, 2, 5, 6):
            with pytest.raises(DataError) as error:
                pictures.item(index)
            reasons.append(str(error.value).removeprefix(f"{tmp_path}/"))
        assert reasons == [
            "a.tar: a1 cannot be read (the picture cannot be read (image file is truncated)); "
            "write or download this shard again.",
            "a.tar: a2 cannot be read (not a picture that can be read); write or download this shard again.",
            "a.tar: a5 is 7 x 7 pixels, smaller than image_size=8; use at most 7, or write larger shards.",
            "b.tar: b cannot be read (it holds no picture (.png, .jpg, .jpeg, .webp, .gif, .bmp, .tif, .tiff, .avif)); "
            "write or download this shard again.",
        ]
    # At 4 pixels, a5 is large enough.
    for pictures in both(tmp_path, [4]):
        assert pictures.item(5).key == "a5"


def test_the_next_item_takes_the_place_of_a_damaged_one(tmp_path: Path) -> None:
    damaged_set(tmp_path)
    for pictures in both(tmp_path, [8]):
        found = [item_or_next(pictures, index) for index in range(7)]
        assert [item.key for item, _, _ in found] == ["a0", "a3", "a3", "a3", "a4", "a0", "a0"]
        assert [place for _, place, _ in found] == [0, 3, 3, 3, 4, 0, 0]
        assert [len(skipped) for _, _, skipped in found] == [0, 2, 1, 0, 0, 2, 1]
        assert [line.partition(" cannot")[0] for line in found[1][2]] == [f"{tmp_path}/a.tar: a{n}" for n in (1, 2)]


@pytest.mark.parametrize(("num_broken", "told"), [(3, 3), (120, 100)])
def test_a_set_of_damage_alone_is_given_up(tmp_path: Path, num_broken: int, told: int) -> None:
    write_tar(tmp_path / "a.tar", {f"{index}.png": b"" for index in range(num_broken)})
    for pictures in both(tmp_path, [8]):
        with pytest.raises(DataError, match=rf"^{told} samples in a row cannot be read"):
            item_or_next(pictures, 1)


def test_sets_and_items_that_are_not_there(tmp_path: Path) -> None:
    write_set(tmp_path, [2])
    for sizes in ([], [8, 0]):
        with pytest.raises(InputError, match="is not a size"):
            open_pictures(tmp_path, sizes)
    for pictures in both(tmp_path, [8]):
        for index in (-1, 2):
            with pytest.raises(InputError, match=f"no sample {index}"):
                pictures.item(index)
        np.testing.assert_array_equal(sent(pictures).item(1).pixels[8], pictures.item(1).pixels[8])


class Batches(Dataset[list[str]]):
    """What process `rank` of `world` reads, batch after batch, from `images_seen` on."""

    def __init__(
        self, pictures: PictureSet, order: Order, batch_size: int, rank: int, world: int, images_seen: int, count: int
    ) -> None:
        self.pictures, self.order, self.batch_size = pictures, order, batch_size
        self.rank, self.world, self.images_seen, self.count = rank, world, images_seen, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> list[str]:
        batch = self.order.batch(self.images_seen + number * self.batch_size, self.batch_size)
        items = [self.pictures.item(int(index)) for index in batch[self.rank :: self.world]]
        # The pixels say which sample this is.
        assert all(int(item.pixels[4].mean()) == int(item.key) for item in items)
        return [item.key for item in items]


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")  # more than there are cores
@pytest.mark.parametrize("num_workers", [1, 2, 3])
@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("cache", [True, False])
def test_loaders_hold_every_sample_once_per_epoch_also_after_a_stop(
    tmp_path: Path, num_workers: int, world: int, cache: bool
) -> None:
    keys = write_set(tmp_path, [5, 4, 4, 3])  # 16 samples, of which 2 epochs are 8 batches of 4
    pictures = open_pictures(tmp_path, [4], cache=cache)

    def read(images_seen: int, count: int) -> list[str]:
        read = []
        for rank in range(world):
            # What a process resumes from is the number of images alone.
            batches = Batches(pictures, Order(pictures.shard_sizes, 1, 2, 2), 4, rank, world, images_seen, count)
            loader = DataLoader(batches, batch_size=None, num_workers=num_workers, multiprocessing_context="fork")
            read += [key for batch in loader for key in batch]
        return read

    whole = read(0, 4)
    assert sorted(whole) == keys
    stopped, resumed = read(0, 2), read(8, 6)
    assert Counter(stopped + resumed) == dict.fromkeys(keys, 2)
