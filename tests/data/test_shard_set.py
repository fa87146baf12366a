"""Sets of shards: what a sample is, where it is read from, index files, and every kind of damage."""

import gzip
import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from webdataset.tariterators import group_by_keys, tar_file_iterator

from shard_files import picture, sent, write_set, write_tar
from unclip.data import EmojiItem, ShardSet
from unclip.errors import DataError, InputError

WHITE = picture(8)
LONG = "a-folder-of-a-long-name/" * 6 + "k" * 150


def test_the_emoji_come_back_as_they_were_written(few: list[EmojiItem], shards: Path) -> None:
    data = ShardSet.open(shards)
    assert (data.shard_names, data.shard_sizes, len(data)) == (["few-000000.tar"], [6], 6)
    with tarfile.open(shards / "few-000000.tar") as tar:
        for index, key in enumerate(data.keys):
            sample = data.sample(index)
            file = tar.extractfile(f"{key}.png")
            assert file is not None
            assert (sample.key, sample.picture) == (key, file.read())
            [item] = [item for item in few if item.key == key]
            assert (sample.captions, sample.info) == (item.captions, item.info())


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_samples_are_those_of_the_webdataset_library(tmp_path: Path, format: int) -> None:
    names = ["b.png", "b.txt", "x/c.v2.PNG", "x/c.txt", "x/c.json", "__meta__/a.txt", "README", ".hidden.png", "a.txt"]
    if format != tarfile.USTAR_FORMAT:
        names += [f"{LONG}.jpg", f"{LONG}.txt", "süß.png"]
    write_tar(tmp_path / "a.tar", {name: name.encode() if ".json" not in name else b"{}" for name in names}, format)
    with open(tmp_path / "a.tar", "rb") as tar:
        files = [{**file, "__url__": ""} for file in tar_file_iterator(tar)]
    theirs = list(group_by_keys(files))
    data = ShardSet.open(tmp_path)
    assert list(data.keys) == [sample["__key__"] for sample in theirs]
    for index, sample in enumerate(theirs):
        for suffix in ("png", "jpg"):
            if suffix in sample:
                assert data.sample(index).picture == sample[suffix]


def test_img2dataset_layout(tmp_path: Path) -> None:
    info = {"caption": "from json", "key": "000000005", "status": "success", "width": 8}
    write_tar(
        tmp_path / "00000.tar",
        {
            "000000005.jpg": WHITE, "000000005.json": json.dumps(info).encode(), "000000005.txt": b"from txt",
            "000000006.jpg": WHITE, "000000006.json": json.dumps(info).encode(),
            "000000007.jpg": WHITE, "000000007.json": b'{"caption": null}',
            "000000008.jpg": WHITE,
        },
    )  # fmt: skip
    (tmp_path / "00000_stats.json").write_text("{}")
    (tmp_path / "00000.parquet").write_bytes(b"PAR1")
    data = ShardSet.open(tmp_path)
    assert [data.sample(index).captions for index in range(4)] == [("from txt",), ("from json",), ("",), ("",)]
    assert data.sample(0).info == info


def test_shards_follow_each_other_by_name_and_a_slice_of_keys_is_a_list(tmp_path: Path) -> None:
    keys = write_set(tmp_path, [3, 0, 2, 1])
    data = ShardSet.open(str(tmp_path))
    assert data.shard_sizes == [3, 0, 2, 1]
    shards = ["00000.tar"] * 3 + ["00002.tar"] * 2 + ["00003.tar"]
    names = [f"{tmp_path}/{shard}: {key}" for shard, key in zip(shards, keys, strict=True)]
    assert [data.name(index) for index in range(6)] == names
    assert list(data.keys) == keys
    assert data.keys[1:3] == keys[1:3]
    assert data.keys[-1] == keys[-1]
    assert [data.sample(index).captions for index in range(6)] == [(f"grey {index}",) for index in range(6)]


