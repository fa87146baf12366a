"""`unclip info`: a model's stages, as text and as JSON."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unclip.model import find_model

Program = Callable[..., Any]


def test_text_has_a_line_per_stage(unclip: Program, tiny_folder: Path) -> None:
    done = unclip("info", tiny_folder)
    first, head, *lines, total, files, export, _, _, _ = done.out.splitlines()
    assert files == "files: no hashes in the card"
    assert export == "convert --to diffusers would refuse it:"
    assert done.code == 0
    assert first.startswith("tiny: draws 16 px, 32 px; ")
    assert head.split()[:6] == ["stage", "parameters", "GFLOP/step", "float32", "bfloat16", "int8"]
    assert [line.split()[0] for line in lines] == ["clip", "prior", "decoder", "upsampler_32"]
    assert "3 steps of ddpm, guidance 3; stored as float32; computes in " in lines[2]
    assert lines[0].endswith("computes in float64")
    counts = [int(line.split()[1].replace(",", "")) for line in lines]
    assert int(total.split()[1].replace(",", "")) == sum(counts)


def test_a_preset_is_told_like_a_model(unclip: Program) -> None:
    done = unclip("info", "karlo")
    first, _, *lines, total, export = done.out.splitlines()
    assert export == "convert --to diffusers would write it"
    assert first.startswith("karlo: draws 64 px, 256 px; Karlo v1.0.alpha")
    assert [line.split()[0] for line in lines] == ["clip", "prior", "decoder", "upsampler_256", "upsampler_256_last"]
    assert lines[1].split()[1:9] == ["1,022,028,544", "164.42", "4.09", "GB", "2.04", "GB", "1.03", "GB"]
    assert "25 steps of ddpm, guidance 4; computes in " in lines[1]
    assert total.split()[1] == "3,726,122,189"


def test_a_preset_as_json(unclip: Program) -> None:
    done = unclip("info", "laion-prior", "--json")
    assert done.out.count("\n") == 1
    described = json.loads(done.out)
    prior = described["stages"][1]
    assert (described["folder"], described["image_sizes"], prior["num_bytes"]) == (None, [], None)
    assert prior["num_parameters"] * 2 == prior["memory"]["bfloat16"]
    assert prior["flops_per_step"] > 1e10
    assert described["defaults"]["stages"]["prior"]["num_steps"] == 64


def test_a_folder_comes_before_a_preset(
    unclip: Program, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_folder, tmp_path / "karlo")
    monkeypatch.chdir(tmp_path)
    assert unclip("info", "karlo").out.startswith("tiny: ")


def test_json_is_one_line(unclip: Program, tiny_folder: Path) -> None:
    done = unclip("info", tiny_folder, "--json")
    assert done.out.count("\n") == 1
    described = json.loads(done.out)
    assert described["image_sizes"] == [16, 32]
    assert described["stages"][2]["config"]["image_size"] == 16
    assert described["defaults"]["num_candidates"] == 2


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("name", ["decoder.safetensors", "embedding_basis.safetensors"])
def test_a_changed_byte_of_the_shipped_model_is_loud(unclip: Program, tmp_path: Path, name: str, as_json: bool) -> None:
    options, folder = ["--json"] if as_json else [], shutil.copytree(find_model("emoji"), tmp_path / "copy")
    done = unclip("info", folder, *options)
    assert (done.code, done.err) == (0, "")
    assert as_json or "\nfiles: 9, with the SHA-256 that the card lists\n" in done.out
    content = bytearray((folder / name).read_bytes())
    content[-1000] ^= 1
    (folder / name).write_bytes(content)
    done = unclip("info", folder, *options)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert f"{folder} is not as its MODEL_CARD.md says: {name} differs; " in done.err
    if as_json:
        hashes = json.loads(done.out)["hashes"]
        assert (len(hashes), {key for key, state in hashes.items() if state != "ok"}) == (9, {name})
    else:
        assert f"\nfiles: {name} differs\n" in done.out


def test_hashes_are_written_where_that_is_asked_for(unclip: Program, tiny_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "copy")
    done = unclip("info", folder, "--write-hashes")
    assert (done.code, done.err) == (0, "")
    assert "\nfiles: 6, with the SHA-256 that the card lists\n" in done.out
    shutil.copy(folder / "prior.safetensors", folder / "spare.safetensors")
    done = unclip("info", folder)
    assert (done.code, "spare.safetensors not listed; " in done.err) == (2, True)
    assert unclip("info", folder, "--write-hashes", "--json").code == 0
    assert unclip("info", folder).code == 0


def test_a_preset_has_no_files_to_hash(unclip: Program) -> None:
    done = unclip("info", "karlo", "--write-hashes")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "'karlo' is a preset, shapes without weights" in done.err


def test_an_unknown_model_is_one_line(unclip: Program) -> None:
    done = unclip("info", "nowhere")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "there is no model 'nowhere'" in done.err
    assert "dalle2-paper, emoji, kandinsky-2.1, " in done.err.partition("allowed: ")[2]
