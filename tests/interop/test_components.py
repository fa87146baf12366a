"""A component's folder: the best of its weights files, shards that agree with their index, JSON that is JSON."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from unclip.interop.sources import open_component, read_json
from weights_files import State, assert_same, refusal, state

STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
BEST_FIRST = (
    "model.safetensors",
    "model.safetensors.index.json",
    "model.bf16.safetensors",
    "model.fp16.safetensors.index.json",
    "model.safetensors.index.fp16.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin.index.fp16.json",
    "pytorch_model.fp16.bin",
)


def put(folder: Path, name: str, weights: State) -> None:
    """A component under one of the names that diffusers and transformers use, sharded if it is an index."""
    save = save_file if "safetensors" in name else torch.save
    if not name.endswith(".json"):
        save(weights, folder / name)
        return
    shards = {key: f"{name}-{number:05}-of-00002.part" for number, key in enumerate(weights, start=1)}
    for key, shard in shards.items():
        save({key: weights[key]}, folder / shard)
    (folder / name).write_text(json.dumps({"metadata": {"total_size": 8}, "weight_map": shards}))


@pytest.mark.parametrize("best", range(len(BEST_FIRST)))
def test_the_best_file_of_a_component_is_taken(best: int, tmp_path: Path) -> None:
    for number, name in enumerate(BEST_FIRST[best:]):
        put(tmp_path, name, {"a": torch.full((2,), float(number)), "b": torch.ones(1)})
    assert_same(open_component(tmp_path, STEMS), {"a": torch.zeros(2), "b": torch.ones(1)})


def test_shards_and_index_must_agree(tmp_path: Path) -> None:
    name = "diffusion_pytorch_model.safetensors.index.json"
    weights = {"a": torch.ones(1), "b": torch.ones(2)}
    first = tmp_path / f"{name}-00001-of-00002.part"

    put(tmp_path, name, weights)
    save_file({"a": weights["a"], "c": weights["b"]}, first)
    assert f"{first} holds 'c', which is not in {name}" in refusal(open_component, tmp_path, STEMS)
    save_file({}, first)
    assert "holds no tensors" in refusal(open_component, tmp_path, STEMS)
    save_file({"c": weights["b"]}, first)
    assert f"{first} lacks 'a', which is in {name}" in refusal(open_component, tmp_path, STEMS)
    first.unlink()
    assert f"{first} is missing, a shard that {name} names" in refusal(open_component, tmp_path, STEMS)
    for weight_map in (None, ["a"], {"a": 3}, {"a": "../outside.safetensors"}):
        (tmp_path / name).write_text(json.dumps({"weight_map": weight_map}))
        assert "no weight_map" in refusal(open_component, tmp_path, STEMS)


def test_a_folder_without_weights(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "optimizer.safetensors")
    save_file(state(), tmp_path / "model-00001-of-00002.safetensors")
    for folder in (tmp_path, tmp_path / "absent"):
        message = refusal(open_component, folder, ["model", "pytorch_model"])
        assert f"{folder} holds no weights; model.safetensors or pytorch_model.safetensors or model.bin" in message


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"a": [1', "is not JSON"),
        (b'{"a": "\xff"}', "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[1, 2]", "holds a list, not a JSON object"),
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
    ],
)
def test_json_that_cannot_be_read(content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(content)
    assert f"config.json {told}" in refusal(read_json, tmp_path / "config.json")


def test_json(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"act_fn": "gelu", "größe": [1]}', encoding="utf-8")
    assert read_json(tmp_path / "config.json") == {"act_fn": "gelu", "größe": [1]}