def test_an_index_file_is_written_used_and_made_anew_for_another_tar(tmp_path: Path) -> None:
    write_set(tmp_path, [2])
    first = ShardSet.open(tmp_path)
    index = tmp_path / "00000.tar.index.json"
    # Only the index file knows this key: so it is what is read.
    index.write_text(index.read_text().replace('"00001"', '"other"'))
    assert list(ShardSet.open(tmp_path).keys) == ["00000", "other"]
    write_set(tmp_path, [3])
    again = ShardSet.open(tmp_path)
    assert list(again.keys) == ["00000", "00001", "00002"]
    assert again.content_id != first.content_id
    for broken in ("", "{}", '{"format": "another"}', index.read_text().replace('"00000",', "")):
        index.write_text(broken)
        assert list(ShardSet.open(tmp_path).keys) == list(again.keys)


def test_a_folder_that_cannot_be_written_is_read(tmp_path: Path) -> None:
    keys = write_set(tmp_path, [2])
    (tmp_path / f".00000.tar.index.json.{os.getpid()}.tmp").mkdir()  # the temporary file cannot be opened
    assert list(ShardSet.open(tmp_path).keys) == keys
    assert not (tmp_path / "00000.tar.index.json").exists()


def test_a_set_sent_to_another_process_reads_the_same(tmp_path: Path) -> None:
    write_set(tmp_path, [2, 2])
    data = ShardSet.open(tmp_path)
    copy = sent(data)
    assert [copy.sample(index) for index in range(4)] == [data.sample(index) for index in range(4)]


def test_one_shard_and_numbered_shards(tmp_path: Path) -> None:
    keys = write_set(tmp_path, [1] * 12)
    assert list(ShardSet.open(tmp_path / "00003.tar").keys) == [keys[3]]
    assert list(ShardSet.open(f"{tmp_path}/{{00008..00010}}.tar").keys) == keys[8:11]
    assert list(ShardSet.open(f"file://{tmp_path}").keys) == keys
    with pytest.raises(DataError, match=r"00012\.tar cannot be read \(No such file"):
        ShardSet.open(f"{tmp_path}/{{00011..00012}}.tar")


@pytest.mark.parametrize("blocks", [1, 2, 3, 7, 12, 20])
def test_every_cut_is_noticed(shards: Path, blocks: int) -> None:
    shard = shards / "few-000000.tar"
    for extra in (0, 100):
        shard.write_bytes(shard.read_bytes()[: blocks * 512 - extra])
        with pytest.raises(DataError, match=r"few-000000\.tar: "):
            ShardSet.open(shards)


def test_a_tar_cut_after_it_was_opened_is_noticed(tmp_path: Path) -> None:
    write_set(tmp_path, [2])
    data = ShardSet.open(tmp_path)
    (tmp_path / "00000.tar").write_bytes((tmp_path / "00000.tar").read_bytes()[:520])
    with pytest.raises(DataError, match=r"00000\.tar: 00001 cannot be read \(the archive is cut off\)"):
        data.sample(1)
    (tmp_path / "00000.tar").unlink()
    with pytest.raises(DataError, match=r"00000\.tar: 00000 cannot be read"):
        data.sample(0)


def test_damaged_header_is_noticed(shards: Path) -> None:
    shard = shards / "few-000000.tar"
    with tarfile.open(shard) as tar:
        member = tar.getmembers()[4]
    content = bytearray(shard.read_bytes())
    content[member.offset + 150] ^= 0xFF
    shard.write_bytes(content)
    with pytest.raises(DataError, match="cut off or damaged"):
        ShardSet.open(shards)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"a.txt": b"a"}, r"a cannot be read \(it holds no picture \(\.png, \.jpg, \.jpeg, \.webp, .*\.avif\)"),
        ({"a.png": WHITE, "a.json": b"{"}, "a cannot be read"),
        ({"a.png": WHITE, "a.json": b"[" * 200_000}, "a cannot be read"),
        ({"a.png": WHITE, "a.txt": b"\xff"}, "its text is not UTF-8"),
    ],
)
def test_a_bad_sample_names_itself_and_the_others_are_read(
    tmp_path: Path, files: dict[str, bytes], reason: str
) -> None:
    write_tar(tmp_path / "bad.tar", {**files, "b.png": WHITE})
    data = ShardSet.open(tmp_path)
    with pytest.raises(DataError, match=rf"bad\.tar: .*{reason}"):
        data.sample(0)
    assert data.sample(1).picture == WHITE


