"""A command and a program that were written for a task draw what the task draws with the same options."""

import shlex
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from unclip.cli.main import run
from unclip.cli.spelling import spell
from unclip.pipelines import UnClip

PICTURE = "picture.png"
CASES: list[tuple[str, dict[str, Any]]] = [
    ("text_to_image", {"prompts": "a red apple", "seed": 3, "negative_prompt": "blue", "num_candidates": 2}),
    ("text_to_image", {"prompts": 'it\'s -- "so" $HOME', "num_steps": {"prior": 2, "decoder": 3}, "seed": 4}),
    ("text_to_image", {"prompts": "a red apple", "image_size": (32, 16), "guidance_scale": 2.0, "seed": 5}),
    ("text_to_image", {"prompts": "-3 degrees", "num_steps": 2, "seed": 4}),
    ("unconditional", {"seed": 6, "num_images": 2}),
    ("image_variations", {"images": PICTURE, "prompt": "a blue heart", "text_weight": 0.25, "seed": 7}),
    ("image_variations", {"images": PICTURE, "eta": 0.0, "exact": True, "seed": 7}),
    ("image_to_image", {"images": PICTURE, "prompt": "a blue heart", "strength": 0.5, "seed": 8}),
    ("interpolate", {"a": "a red apple", "b": PICTURE, "frames": 3, "seed": 9}),
    ("text_diff", {"image": PICTURE, "source": "a red apple", "target": "a tree", "theta": [0.0, 0.3], "seed": 1}),
    ("inpaint", {"image": PICTURE, "mask": "mask.png", "prompt": "a tree", "seed": 2}),
    ("inpaint", {"image": PICTURE, "mask": "mask.png", "feather": 0, "seed": 2}),
    ("outpaint", {"image": PICTURE, "left": 16, "prompt": "a tree", "seed": 3}),
    ("outpaint", {"image": PICTURE, "aspect": (2, 1), "seed": 3}),
    ("mix", {"parts": [("a red apple", 0.7), (PICTURE, 0.3)], "seed": 4}),
    ("upscale", {"images": PICTURE, "size": 64, "seed": 5}),
]


@pytest.mark.parametrize(("task", "options"), CASES, ids=[f"{number}-{task}" for number, (task, _) in enumerate(CASES)])
def test_what_was_spelled_draws_the_same(
    task: str, options: dict[str, Any], tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.effect_noise((32, 32), 60).convert("RGB").save(PICTURE)
    Image.linear_gradient("L").resize((32, 32)).point(lambda level: 255 * (level > 127)).save("mask.png")
    drawn = getattr(UnClip.load(tiny_folder), task)(**options)
    command, program = spell(str(tiny_folder), task, options)
    _, name, *words = shlex.split(command)
    assert run([name, "--out", "by-command/", "--format", "png", *words]) == 0
    exec(compile(program.replace('"drawn.png")', '"by-program/")'), "program", "exec"), {})
    for folder in ("by-command", "by-program"):
        pictures = {path.read_bytes() for path in Path(folder).iterdir()}
        assert sorted(Image.open(path).tobytes() for path in Path(folder).iterdir()) == sorted(
            image.tobytes() for image in drawn.images
        ), folder
        assert len(pictures) == len(drawn)


def test_the_shipped_model_goes_without_saying() -> None:
    command, program = spell("emoji", "text_to_image", {"prompts": "a red apple", "seed": 7})
    assert command == "unclip generate 'a red apple' --seed 7"
    assert program.splitlines()[2:4] == [
        "pipe = unclip.UnClip.load('emoji')", "result = pipe.text_to_image(prompts='a red apple', seed=7)"
    ]  # fmt: skip
