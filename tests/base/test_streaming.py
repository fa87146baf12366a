"""Reading and writing one tensor at a time: what `safetensors` writes is read, what is written it reads."""

import weakref
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from unclip.checkpoint import LazyTensor, open_tensors, write_tensors
from unclip.errors import CheckpointError

TENSORS = {
    "half": torch.randn(3, 5).half(),
    "brain": torch.randn(2, 3).bfloat16(),
    "single": torch.randn(4),
    "double": torch.randn(2, 2).double(),
    "integer": torch.tensor([[1, -2]]),
    "flags": torch.tensor([True, False, True]),
    "scalar": torch.tensor(2.5),
    "empty": torch.empty(0, 3),
    "float8": torch.randn(7).to(torch.float8_e4m3fn),
}


def equal(first: Tensor, second: Tensor) -> bool:
    """Bit for bit, type and shape included."""
    same = first.dtype == second.dtype and first.shape == second.shape
    return same and torch.equal(first.reshape(-1).view(torch.uint8), second.reshape(-1).view(torch.uint8))


def test_files_of_the_library_are_read_bit_for_bit(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "x", metadata={"format": "pt"})
    tensors, metadata = open_tensors(tmp_path / "x")
    assert metadata == {"format": "pt"}
    assert tensors.keys() == TENSORS.keys()
    assert all(equal(tensors[name].read(), tensor) for name, tensor in TENSORS.items())
    assert all(tensors[name].num_bytes == tensor.nbytes for name, tensor in TENSORS.items())


def test_the_library_reads_what_is_written(tmp_path: Path) -> None:
    write_tensors(
        tmp_path / "x", {name: LazyTensor.of(tensor) for name, tensor in TENSORS.items()}, {"b": "2", "a": "1"}
    )
    loaded = load_file(tmp_path / "x")
    assert loaded.keys() == TENSORS.keys()
    assert all(equal(loaded[name], tensor) for name, tensor in TENSORS.items())


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    lazy = {name: LazyTensor.of(tensor) for name, tensor in TENSORS.items()}
    write_tensors(tmp_path / "a", lazy, {"b": "2", "a": "1"})
    write_tensors(tmp_path / "b", dict(reversed(lazy.items())), {"a": "1", "b": "2"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_one_tensor_is_held_at_a_time(tmp_path: Path) -> None:
    made: list[weakref.ref[Tensor]] = []
    alive: list[int] = []

    def read() -> Tensor:
        alive.append(sum(reference() is not None for reference in made))
        tensor = torch.full((1000,), float(len(made)))
        made.append(weakref.ref(tensor))
        return tensor

    write_tensors(tmp_path / "x", {f"{i}": LazyTensor((1000,), torch.float32, read) for i in range(5)}, {})
    assert len(alive) == 5
    assert max(alive) <= 1
    assert [load_file(tmp_path / "x")[f"{i}"][0].item() for i in range(5)] == [0, 1, 2, 3, 4]


def test_a_type_that_torch_lacks_is_named(tmp_path: Path) -> None:
    save_file({"w": torch.zeros(2)}, tmp_path / "x")
    content = (tmp_path / "x").read_bytes()
    (tmp_path / "x").write_bytes(content.replace(b'"F32"', b'"U32"'))
    with pytest.raises(CheckpointError, match="w is of type U32, which is not read; allowed: BOOL"):
        open_tensors(tmp_path / "x")


def test_a_flipped_bit_in_the_header_is_one_line(tmp_path: Path) -> None:
    save_file({"w": torch.zeros(2)}, tmp_path / "x")
    content = bytearray((tmp_path / "x").read_bytes())
    refused = 0
    for position in range(8, 8 + int.from_bytes(content[:8], "little")):
        flipped = bytearray(content)
        flipped[position] ^= 1
        (tmp_path / "x").write_bytes(bytes(flipped))
        try:
            tensors = open_tensors(tmp_path / "x").tensors
        except CheckpointError:  # any other exception fails the test
            refused += 1
        else:
            assert all(tensor.num_bytes == 8 for tensor in tensors.values())
    assert refused > 20


def test_a_file_cut_while_it_is_read_is_named(tmp_path: Path) -> None:
    save_file({"w": torch.zeros(200)}, tmp_path / "x")
    lazy = open_tensors(tmp_path / "x").tensors["w"]
    (tmp_path / "x").write_bytes((tmp_path / "x").read_bytes()[:-4])
    with pytest.raises(CheckpointError, match="cut short"):
        lazy.read()
