"""`unclip convert`: what it says, what it writes, and how it refuses."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from weights_files import Hostile


def test_it_says_what_it_found_and_what_it_wrote(unclip: Callable, karlo_folder: Path, tmp_path: Path) -> None:
    done = unclip("convert", karlo_folder, tmp_path / "ours")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[0] == "found a diffusers unCLIP folder (UnCLIPPipeline)"
    assert f"wrote clip, prior, decoder, upsampler_32, upsampler_32_last to {tmp_path / 'ours'}" in done.out
    back = unclip("convert", tmp_path / "ours", tmp_path / "back", "--to", "diffusers", "--json")
    line = json.loads(back.out)
    assert line["recognised"] == ["a model of ours (ours)"]
    assert line["dropped"].keys() == {"logit_scale"}
    assert line["num_bytes"] == sum(path.stat().st_size for path in (tmp_path / "back").rglob("*") if path.is_file())
    info = unclip("info", karlo_folder)
    assert info.out.startswith("karlo: draws 16 px, 32 px; ")
    assert "a diffusers unCLIP folder (UnCLIPPipeline)" in info.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "new"], "unclip: there is no model 'nowhere', and no folder of that name; "),
        (["owner/name", "new"], "unclip: owner/name is no folder here, the hub's cache does not have it"),
        (["emoji", "new", "--to", "onnx"], "unclip: unknown layout 'onnx' to convert to; allowed: diffusers, unclip."),
        (["emoji", "new", "--storage", "int4"], "unclip: --storage int4 is not one of float32, bfloat16, int8."),
        (
            ["emoji", "new", "--to", "diffusers"],
            "unclip: the model 'emoji' cannot be said in diffusers' unCLIP layout: ",
        ),
        (["emoji"], "unclip: Missing argument"),
    ],
)
def test_a_wrong_input_is_one_line(
    unclip: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = unclip("convert", *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(message)
    assert done.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_pickle_that_runs_code_is_refused(unclip: Callable, tmp_path: Path) -> None:
    trap = tmp_path / "made by the pickle"
    torch.save({"weight": torch.zeros(2), "trap": Hostile(trap)}, tmp_path / "hostile.ckpt")
    done = unclip("convert", tmp_path / "hostile.ckpt", tmp_path / "new")
    assert done.code == 2
    assert "a pickle that can run code is not read" in done.err
    assert {path.name for path in tmp_path.iterdir()} == {"hostile.ckpt"}
