"""One seed is one picture on every kind of processor, for any number of threads and whatever the host process switched.

Each row is a process of its own: oneDNN and ATen read what they may use once, when they are loaded. A value above the
processor's own is its own. Bounds come from runs in float64: what moves there when the weights change by 2^-20 of
themselves is what a few roundings of float32 (2^-24 each) may move.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

import processor_job
from processes import ROOT
from short_runs import ALONE
from unclip.checkpoint import load_tensors
from unclip.pipelines import UnClip
from unclip.training import TrainConfig, Trainer

CHANGE, ROOM = 2.0**-20, 8.0
# Least PSNR of pictures in bfloat16 to those in float64, at full range 2; on a Zen 5 they reach 46, 47 and 38 dB. With
# the model's own guidance, which multiplies differences, pictures of a text may be any distance apart.
BFLOAT16_PSNR = {"/enlarge": 30.0, "/unguided": 36.0, "/vary": 30.0}
RECIPES = ("emoji/clip", "emoji/prior", "emoji/decoder", "emoji/upsampler_256")
ISA = ("SSE41", "AVX2", "AVX512_CORE", "AVX512_CORE_VNNI", "AVX512_CORE_BF16", "AVX512_CORE_AMX")
PLAIN = ("", "", "none", "1")
OTHER_KERNELS = [(isa, "", "none", "1") for isa in ISA] + [("", aten, "none", "1") for aten in ("default", "avx2")]
SAME_KERNELS = [("", "", precision, "1") for precision in ("highest", "high", "medium")]
SAME_KERNELS += [("", "", "none", threads) for threads in ("2", "3")]


class Run(NamedTuple):
    """What a process of one row drew and trained."""

    tensors: Mapping[str, Tensor]
    losses: Mapping[str, float]
    number_formats: Mapping[str, str]


class Reference(NamedTuple):
    """A float64 run, and how far rounding may lead from it."""

    tensors: Mapping[str, Tensor]
    losses: Mapping[str, float]
    room: Mapping[str, float]


@pytest.fixture(scope="module")
def inputs(
    tiny_recipe: Callable[[str], TrainConfig], karlo_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "karlo").symlink_to(karlo_folder)
    for name in RECIPES:
        (folder / f"{name.replace('/', '-')}.json").write_text(tiny_recipe(name).model_dump_json())
    return folder


def own_isa() -> str:
    """The highest of `ISA` that this processor has."""
    has = [True, torch.cpu._is_avx2_supported(), torch.cpu._is_avx512_supported(), torch.cpu._is_vnni_supported()]
    has += [torch.cpu._is_avx512_bf16_supported(), torch.cpu._is_amx_tile_supported()]
    return ISA[max(index for index, it_has in enumerate(has) if it_has)]


@pytest.fixture(scope="module")
def run(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[tuple[str, str, str, str]], Run]:
    """The job under (ONEDNN_MAX_CPU_ISA, ATEN_CPU_CAPABILITY, matmul precision, OMP_NUM_THREADS); each runs once.

    What oneDNN and ATen may use beyond the processor's own is its own, so that these rows are the plain one.
    """
    own, own_aten = ISA.index(own_isa()), torch.backends.cpu.get_cpu_capability().lower()

    @cache
    def start(row: tuple[str, str, str, str]) -> Run:
        isa, aten, precision, threads = row
        out = tmp_path_factory.mktemp("row")
        environment = os.environ | {
            "OMP_NUM_THREADS": threads,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests" / "helpers")]),
        }
        environment |= {"ONEDNN_MAX_CPU_ISA": isa} if isa else {}
        environment |= {"ATEN_CPU_CAPABILITY": aten} if aten else {}
        command = [
            sys.executable,
            str(ROOT / "tests" / "helpers" / "processor_job.py"),
            str(inputs),
            str(out),
            precision,
        ]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        facts = json.loads((out / "facts.json").read_text())
        return Run(load_tensors(out / "tensors.safetensors").tensors, facts["losses"], facts["number_formats"])

    def of(row: tuple[str, str, str, str]) -> Run:
        isa, aten, *rest = row
        return start(("" if isa and ISA.index(isa) >= own else isa, "" if aten == own_aten else aten, *rest))

    return of


@pytest.fixture(scope="module")
def reference(inputs: Path, tiny_recipe: Callable[[str], TrainConfig]) -> Reference:
    def draw(change: float) -> dict[str, Tensor]:
        emoji, karlo = (UnClip.load(name, "cpu", torch.float64) for name in ("emoji", inputs / "karlo"))
        for pipe in (emoji, karlo):
            for stage in (pipe.prior, pipe.decoder, *pipe.upsamplers.values()):
                changed(stage.network, change)
        return processor_job.drawn(emoji, "") | {"karlo": torch.stack(processor_job.imitate(karlo).images)}

    def losses(change: float) -> dict[str, Tensor]:
        return {name.replace("/", "-"): first_loss(tiny_recipe(name), change) for name in RECIPES}

    tensors, trained = draw(0.0), losses(0.0)
    moved = draw(CHANGE) | losses(CHANGE)
    room = {name: ROOM * float((moved[name] - value).abs().max()) for name, value in (tensors | trained).items()}
    return Reference(tensors, {name: float(loss) for name, loss in trained.items()}, room)


def changed(network: nn.Module, change: float) -> nn.Module:
    """`network` with every weight changed by about this share of itself."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter *= 1 + change * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return network


