"""`unclip ema`: from a run's folder to the file of a stage."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from unclip.checkpoint import LazyTensor, load_tensors, read_metadata, save_module, save_tensors
from unclip.models import Prior, prior_preset
from unclip.training.averages import Profile, load_snapshots, reconstruct, save_snapshot

Program = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of a prior, after its averages at 100, 200 and 300 images."""
    folder = tmp_path / "run"
    network = Prior(prior_preset("tiny"))
    save_module(folder / "prior.safetensors", network, network.config, "prior", "bfloat16")
    save_tensors(folder / "checkpoint-00000003.safetensors", {"network.out.bias": torch.ones(3)}, {})
    for images in (100, 200, 300):
        for width in (0.05, 0.1):
            tensors = {name: LazyTensor.of(torch.randn_like(tensor)) for name, tensor in network.state_dict().items()}
            save_snapshot(folder, Profile(images, width), tensors)
    return folder


def test_it_writes_a_stage_that_a_pipeline_opens(unclip: Program, run: Path, tmp_path: Path) -> None:
    from unclip.model.folder import open_network

    done = unclip("ema", run, "--sigma-rel", "0.08", "-o", tmp_path / "long.safetensors")
    assert (done.code, done.err) == (0, "")
    assert "sigma_rel 0.08 at 300 images, from 6 snapshots; profile error" in done.out
    assert read_metadata(tmp_path / "long.safetensors") == read_metadata(run / "prior.safetensors") | {
        "storage": "float32"
    }
    opened = open_network(tmp_path / "long.safetensors", "prior")
    assert opened.config == prior_preset("tiny")
    expected, _ = reconstruct(load_snapshots(run), Profile(300, 0.08))
    found = load_tensors(tmp_path / "long.safetensors").tensors
    assert found.keys() == expected.keys() == Prior(prior_preset("tiny")).state_dict().keys()
    assert all(torch.equal(found[name], lazy.read()) for name, lazy in expected.items())


def test_the_average_of_an_earlier_moment_and_a_stored_width_is_the_stored_one(
    unclip: Program, run: Path, tmp_path: Path
) -> None:
    done = unclip("ema", run, "--sigma-rel", "0.1", "--images", "200", "-o", run / "prior.safetensors")
    assert done.code == 0
    assert "at 200 images, from 4 snapshots; profile error 0.00%" in done.out
    stored = load_tensors(run / "averages" / "000000000200-0.1.safetensors").tensors
    found = load_tensors(run / "prior.safetensors").tensors
    for name, tensor in stored.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sigma-rel", "0.4"], "--sigma-rel=0.4 is no width of an average"),
        (["--sigma-rel", "0.1", "--images", "50"], "up to --images=50: the first was taken at 100"),
    ],
)
def test_wrong_numbers_are_one_line(
    unclip: Program, run: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = unclip("ema", run, *arguments, "-o", tmp_path / "out.safetensors")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err
    assert not (tmp_path / "out.safetensors").exists()


def test_a_folder_without_averages_or_stage_or_of_two_networks_is_one_line(
    unclip: Program, run: Path, tmp_path: Path
) -> None:
    out = ("--sigma-rel", "0.1", "-o", tmp_path / "out.safetensors")
    assert "holds no stored averages; give the folder of a run" in unclip("ema", tmp_path, *out).err
    other = Prior(prior_preset("tiny").replace(width=128))
    save_module(run / "prior.safetensors", other, other.config, "prior")
    assert "are not of the network in prior.safetensors" in unclip("ema", run, *out).err
    (run / "prior.safetensors").unlink()
    done = unclip("ema", run, *out)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "such as decoder.safetensors; found: none" in done.err
