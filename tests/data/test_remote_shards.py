"""Sets of shards on file systems of others and on web servers: what is fetched, when, and what is kept."""

import json
import os
import threading
import time
from pathlib import Path

import pytest

from shard_files import http_server, picture, sent, write_set, write_tar
from unclip.data import ShardSet, open_pictures, open_source, probe_uncaptioned
from unclip.errors import DataError, DependencyError, InputError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNCLIP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_shards_of_an_fsspec_file_system(tmp_path: Path, cache: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    keys = write_set(tmp_path / "set", [2, 2])
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "set"), "/bucket/set", recursive=True)
    data = ShardSet.open("memory://bucket/set")
    assert list(data.keys) == keys
    assert [data.sample(index) for index in range(4)] == [
        ShardSet.open(tmp_path / "set").sample(index) for index in range(4)
    ]
    memory.rm("/bucket", recursive=True)
    assert data.sample(3).captions == ("grey 3",)
    with pytest.raises(DataError, match="cannot list memory://bucket/set"):
        ShardSet.open("memory://bucket/set")
    with pytest.raises(DataError, match="cannot list nothing://bucket"):
        ShardSet.open("nothing://bucket")
    with pytest.raises(DependencyError, match=r"reading oss:// needs another package \(Install ossfs"):
        ShardSet.open("oss://bucket/set")


def test_a_web_server_is_asked_for_each_shard_once_and_only_when_it_is_read(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = write_set(tmp_path / "my set", [2, 2])
    ShardSet.open(tmp_path / "my set")  # writes the index files
    with http_server(tmp_path, failing=("/my%20set/00001.tar",)) as (address, requests):
        data = ShardSet.open(f"{address}/my set")
        assert list(data.keys) == keys
        assert not any(path.endswith(".tar") for path in requests)
        copies = [sent(data) for _ in range(4)]
        readers = [threading.Thread(target=copy.sample, args=(2,)) for copy in copies]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        # The server failed at first.
        asked = [path for path in requests if path.endswith(".tar")]
        assert asked == ["503 /my%20set/00001.tar", "/my%20set/00001.tar"]
        before = len(requests)
        assert data.sample(3).captions == ("grey 3",)
        assert list(ShardSet.open(f"{address}/my set/{{00000..00001}}.tar").keys) == keys
        assert requests[before:] == []
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    with pytest.raises(DataError, match=r"cannot fetch http://127\.0\.0\.1:\d+/my set/00000\.tar"):
        data.sample(0)
    assert pauses == [0.5, 4.0]


def test_captions_are_looked_for_in_the_first_shard_alone(tmp_path: Path, cache: Path) -> None:
    for number, suffix in enumerate(("cls", "txt")):
        write_tar(tmp_path / "set" / f"{number}.tar", {f"{number}.png": picture(8), f"{number}.{suffix}": b"7"})
    ShardSet.open(tmp_path / "set")
    with http_server(tmp_path / "set") as (address, requests):
        pictures = open_pictures(address, [8], cache=False)
        assert probe_uncaptioned(pictures) == (1, 1)
        assert [request for request in requests if request.endswith(".tar")] == ["/0.tar"]
        assert open_source(address).num_uncaptioned is None


def test_index_files_of_the_first_version_save_the_download(tmp_path: Path, cache: Path) -> None:
    write_set(tmp_path / "set", [2])
    ShardSet.open(tmp_path / "set")
    path = tmp_path / "set" / "00000.tar.index.json"
    values = json.loads(path.read_text())
    old = {"format": "unclip shard index 1", "members": [row[:6] for row in values["members"]]}
    path.write_text(json.dumps(values | old))
    with http_server(tmp_path / "set") as (address, requests):
        data = ShardSet.open(address)
        assert not any(request.endswith("00000.tar") for request in requests)
        assert [data.sample(index).captions for index in range(2)] == [("grey 0",), ("grey 1",)]
    assert list(ShardSet.open(tmp_path / "set").keys) == ["00000", "00001"]
    assert json.loads(path.read_text()) == values


def test_a_web_server_without_index_files_or_pages(tmp_path: Path, cache: Path) -> None:
    keys = write_set(tmp_path / "set", [1, 1])
    (tmp_path / "set" / "index.html").write_text("")
    with http_server(tmp_path / "set") as (address, _):
        with pytest.raises(DataError, match=r"no \.tar shard"):
            ShardSet.open(address)
        assert list(ShardSet.open(f"{address}/{{00000..00001}}.tar").keys) == keys
        with pytest.raises(DataError, match=r"00002\.tar cannot be read \(there is no such file\)"):
            ShardSet.open(f"{address}/{{00000..00002}}.tar")


def test_a_remote_shard_of_other_length_than_its_index_is_refused(tmp_path: Path, cache: Path) -> None:
    write_set(tmp_path / "set", [1])
    ShardSet.open(tmp_path / "set")
    write_set(tmp_path / "set", [9])
    with http_server(tmp_path / "set") as (address, _):
        data = ShardSet.open(address)
        with pytest.raises(DataError, match=r"\(\d+ bytes, and \d+ in its index\)"):
            data.sample(0)
    assert list(cache.rglob("*.tar")) == []


def test_the_cache_stays_under_its_limit(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        write_set(tmp_path / name, [1] * 3)
        ShardSet.open(tmp_path / name)
    size = (tmp_path / "one" / "00000.tar").stat().st_size
    monkeypatch.setenv("UNCLIP_CACHE_GB", str(2.5 * size / 1e9))

    def kept() -> list[str]:
        return sorted(path.name for path in cache.rglob("*.tar"))

    with http_server(tmp_path) as (address, requests):
        one, two = ShardSet.open(f"{address}/one"), ShardSet.open(f"{address}/two")
        for index in range(3):
            one.sample(index)
        assert kept() == ["00000.tar", "00001.tar", "00002.tar"]  # all were read a moment ago
        for path in cache.rglob("*.tar"):
            age = 1000 * int(path.name[:5]) + 100
            os.utime(path, (time.time() - age, time.time() - age))
        one.sample(1)  # read last now
        before = len(requests)
        assert two.sample(0).captions == ("grey 0",)  # of another set, but the limit is that of the cache
        assert kept() == ["00000.tar", "00001.tar"]
        assert one.sample(1).captions == ("grey 1",)
        assert requests[before:] == ["/two/00000.tar"]
        monkeypatch.setenv("UNCLIP_CACHE_GB", "much")
        with pytest.raises(InputError, match="UNCLIP_CACHE_GB='much' is no number"):
            one.sample(0)


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_set(tmp_path / "set", [1])
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("UNCLIP_CACHE", str(tmp_path / "file"))
    with http_server(tmp_path / "set") as (address, _), pytest.raises(InputError, match=r"cannot write .*writable"):
        ShardSet.open(address)
