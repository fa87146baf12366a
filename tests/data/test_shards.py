"""Writing shards: the same bytes each time, readable by webdataset, whole or not at all."""

import dataclasses
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image

from unclip.data import EmojiItem, rasterize, write_emoji_shards, write_shards
from unclip.errors import DataError, InputError


def test_same_bytes_from_one_worker_and_from_two(few: list[EmojiItem], tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    first = write_shards(tmp_path / "a", few, 32, "few", lambda done, total: calls.append((done, total)))
    second = write_shards(tmp_path / "b", few[::-1], 32, "few", num_workers=2)
    assert [path.name for path in first] == ["few-000000.tar"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert calls == [(count, len(few)) for count in range(1, len(few) + 1)]


# webdataset leaves its shard open until the collector finds it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_webdataset_reads_them(few: list[EmojiItem], shards: Path) -> None:
    reader = webdataset.WebDataset(str(shards / "few-000000.tar"), shardshuffle=False).decode("pil")
    samples = {sample["__key__"]: sample for sample in reader}
    assert samples.keys() == {item.key for item in few}
    for item in few:
        sample = samples[item.key]
        assert sample["txt"] == item.label
        assert sample["json"] == item.info()
        # Decoded by webdataset to RGB without a ground: white stands below what is clear.
        coverage = rasterize(item, 32, channels=4)[..., 3]
        assert (np.asarray(sample["png"])[coverage == 0] == 255).all()
        opaque = coverage == 255
        np.testing.assert_array_equal(np.asarray(sample["png"])[opaque], rasterize(item, 32)[opaque])


def test_members_carry_no_time_and_no_owner(shards: Path) -> None:
    with tarfile.open(shards / "few-000000.tar") as tar:
        members = tar.getmembers()
        file = tar.extractfile(members[1])
        assert file is not None
        assert Image.open(io.BytesIO(file.read())).mode == "RGBA"
    assert {(member.mtime, member.uid, member.gid, member.uname, member.mode) for member in members} == {
        (0, 0, 0, "", 0o644)
    }


def test_a_thousand_items_fill_a_shard(items: dict[str, EmojiItem], tmp_path: Path) -> None:
    chosen = [item for item in items.values() if item.design == "twemoji"][:1001]
    paths = write_shards(tmp_path / "out", chosen, 1, "tiny")
    with tarfile.open(paths[0]) as first, tarfile.open(paths[1]) as second:
        assert (len(first.getnames()), len(second.getnames())) == (3000, 3)


def test_failure_leaves_nothing(few: list[EmojiItem], tmp_path: Path) -> None:
    damaged = [*few, dataclasses.replace(few[0], key="noto/damaged", body="<path")]
    with pytest.raises(DataError, match="noto/damaged"):
        write_shards(tmp_path / "out", damaged, 16, "few")
    assert list(tmp_path.iterdir()) == []


def test_failure_in_a_worker_leaves_nothing(few: list[EmojiItem], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=few[0].key):
        write_shards(tmp_path / "out", [dataclasses.replace(few[0], body="<path")], 16, "few", num_workers=2)
    assert list(tmp_path.iterdir()) == []


def test_existing_folder_is_kept(few: list[EmojiItem], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="exists already"):
        write_emoji_shards(tmp_path, 16, "test")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_empty_folder_is_taken(few: list[EmojiItem], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write_shards(tmp_path / "out", few, 16, "few")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["few-000000.tar"]


def test_unwritable_parent_is_one_line(few: list[EmojiItem], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"^cannot write [^\n]*$"):
        write_shards(tmp_path / "file" / "out", few, 16, "few")
