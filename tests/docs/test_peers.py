"""The comparison with peers: its protocol with our own worker on both sides, and its files."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from unclip.models import (
    DecoderConfig,
    KandinskyDecoderConfig,
    Prior,
    PriorConfig,
    UpsamplerConfig,
    count_parameters,
    kandinsky_decoder_preset,
    upsampler_preset,
)

ROOT = Path(__file__).parents[2]
PEERS = ROOT / "benchmarks/peers"
TINY = PriorConfig(embedding_dim=16, num_text_tokens=0, width=32, depth=1, num_heads=2, ff_mult=5)


def compare(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """What the driver says."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(PEERS / "compare.py"), *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The result of our worker against itself."""
    path = tmp_path_factory.mktemp("peers") / "peers.json"
    run = compare("self_check", "--repeats", "2", "--threads", "1", "--out", path)
    assert run.returncode == 0, run.stderr
    return path


def test_both_sides_are_measured_in_turn(measured: Path) -> None:
    job = json.loads(measured.read_text())["jobs"]["self_check"]
    theirs, ours = job["theirs"], job["float32"]
    with torch.device("meta"):
        expected = count_parameters(Prior(TINY))
    assert theirs["parameters"] == ours["parameters"] == expected
    assert theirs["flops"] == ours["flops"] > 0
    assert len(theirs["seconds"]) == len(ours["seconds"]) == 2
    rounds = [their / our for their, our in zip(theirs["seconds"], ours["seconds"], strict=True)]
    assert ours["ratio"]["low"] == pytest.approx(min(rounds), abs=1e-3)
    assert ours["ratio"]["high"] == pytest.approx(max(rounds), abs=1e-3)
    assert ours["ratio"]["median"] == pytest.approx(sum(rounds) / 2, abs=1e-3)
    assert min(theirs["peak_bytes"], ours["peak_bytes"]) > 10**7
    assert theirs["versions"]["torch"] == torch.__version__
    assert job["settings"]["common"] == {"batch_size": 4}


def test_what_is_finished_is_kept(measured: Path) -> None:
    before = measured.read_text()
    run = compare("self_check", "--repeats", "2", "--threads", "1", "--out", measured)
    assert (run.returncode, run.stdout) == (0, "self_check: kept, 2 rounds\n")
    assert measured.read_text() == before


def test_no_round_begins_after_the_time(tmp_path: Path) -> None:
    run = compare("self_check", "--minutes", "0", "--out", tmp_path / "peers.json")
    assert (run.returncode, run.stdout) == (0, "no time was left for self_check; the same command goes on.\n")
    assert not (tmp_path / "peers.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["prior_trian"],
            r"error: no job is called 'prior_trian'; did you mean 'prior_train'\? allowed: [a-z0-9_, ]+\.\n",
        ),
        ([], r"error: no job was named; give all, or names of --list\.\n"),
        (["all", "--repeats", "0"], r"error: repeats=0 measures nothing; give 1 or more\.\n"),
    ],
)
def test_a_wrong_call_is_refused_in_one_line(words: list[str], message: str) -> None:
    run = compare(*words)
    assert run.returncode == 2
    assert re.fullmatch(message, run.stderr)


def test_a_worker_that_fails_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    run = compare("self_check", "--device", "cuda:99", "--threads", "1", "--out", tmp_path / "peers.json")
    assert run.returncode == 1
    assert re.match(r"error: self_check: its worker ended with 1: .*cuda:99.*\n$", run.stderr)
    assert list(tmp_path.iterdir()) == []


def test_every_job_is_listed() -> None:
    names = [line.split()[0] for line in compare("--list").stdout.splitlines()]
    assert {"prior_train", "decoder_sample", "karlo_upsampler_step", "ddpm_train", "imagen_train"} <= set(names)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("path", sorted((PEERS / "requirements").glob("*.txt")), ids=lambda path: path.stem)
def test_requirements_are_pinned(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line) for line in lines), lines
    assert "torch==2.13.0" in lines


def test_every_peer_has_its_requirements() -> None:
    workers = {path.stem.removeprefix("run_") for path in PEERS.glob("run_*.py")} - {"ours"}
    assert workers < {path.stem for path in (PEERS / "requirements").glob("*.txt")}


def test_versions_that_fit_dalle2_pytorch() -> None:
    lines = (PEERS / "requirements/dalle2_pytorch.txt").read_text().splitlines()
    wanted = {"dalle2-pytorch==1.15.6", "torchvision==0.28.0", "kornia==0.6.12", "rotary-embedding-torch==0.5.3"}
    assert wanted | {"vector-quantize-pytorch==1.14.24", "ema-pytorch==0.7.3"} <= set(lines)


def test_our_shapes_are_possible() -> None:
    program = "import json, jobs; print(json.dumps([dict(job.ours) for job in jobs.JOBS.values()]))"
    run = subprocess.run([sys.executable, "-c", program], cwd=PEERS, capture_output=True, text=True, check=True)
    found = [
        shape_of(kind, fields) for ours in json.loads(run.stdout) for kind, fields in ours.items() if kind in KINDS
    ]
    assert len(found) >= 20


def shape_of(kind: str, fields: dict[str, Any]) -> object:
    """The configuration that our worker would build."""
    config, preset = KINDS[kind]
    return preset(fields["preset"]) if preset else config(**fields)


KINDS: dict[str, Any] = {
    "prior": (PriorConfig, None),
    "decoder": (DecoderConfig, None),
    "kandinsky": (KandinskyDecoderConfig, kandinsky_decoder_preset),
    "upsampler": (UpsamplerConfig, upsampler_preset),
}