def test_sets_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no \.tar shard"):
        ShardSet.open(tmp_path)
    write_tar(tmp_path / "a.tar", {})
    with pytest.raises(DataError, match="no sample"):
        ShardSet.open(tmp_path)
    write_tar(tmp_path / "a.tar", {"a.png": WHITE})
    for index in (-1, 1):
        with pytest.raises(InputError, match=rf"no sample {index} in .*use 0 to 0"):
            ShardSet.open(tmp_path).sample(index)


JSON_OF_OTHERS: list[tuple[dict[str, bytes], tuple[str, ...]]] = [
    ({"json": b'{"captions": {"en": "a dog"}}', "txt": b"a cat"}, ("a cat",)),
    ({"json": b'{"captions": [{"text": "a dog"}]}', "txt": b"a cat"}, ("a cat",)),
    ({"json": b'{"captions": 7, "caption": 8}'}, ("",)),
    ({"json": b'{"captions": "a dog"}'}, ("a dog",)),
    ({"json": b'{"captions": [""], "title": "not a caption"}', "txt": b""}, ("",)),
    ({"json": b"[1, 2]", "txt": b"a cat"}, ("a cat",)),
    ({"json": b'\xef\xbb\xbf{"caption": "\xef\xbb\xbfa cat"}'}, ("a cat",)),
    ({"json": b'{"caption": null, "Prompt": " a cat ", "url": "x"}'}, ("a cat",)),
    ({"json": b'{"text": "a \\ud83d cat"}'}, ("a \ufffd cat",)),
    ({"json": b'{"caption": "a dog"}', "txt": b" \n"}, ("a dog",)),
    ({"txt": b"\xef\xbb\xbfa cat"}, ("a cat",)),
    ({"txt": "a cät".encode("utf-16")}, ("a cät",)),
    ({"caption": b"a cat"}, ("a cat",)),
    ({"cls": b"golden_retriever\n"}, ("golden retriever",)),
    ({"cls": b"207"}, ("",)),
    ({"depth.png": WHITE, "v2.txt": b"no caption"}, ("",)),
]


@pytest.mark.parametrize(("files", "captions"), JSON_OF_OTHERS)
def test_captions_as_other_programs_keep_them(
    tmp_path: Path, files: dict[str, bytes], captions: tuple[str, ...]
) -> None:
    write_tar(tmp_path / "a.tar", {"a.jpg": WHITE, **{f"a.{suffix}": content for suffix, content in files.items()}})
    data = ShardSet.open(tmp_path)
    assert data.sample(0).captions == captions
    assert data.count_uncaptioned() == (captions == ("",))


@pytest.mark.parametrize(("column", "captions"), [("blip", "a dog"), ("cls", "207"), ("caption", "")])
def test_a_field_that_is_named_is_the_caption(tmp_path: Path, column: str, captions: str) -> None:
    write_tar(tmp_path / "a.tar", {"a.jpg": WHITE, "a.json": b'{"blip": "a dog"}', "a.txt": b"a cat", "a.cls": b"207"})
    assert ShardSet.open(tmp_path, caption_column=column).sample(0).captions == (captions,)


@pytest.mark.parametrize("suffix", ["gif", "bmp", "tif", "TIFF", "avif"])
def test_pictures_of_every_suffix_that_a_folder_may_hold(tmp_path: Path, suffix: str) -> None:
    write_tar(tmp_path / "a.tar", {f"a.{suffix}": WHITE})
    assert ShardSet.open(tmp_path).sample(0).picture == WHITE


