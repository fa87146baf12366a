"""Atomic writes: whole or not at all, whatever the operating system answers."""

import errno
import json
import os
from pathlib import Path

import pytest

from unclip.errors import InputError
from unclip.files import atomic_path, atomic_write, atomic_writes, check_writable, claimed_paths, expand_home


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_text_and_bytes_arrive(tmp_path: Path) -> None:
    atomic_write(tmp_path / "text", "né\n")
    atomic_write(tmp_path / "bytes", b"\x00\xff")
    assert (tmp_path / "text").read_bytes() == "né\n".encode()
    assert (tmp_path / "bytes").read_bytes() == b"\x00\xff"
    assert entries(tmp_path) == ["bytes", "text"]


def test_a_file_is_replaced(tmp_path: Path) -> None:
    atomic_write(tmp_path / "file", "old and longer")
    atomic_write(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"


def test_missing_folders_are_made(tmp_path: Path) -> None:
    atomic_write(tmp_path / "a" / "b" / "file", "x")
    assert (tmp_path / "a" / "b" / "file").read_text() == "x"


def test_a_failing_body_leaves_the_old_file(tmp_path: Path) -> None:
    atomic_write(tmp_path / "file", "old")
    with pytest.raises(ZeroDivisionError), atomic_path(tmp_path / "file") as temporary:
        temporary.write_text("half")
        _ = 1 / 0
    assert (tmp_path / "file").read_text() == "old"
    assert entries(tmp_path) == ["file"]


def test_an_interrupt_leaves_the_old_file(tmp_path: Path) -> None:
    atomic_write(tmp_path / "file", "old")
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "file") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert (tmp_path / "file").read_text() == "old"
    assert entries(tmp_path) == ["file"]


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    atomic_write(tmp_path / "file", "old")
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(InputError, match=r"^cannot write .*file: No space left on device; choose .*\.$"):
        atomic_write(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "old"
    assert entries(tmp_path) == ["file"]


def test_a_full_disk_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(InputError, match="No space left"):
        atomic_write(tmp_path / "a" / "b" / "file", "new")
    assert entries(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_write_that_finds_no_room(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No space left"), atomic_path(tmp_path / "file") as temporary:
        temporary.symlink_to("/dev/full")
        temporary.write_bytes(b"x" * 100_000)
    assert entries(tmp_path) == []


def test_a_file_in_the_way_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"cannot write .*inner"):
        atomic_write(tmp_path / "file" / "inner", "y")
    assert (tmp_path / "file").read_text() == "x"


def test_a_folder_in_the_way_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=r"cannot write .*folder"):
        atomic_write(tmp_path / "folder", "y")
    assert entries(tmp_path) == ["folder"]


def test_several_files_appear_together_or_not_at_all(tmp_path: Path) -> None:
    """The third name is that of a folder: the first was replaced by then, and comes back."""
    (tmp_path / "a").write_text("old")
    (tmp_path / "c").mkdir()
    with pytest.raises(InputError, match=r"cannot write .*c: "):
        atomic_writes({tmp_path / name: b"new" for name in "abc"})
    assert (tmp_path / "a").read_text() == "old"
    assert entries(tmp_path) == ["a", "c"]
    atomic_writes({tmp_path / "new" / name: b"new" for name in "ab"} | {tmp_path / "a": b"new"})
    assert (tmp_path / "a").read_text() == "new"
    assert entries(tmp_path) == ["a", "a", "b", "c", "new"]


def test_several_files_leave_no_new_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot write"):
        atomic_writes({tmp_path / "new" / "a": b"x", tmp_path / "file" / "b": b"x"})
    assert entries(tmp_path) == ["file"]


def test_claimed_names_are_free_and_given_back(tmp_path: Path) -> None:
    names = [tmp_path / "new" / name for name in "abc"]
    with claimed_paths([names, names]) as paths:
        assert paths == names[:2]
        assert entries(tmp_path) == ["a", "b", "new"]
        atomic_writes({paths[0]: b"kept", paths[1]: b"kept"})
    with pytest.raises(ZeroDivisionError), claimed_paths([names]) as paths:
        assert paths == names[2:]
        _ = 1 / 0
    assert entries(tmp_path) == ["a", "b", "new"]


@pytest.mark.parametrize("name", ["new/file", "there", "n" * 250])
def test_a_place_is_tried_and_left_as_it_was(tmp_path: Path, name: str) -> None:
    (tmp_path / "there").write_text("old")
    check_writable([tmp_path / name])
    assert entries(tmp_path) == ["there"]
    assert (tmp_path / "there").read_text() == "old"
    atomic_write(tmp_path / name, "new")
    assert (tmp_path / name).read_text() == "new"


@pytest.mark.parametrize("name", ["there/x", "folder", "n" * 256, "new/" + "n" * 256, "loop/x", "~nosuchuser/x"])
def test_a_place_that_takes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").write_text("old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InputError, match=r"^cannot write .*\.$"):
        check_writable([Path(name)])
    assert entries(tmp_path) == ["folder", "loop", "there"]


def test_half_a_surrogate_is_written_as_json_spells_it(tmp_path: Path) -> None:
    atomic_write(tmp_path / "x.json", json.dumps("half \ud83d", ensure_ascii=False))
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == "half \ud83d"


def test_home_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand_home("~/x") == tmp_path / "x"
    assert expand_home("x/~") == Path("x/~")
    with pytest.raises(InputError, match=r"there is no home folder ~nosuchuser"):
        expand_home("~nosuchuser/x")