def first_loss(config: TrainConfig, change: float) -> Tensor:
    """The loss of a run's first step with the network in float64."""
    trainer = Trainer.open(config, ALONE)
    for average in trainer.state.averages.networks:
        average.double()
    changed(trainer.state.network.double(), change)
    return torch.tensor(trainer.step().loss)


def psnr(images: Tensor, expected: Tensor) -> float:
    return float(10 * torch.log10(4 / (images - expected).double().square().mean()))


def check(run: Run, reference: Reference) -> None:
    """Float32 results and losses are within rounding of float64, pictures in bfloat16 near them."""
    for name, expected in reference.tensors.items():
        if name.startswith("/"):
            room = reference.room[name] + 1e-6
            torch.testing.assert_close(run.tensors[f"float32{name}"].to(expected), expected, rtol=0.0, atol=room)
            if name in BFLOAT16_PSNR:
                assert psnr(run.tensors[f"bfloat16{name}"], expected) >= BFLOAT16_PSNR[name]
    torch.testing.assert_close(run.tensors["karlo/float64"], reference.tensors["karlo"], rtol=0.0, atol=1e-5)
    karlo = reference.room["karlo"] + 1e-6
    torch.testing.assert_close(run.tensors["karlo/float32"], reference.tensors["karlo"], rtol=0.0, atol=karlo)
    for name, loss in reference.losses.items():
        room = max(reference.room[name], 1e-6 * loss)
        assert run.losses[name] == pytest.approx(loss, rel=0.0, abs=room)


@pytest.mark.parametrize("row", [PLAIN, *OTHER_KERNELS], ids=lambda row: row[0] or row[1] or "plain")
def test_other_kernels_draw_and_train_the_same_within_rounding(
    row: tuple[str, str, str, str], run: Callable[..., Run], reference: Reference
) -> None:
    check(run(row), reference)


@pytest.mark.parametrize("row", SAME_KERNELS, ids=lambda row: row[2] if row[2] != "none" else f"{row[3]} threads")
def test_switches_and_threads_of_the_process_change_no_bit(
    row: tuple[str, str, str, str], run: Callable[..., Run], reference: Reference
) -> None:
    """In bfloat16, which is the default where a processor multiplies it natively.

    Float32, which a process may have narrowed and whose convolutions sum thread by thread, stays within its rounding.
    """
    found, expected = run(row), run(PLAIN)
    check(found, reference)
    for name, tensor in expected.tensors.items():
        if name.startswith("bfloat16") and expected.number_formats["decoder"] == "bfloat16":
            assert torch.equal(found.tensors[name], tensor), name


def test_the_formats_are_named(run: Callable[..., Run]) -> None:
    for row in [PLAIN, *OTHER_KERNELS]:
        formats = dict(run(row).number_formats)
        assert formats.pop("clip") == "float64"
        assert formats.keys() == {"prior", "decoder", "upsampler_256"}
        assert set(formats.values()) <= {"float32", "bfloat16"}
    assert set(run(("AVX2", *PLAIN[1:])).number_formats.values()) == {"float64", "float32"}