def test_files_of_a_sample_need_not_be_neighbours(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"a.png": WHITE, "b.png": picture(9), "a.txt": b"one", "b.txt": b"two"})
    data = ShardSet.open(tmp_path)
    assert [(sample.key, sample.captions) for sample in map(data.sample, range(2))] == [
        ("a", ("one",)),
        ("b", ("two",)),
    ]


def test_names_that_come_again_are_samples_of_their_own(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"a.png": picture(1), "a.PNG": picture(2), "a.txt": b"two", "b.png": picture(3)})
    write_tar(tmp_path / "b.tar", {"a.png": picture(4), "b/a.png": picture(5), "c.png": picture(6)})
    data = ShardSet.open(tmp_path)
    assert list(data.keys) == ["a", "a-2", "b", "b/a", "b/b/a", "c"]
    assert [data.sample(index).picture for index in range(6)] == [picture(size) for size in range(1, 7)]
    assert data.sample(1).captions == ("two",)


@pytest.mark.parametrize("suffix", ["tar.gz", "tgz"])
def test_packed_tars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.setenv("UNCLIP_CACHE", str(tmp_path / "cache"))
    keys = write_set(tmp_path / "set", [2, 1])
    for number in (0, 1):
        plain = tmp_path / "set" / f"0000{number}.tar"
        plain.with_suffix(f".{suffix}").write_bytes(gzip.compress(plain.read_bytes()))
    both = ShardSet.open(tmp_path / "set")
    assert (both.shard_names, list(both.keys)) == (["00000.tar", "00001.tar"], keys)
    for number in (0, 1):
        (tmp_path / "set" / f"0000{number}.tar").unlink()
    before = sorted((tmp_path / "set").iterdir())
    for place in (tmp_path / "set", tmp_path / "set" / f"00000.{suffix}"):
        data = ShardSet.open(place)
        assert [data.sample(index).captions for index in range(2)] == [("grey 0",), ("grey 1",)]
    assert sorted((tmp_path / "set").iterdir()) == before
    (tmp_path / "set" / f"00001.{suffix}").write_bytes(gzip.compress(bytes(10_000))[:-9])
    with pytest.raises(DataError, match=rf"00001\.{suffix} cannot be read"):
        ShardSet.open(tmp_path / "set")


def test_tars_in_folders_below_are_read_where_there_is_none_above(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_tar(tmp_path / "set" / name / "0.tar", {f"{name}.png": WHITE})
    write_tar(tmp_path / "set" / ".trash" / "0.tar", {"c.png": WHITE})
    (tmp_path / "set" / "b" / "again").symlink_to(tmp_path / "set", target_is_directory=True)
    data = ShardSet.open(tmp_path / "set")
    assert (data.shard_names, list(data.keys)) == (["a/0.tar", "b/0.tar"], ["a", "b"])
    assert data.sample(1).picture == WHITE
    write_tar(tmp_path / "set" / "0.tar", {"d.png": WHITE})
    assert ShardSet.open(tmp_path / "set").shard_names == ["0.tar"]


def test_names_in_latin_1_are_readable_keys(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as tar:
        member = tarfile.TarInfo("café.png")
        member.size = len(WHITE)
        tar.addfile(member, io.BytesIO(WHITE))
    assert list(ShardSet.open(tmp_path).keys) == ["café"]


def test_of_a_large_set_a_thousand_samples_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unclip.data.shard_set.MAX_COUNTED", 9)
    monkeypatch.setattr("unclip.data.shard_set.NUM_PROBED", 5)
    captioned = {f"{index}.txt": b"a cat" for index in range(0, 10, 4)}
    write_tar(tmp_path / "0.tar", {**{f"{index}.png": WHITE for index in range(10)}, **captioned})
    data = ShardSet.open(tmp_path)
    # Of 0, 2, 4, 6 and 8 two have none.
    assert (data.count_uncaptioned(), data.probe_uncaptioned()) == (None, (2, 5))
