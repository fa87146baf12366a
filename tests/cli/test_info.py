"""`unclip info`: a model's stages, as text and as JSON."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Program = Callable[..., Any]


def test_text_has_a_line_per_stage(unclip: Program, tiny_folder: Path) -> None:
    done = unclip("info", tiny_folder)
    first, *lines = done.out.splitlines()
    assert done.code == 0
    assert first.startswith("tiny: draws 16 px, 32 px; ")
    assert [line.split()[0] for line in lines] == ["clip", "prior", "decoder", "upsampler_32"]
    assert "3 steps of ddpm, guidance 3" in lines[2]


def test_json_is_one_line(unclip: Program, tiny_folder: Path) -> None:
    done = unclip("info", tiny_folder, "--json")
    assert done.out.count("\n") == 1
    described = json.loads(done.out)
    assert described["image_sizes"] == [16, 32]
    assert described["stages"][2]["config"]["image_size"] == 16
    assert described["defaults"]["num_candidates"] == 2


def test_an_unknown_model_is_one_line(unclip: Program) -> None:
    done = unclip("info", "nowhere")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "there is no model 'nowhere'" in done.err
