"""From any source to shards: what a trainer reads from them, what is left out, and the same bytes each time."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image

from pictures import encoded, picture
from unclip.data import (
    PictureFormat,
    PrepareConfig,
    ShardSet,
    fit_picture,
    load_shards,
    open_pictures,
    open_source,
    prepare,
)
from unclip.data.tars import hash_order
from unclip.errors import DataError, InputError


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith(".index.json")}


def skipped(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "skipped.jsonl").read_text().splitlines()]


def test_a_trainer_reads_the_pictures_and_all_captions(album: Path, tmp_path: Path) -> None:
    (album / "b.txt").write_text("the letter b\nsecond of all")
    calls: list[tuple[int, int]] = []
    source = open_source(album)
    done = prepare(source, tmp_path / "out", PrepareConfig(image_size=32), lambda *call: calls.append(call))
    assert (done.num_written, done.num_uncaptioned, done.num_skipped) == (6, 5, 0)
    assert done.shards == (tmp_path / "out" / "data-000000.tar",)
    assert calls == [(count, 6) for count in range(1, 7)]
    read = load_shards(tmp_path / "out", 32)
    assert read.keys == [source.keys[index] for index in hash_order(source.keys)]
    place = read.keys.index("b")
    assert read.captions[place] == ["the letter b", "second of all"]
    with Image.open(album / "b.png") as original:
        np.testing.assert_array_equal(read.images[place], np.asarray(fit_picture(original, 32, "center")))
        sizes = {"width": 32, "height": 32, "original_width": original.width, "original_height": original.height}
    assert read.info[place] == {"key": "b", "captions": ["the letter b", "second of all"], **sizes}


def test_the_same_bytes_from_one_process_and_from_two(album: Path, tmp_path: Path) -> None:
    (album / "cut.png").write_bytes((album / "b.png").read_bytes()[:200])
    for name, workers in (("one", 1), ("two", 2)):
        prepare(open_source(album, "none"), tmp_path / name, PrepareConfig(image_size=16), num_workers=workers)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_samples_fill_shards_mixed_or_in_order(album: Path, tmp_path: Path) -> None:
    source = open_source(album, "none")
    for shuffle in (True, False):
        config = PrepareConfig(image_size=16, samples_per_shard=4, shuffle=shuffle, prefix="x")
        prepare(source, tmp_path / str(shuffle), config)
    mixed, ordered = ShardSet.open(tmp_path / "True"), ShardSet.open(tmp_path / "False")
    assert mixed.shard_names == ordered.shard_names == ["x-000000.tar", "x-000001.tar"]
    assert mixed.shard_sizes == ordered.shard_sizes == [4, 2]
    assert list(ordered.keys) == list(source.keys) != list(mixed.keys)
    assert sorted(mixed.keys) == sorted(source.keys)


def test_what_cannot_be_used_is_named_and_left_out(album: Path, tmp_path: Path) -> None:
    (album / "cut.png").write_bytes((album / "b.png").read_bytes()[:200])
    (album / "text.jpg").write_text("no picture")
    (album / "empty.gif").write_bytes(b"")
    picture(0, 15, 40).save(album / "small.png")
    done = prepare(open_source(album, "none"), tmp_path / "out", PrepareConfig(image_size=16, shuffle=False))
    assert (done.num_written, done.num_skipped) == (6, 4)
    assert {line["name"]: line["reason"] for line in skipped(tmp_path / "out")} == {
        "cut.png": "the picture cannot be read (image file is truncated)",
        "empty.gif": "not a picture that can be read",
        "small.png": "it is 15 x 40 pixels, smaller than 16",
        "text.jpg": "not a picture that can be read",
    }


def uniform(colour: str, mode: str) -> Image.Image:
    return Image.new("RGB", (40, 40), colour).convert(mode)


def test_unusual_pictures_become_rgb_or_keep_their_alpha(tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    uniform("red", "CMYK").save(folder / "cmyk.jpg", quality=100)
    uniform("red", "P").save(folder / "palette.png")
    Image.fromarray(np.full((40, 40), 65535, np.uint16)).save(folder / "deep.png")
    Image.new("RGBA", (40, 40), (255, 0, 0, 0)).save(folder / "clear.png")
    turned = Image.new("RGB", (40, 80), "blue")
    turned.paste("red", (0, 0, 40, 40))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    turned.save(folder / "turned.png", exif=exif)
    prepare(open_source(folder, "none"), tmp_path / "out", PrepareConfig(image_size=20, crop="shortest"))
    shards = ShardSet.open(tmp_path / "out")
    found = {}
    for index, key in enumerate(shards.keys):
        (tmp_path / "x.png").write_bytes(shards.sample(index).picture)
        with Image.open(tmp_path / "x.png") as image:
            found[key] = (image.mode, image.size, image.getpixel((0, 10)))
    mode, size, colour = found.pop("cmyk")
    assert (mode, size) == ("RGB", (20, 20))
    np.testing.assert_allclose(colour, (255, 0, 0), atol=4)
    assert found == {
        "palette": ("RGB", (20, 20), (255, 0, 0)),
        "deep": ("RGB", (20, 20), (255, 255, 255)),
        "clear": ("RGBA", (20, 20), (255, 255, 255, 0)),
        "turned": ("RGB", (40, 20), (0, 0, 255)),
    }


@pytest.mark.parametrize(
    ("suffix", "mode", "margin", "clear"),
    [("png", "RGBA", 0, 0), ("webp", "RGBA", 0, 0), ("jpg", "RGB", 255, 255)],
)
def test_alpha_is_kept_where_the_format_has_it(
    tmp_path: Path, suffix: Literal["png", "webp", "jpg"], mode: str, margin: int, clear: int
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, alpha in (("icon", 0), ("opaque", 255)):
        picture = Image.new("RGBA", (40, 20), (0, 0, 255, 255))
        picture.paste((0, 0, 0, alpha), (0, 0, 20, 20))
        picture.save(folder / f"{name}.png")
    form = PictureFormat(suffix=suffix, quality=100)
    prepare(open_source(folder, "none"), tmp_path / "out", PrepareConfig(image_size=40, crop="pad", form=form))
    shards = ShardSet.open(tmp_path / "out")
    pictures = {key: Image.open(BytesIO(shards.sample(index).picture)) for index, key in enumerate(shards.keys)}
    assert (pictures["icon"].mode, pictures["opaque"].mode) == (mode, "RGB")
    channels = 4 if mode == "RGBA" else 3
    for place, colour in {(20, 2): (255, 255, 255), (10, 20): (255, 255, 255), (30, 20): (0, 0, 255)}.items():
        expected = (*colour, 255 if place == (30, 20) else 0)[:channels]
        np.testing.assert_allclose(pictures["icon"].getpixel(place), expected, atol=4)
    np.testing.assert_allclose(pictures["opaque"].getpixel((20, 2)), (255, 255, 255), atol=4)
    np.testing.assert_allclose(pictures["opaque"].getpixel((10, 20)), (0, 0, 0), atol=4)
    read = open_pictures(tmp_path / "out", [40], channels=4)
    coverage = read.item(list(read.keys).index("icon")).pixels[40][..., 3]
    np.testing.assert_array_equal(coverage[[2, 20, 20], [20, 10, 30]], (margin, clear, 255))


def test_long_names_in_other_scripts_keep_their_keys(tmp_path: Path) -> None:
    name = "folder.v1/" + "über-" * 40 + "斑马.x"
    (tmp_path / "album" / "folder.v1").mkdir(parents=True)
    (tmp_path / "album" / f"{name}.png").write_bytes(encoded(picture(0)))
    prepare(open_source(tmp_path / "album", "folders"), tmp_path / "out", PrepareConfig(image_size=16))
    shards = ShardSet.open(tmp_path / "out")
    assert list(shards.keys) == [name.replace("斑马.x", "斑马_x")]
    assert shards.sample(0).captions == ("folder.v1",)


@pytest.mark.parametrize(
    "changes", [{"image_size": 0}, {"samples_per_shard": 0}, {"form": {"quality": 0}}, {"form": {"quality": 101}}]
)
def test_settings_out_of_range_are_refused(album: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="use sizes of at least 1 and a quality of 1 to 100"):
        prepare(open_source(album, "none"), tmp_path / "out", PrepareConfig(image_size=16).replace(**changes))


def test_a_set_without_a_usable_picture_leaves_nothing(album: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"all 6 samples were skipped, the first \(.*smaller than 500\)"):
        prepare(open_source(album, "none"), tmp_path / "out", PrepareConfig(image_size=500))
    assert [path.name for path in tmp_path.iterdir()] == ["album"]


def test_a_folder_with_files_is_kept(album: Path) -> None:
    with pytest.raises(InputError, match="exists already"):
        prepare(open_source(album, "none"), album, PrepareConfig(image_size=16))


def test_prepared_shards_can_be_prepared_again(album: Path, tmp_path: Path) -> None:
    prepare(open_source(album, "folders"), tmp_path / "a", PrepareConfig(image_size=32))
    prepare(open_source(tmp_path / "a"), tmp_path / "b", PrepareConfig(image_size=32))
    first, second = load_shards(tmp_path / "a", 32), load_shards(tmp_path / "b", 32)
    assert (first.keys, first.captions) == (second.keys, second.captions)
    np.testing.assert_array_equal(first.images, second.images)
