"""Weights on disk: what is read is what was written, within the storage's bound; anything else is one clear line."""

import errno
import json
import os
import resource
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from unclip.checkpoint import (
    file_hash,
    fill,
    load_tensors,
    load_weights,
    open_weights,
    read_metadata,
    save_module,
    save_tensors,
)
from unclip.checkpoint.weights import dequantize, quantize
from unclip.config import Config, load_config
from unclip.errors import CheckpointError, InputError


class NetConfig(Config):
    """A tiny network."""

    width: int = 3


def network(width: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.Linear(width, 2, bias=False))


def test_float32_is_exact(tmp_path: Path) -> None:
    tensors = {
        "w": torch.randn(3, 4),
        "steps": torch.tensor([1, 2]),
        "flag": torch.tensor([True]),
        "s": torch.tensor(2.0),
    }
    save_tensors(tmp_path / "x.safetensors", tensors, {"kind": "test"})
    loaded = load_tensors(tmp_path / "x.safetensors")
    assert loaded.tensors.keys() == tensors.keys()
    assert all(torch.equal(loaded.tensors[name], tensor) for name, tensor in tensors.items())
    assert all(loaded.tensors[name].dtype == tensor.dtype for name, tensor in tensors.items())
    assert loaded.metadata == {"kind": "test", "storage": "float32"}


def test_a_transposed_view_is_stored(tmp_path: Path) -> None:
    view = torch.randn(3, 4).T
    save_tensors(tmp_path / "x.safetensors", {"w": view}, {})
    assert torch.equal(load_tensors(tmp_path / "x.safetensors").tensors["w"], view)


def test_bfloat16_rounds_once(tmp_path: Path) -> None:
    tensor = torch.randn(16, 16)
    save_tensors(tmp_path / "x.safetensors", {"w": tensor}, {}, "bfloat16")
    loaded = load_tensors(tmp_path / "x.safetensors").tensors["w"]
    assert loaded.dtype == torch.float32
    assert torch.equal(loaded, tensor.bfloat16().float())


@given(st.integers(0, 10_000), st.sampled_from([(4, 9), (3, 2, 3, 3), (1, 1)]), st.floats(1e-20, 1e20))
def test_int8_error_is_at_most_half_a_step(seed: int, shape: tuple[int, ...], size: float) -> None:
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * size
    values, scale = quantize(tensor)
    assert values.dtype == torch.int8
    assert scale.shape == shape[:1]
    torch.testing.assert_close(scale, tensor.flatten(1).abs().amax(1) / 127)
    error = (dequantize(values, scale) - tensor).flatten(1).abs()
    # Half a step, and room for the rounding of float32 itself.
    assert bool((error <= scale[:, None] * (0.5 + 1e-4)).all())


def test_int8_keeps_zeros_and_extremes() -> None:
    tensor = torch.tensor([[0.0, 0.0], [-2.54, 1.27], [0.0, 5.0]])
    values, scale = quantize(tensor)
    assert values.tolist() == [[0, 0], [-127, 64], [0, 127]]
    assert torch.equal(dequantize(values, scale)[0], torch.zeros(2))
    torch.testing.assert_close(dequantize(values, scale)[:, 1], torch.tensor([0.0, 1.28, 5.0]))


def test_int8_storage_keeps_vectors_whole_and_shrinks_the_file(tmp_path: Path) -> None:
    tensors = {"w": torch.randn(64, 256), "bias": torch.randn(64), "steps": torch.tensor([[1, 2]])}
    for storage in ("float32", "int8"):
        save_tensors(tmp_path / storage, tensors, {}, storage)
    loaded = load_tensors(tmp_path / "int8")
    assert loaded.tensors.keys() == tensors.keys()
    assert torch.equal(loaded.tensors["bias"], tensors["bias"])
    assert torch.equal(loaded.tensors["steps"], tensors["steps"])
    assert torch.equal(loaded.tensors["w"], dequantize(*quantize(tensors["w"])))
    assert (tmp_path / "int8").stat().st_size < 0.3 * (tmp_path / "float32").stat().st_size


def test_saving_int8_twice_changes_nothing(tmp_path: Path) -> None:
    save_tensors(tmp_path / "a", {"w": torch.randn(8, 8)}, {}, "int8")
    once = load_tensors(tmp_path / "a").tensors
    save_tensors(tmp_path / "b", once, {}, "int8")
    torch.testing.assert_close(load_tensors(tmp_path / "b").tensors, once, rtol=1e-6, atol=0)


def test_a_module_carries_its_config(tmp_path: Path) -> None:
    config, module = NetConfig(width=5), network(5)
    save_module(tmp_path / "net.safetensors", module, config, "net")
    metadata = read_metadata(tmp_path / "net.safetensors")
    assert (metadata["format"], metadata["kind"]) == ("unclip", "net")
    assert load_config(NetConfig, json.loads(metadata["config"])) == config
    other = network(5)
    load_weights(other, load_tensors(tmp_path / "net.safetensors").tensors, "net.safetensors")
    torch.testing.assert_close(other.state_dict(), module.state_dict(), rtol=0, atol=0)


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    module = network()
    for name in ("a", "b"):
        save_module(tmp_path / name, module, NetConfig(), "net", "int8")
    assert file_hash(tmp_path / "a") == file_hash(tmp_path / "b")


