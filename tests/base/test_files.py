"""Atomic writes: whole or not at all, whatever the operating system answers."""

import errno
import os
from pathlib import Path

import pytest

from unclip.errors import InputError
from unclip.files import atomic_path, atomic_write


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
