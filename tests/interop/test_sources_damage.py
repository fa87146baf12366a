"""Damaged, foreign and hostile weights files are refused in one line, and nothing in them runs."""

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from unclip.errors import CheckpointError
from unclip.interop.sources import open_weights
from weights_files import Hostile, State, every_format, refusal, save_legacy, state


def save_hostile_script(content: object, path: Path) -> None:
    torch.save(content, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"{path.stem}/constants.pkl", b"\x80\x02).")


@pytest.mark.parametrize("save", [torch.save, save_legacy, save_hostile_script])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(
    save: Callable[[object, Path], None], tmp_path: Path
) -> None:
    save({"state_dict": state(), "more": Hostile(tmp_path / "harm")}, tmp_path / "hostile.pt")
    message = refusal(open_weights, tmp_path / "hostile.pt")
    assert "hostile.pt asks for posix.mkdir: a pickle that can run code is not read" in message
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(("protocol", "told"), [(2, "asks for posix.mkdir"), (4, "is not a whole file of torch.save")])
def test_a_pickle_by_itself_is_refused_and_does_not_run(protocol: int, told: str, tmp_path: Path) -> None:
    torch.save(Hostile(tmp_path / "harm"), tmp_path / "archive.pt", pickle_protocol=protocol)
    path = tmp_path / "bare.pkl"
    path.write_bytes(zipfile.ZipFile(tmp_path / "archive.pt").read("archive/data.pkl"))
    assert told in refusal(open_weights, path)
    assert not (tmp_path / "harm").exists()
    subprocess.run([sys.executable, "-m", "pickle", path], check=True, capture_output=True)
    assert (tmp_path / "harm").exists()  # it was able to


def test_objects_are_refused_by_name(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    assert "asks for torch.nn.modules.linear.Linear" in refusal(open_weights, tmp_path / "module.pt")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "is a Git LFS pointer"),
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "is a web page"),
        (b"<HTML>404</HTML>", "is a web page"),
        (b"\x89PNG\r\n\x1a\n....", "is no weights file"),
        (b"short", "is no weights file"),
    ],
)
def test_what_is_no_weights_file(content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "weights.ckpt").write_bytes(content)
    assert f"weights.ckpt {told}" in refusal(open_weights, tmp_path / "weights.ckpt")


def test_folders_and_absent_files_and_other_archives(tmp_path: Path) -> None:
    assert "Is a directory" in refusal(open_weights, tmp_path)
    assert "No such file" in refusal(open_weights, tmp_path / "absent.pt")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("folder/readme.txt", "text")
    assert "torch did not write" in refusal(open_weights, tmp_path / "other.zip")
    torch.save({"epoch": 3}, tmp_path / "values.pt")
    assert "holds no tensors" in refusal(open_weights, tmp_path / "values.pt")
    endless: list[object] = []
    endless.append(endless)
    torch.save(endless, tmp_path / "endless.pt")
    assert "recursion" in refusal(open_weights, tmp_path / "endless.pt")


@every_format
def test_a_file_cut_short_is_refused(save: Callable[[State, Path], None], tmp_path: Path) -> None:
    save(state(), tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    for number, size in enumerate([9, 40, len(whole) // 2, len(whole) - 20, len(whole) - 1]):
        path = tmp_path / f"{number}.pt"
        path.write_bytes(whole[:size])
        assert str(path) in refusal(open_weights, path)


@every_format
def test_a_flipped_bit_is_found_where_the_format_can_tell(save: Callable[[State, Path], None], tmp_path: Path) -> None:
    """Any damage is either refused in one line or harmless; zip archives tell all of it, by their checksums."""
    save({"weight": torch.randn(6), "f16": torch.randn(2).half()}, tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    expected = {name: value.read() for name, value in open_weights(tmp_path / "whole.pt").tensors.items()}
    is_zip, refusals = whole.startswith(b"PK"), []
    for place in range(0, len(whole), 5 if is_zip else 1):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path = tmp_path / f"{place}.pt"
        path.write_bytes(damaged)
        try:
            found = {name: value.read() for name, value in open_weights(path).tensors.items()}
        except CheckpointError as error:
            refusals.append(str(error))
        else:
            assert not is_zip or all(torch.equal(found[name], value) for name, value in expected.items())
        path.unlink()
    assert len(refusals) > 50
    assert {len(message.splitlines()) for message in refusals} == {1}


def test_damaged_data_of_an_archive_is_named(tmp_path: Path) -> None:
    torch.save({"weight": torch.full((100,), 3.0)}, tmp_path / "a.pt")
    content = bytearray((tmp_path / "a.pt").read_bytes())
    content[content.index(b"\0\0\x40\x40" * 100) + 17] ^= 4
    (tmp_path / "a.pt").write_bytes(content)
    assert "a/data/0 does not match its CRC-32" in refusal(open_weights, tmp_path / "a.pt")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e5m2])
def test_nan_and_infinity_are_found_when_they_are_read(number: float, dtype: torch.dtype, tmp_path: Path) -> None:
    weights = {"good": torch.ones(9).to(dtype), "bad": torch.tensor([1.0, number, 2.0]).to(dtype)}
    save_file(weights, tmp_path / "a.safetensors")
    torch.save(weights, tmp_path / "a.pt")
    for name in ("a.safetensors", "a.pt"):
        tensors = open_weights(tmp_path / name).tensors
        assert torch.equal(tensors["good"].read().float(), torch.ones(9))
        assert f"{name}: tensor 'bad' holds NaN or infinity" in refusal(tensors["bad"].read)