@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_one_line(tmp_path: Path, fraction: float) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"w": torch.randn(32, 32)}, {})
    content = path.read_bytes()
    path.write_bytes(content[: int(fraction * len(content))])
    for read in (load_tensors, read_metadata):
        with pytest.raises(CheckpointError, match=r"x\.safetensors is not a whole safetensors file.*bytes") as caught:
            read(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"PK\x03\x04" + b"\0" * 500, b"\x89PNG\r\n\x1a\n" * 20, b"{}", b"\xff" * 64])
def test_a_foreign_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(CheckpointError, match="is not a whole safetensors file"):
        load_tensors(tmp_path / "x")


def test_a_missing_file_and_a_folder_are_explained(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist; give a weights file"):
        load_tensors(tmp_path / "none")
    with pytest.raises(CheckpointError, match="is not a whole safetensors file"):
        load_tensors(tmp_path)


def test_a_full_disk_leaves_the_old_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"w": torch.ones(2)}, {})

    def no_space(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        with pytest.raises(InputError, match="No space left on device"):
            save_tensors(path, {"w": torch.zeros(2)}, {})
    assert torch.equal(load_tensors(path).tensors["w"], torch.ones(2))
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.safetensors"]


def test_a_write_cut_short_by_the_system_leaves_the_old_weights(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"w": torch.ones(2)}, {})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(InputError, match=r"^cannot write .*x\.safetensors: .*; choose a writable path"):
            save_tensors(path, {"w": torch.zeros(100, 100)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert torch.equal(load_tensors(path).tensors["w"], torch.ones(2))
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.safetensors"]


def test_metadata_is_any_text(tmp_path: Path) -> None:
    metadata = {"z": "猫 “q” \\ / \n\t\x08\x7f\x1f", "ü": "", "a": '{"b": 1}', "storage": "float32"}
    save_tensors(tmp_path / "x", {"w": torch.ones(3)}, metadata)
    assert read_metadata(tmp_path / "x") == metadata
    assert torch.equal(load_tensors(tmp_path / "x").tensors["w"], torch.ones(3))


def test_what_does_not_fit_is_named() -> None:
    tensors = network(5).state_dict() | {"extra": torch.zeros(1)}
    del tensors["1.bias"]
    with pytest.raises(CheckpointError) as caught:
        load_weights(network(3), tensors, "net.safetensors")
    message = str(caught.value)
    assert message.startswith("net.safetensors does not fit Sequential: ")
    assert "0.weight is (5, 3, 3, 3), the network wants (3, 3, 3, 3)" in message
    assert message.endswith(" and 4 more.")
    assert "\n" not in message


def test_a_failed_load_changes_nothing() -> None:
    module = network()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"missing 1\.bias"):
        load_weights(module, {name: tensor + 1 for name, tensor in before.items() if name != "1.bias"}, "x")
    torch.testing.assert_close(module.state_dict(), before, rtol=0, atol=0)


def test_the_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert file_hash(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_network_without_memory_is_filled_strictly_and_in_place(tmp_path: Path) -> None:
    whole = network(16)
    save_module(tmp_path / "x.safetensors", whole, NetConfig(width=16), "test")
    with torch.device("meta"):
        empty = network(16)
    tensors = open_weights(tmp_path / "x.safetensors").tensors
    fill(empty, tensors, "x")
    for name, value in whole.state_dict().items():
        found = empty.state_dict()[name]
        assert torch.equal(found, value)
        assert found.data_ptr() % 64 == 0, name
    assert empty[0].weight.is_contiguous(memory_format=torch.channels_last)
    fill(empty, tensors, "x", dtype=torch.bfloat16)
    assert empty[0].weight.dtype == empty[1].bias.dtype == torch.bfloat16
    assert empty[1].running_mean.dtype == torch.float32
    del tensors["2.weight"]
    with pytest.raises(CheckpointError, match=r"x does not fit Sequential: missing 2\.weight"):
        fill(empty, tensors, "x")


def test_tensors_that_are_read_are_pages_of_the_file_and_private(tmp_path: Path) -> None:
    save_tensors(tmp_path / "x.safetensors", {"w": torch.arange(64.0)}, {})
    before = (tmp_path / "x.safetensors").read_bytes()
    tensor = open_weights(tmp_path / "x.safetensors").tensors["w"].read()
    tensor.zero_()
    assert (tmp_path / "x.safetensors").read_bytes() == before
    assert torch.equal(open_weights(tmp_path / "x.safetensors").tensors["w"].read(), torch.arange(64.0))
