"""`unclip bench`: what other programs read, the row of the field's table, and wrong input in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("quick_peak")
Program = Callable[..., Any]
KEYS = {"seconds_per_step", "peak_memory_bytes", "flops_per_step", "share_of_peak", "threads", "machine"}


def test_sampling_ends_with_one_line_for_programs(unclip: Program) -> None:
    done = unclip(
        "bench", "sample", "--stage", "prior", "--preset", "tiny", "--set", "prior.depth=1", "--batch", "8",
        "--text-tokens", "0", "--steps", "prior=4", "--device", "cpu", "--repeats", "1", "--json",
    )  # fmt: skip
    assert (done.code, done.out.count("\n")) == (0, 1)
    said = json.loads(done.out)
    assert said.keys() >= KEYS | {"seconds_per_image", "images_per_second", "flops_per_image"}
    (stage,) = said["batches"][0]["stages"]
    assert (stage["batch"], stage["num_steps"]) == (8, 4)
    assert said["seconds_per_image"] == pytest.approx(stage["seconds_per_image"])


def test_a_model_is_measured_stage_by_stage(unclip: Program, tiny_folder: Path, evaluation: Path) -> None:
    done = unclip(
        "bench", "sample", "--model", tiny_folder, "--steps", "2", "--dtype", "float32", "--device", "cpu",
        "--repeats", "1", "--evaluation", evaluation,
    )  # fmt: skip
    assert done.code == 0
    first, peak, head, *lines = done.out.splitlines()
    assert first.startswith("tiny, 32 px, its own weights, float32 on ")
    assert peak.startswith("  measured peak: float32 ")
    assert head.split()[:3] == ["stage", "batch", "steps"]
    assert [line.split()[0] for line in lines[:5]] == ["clip", "prior", "decoder", "upsampler_32", "all"]
    row = [cell.strip() for cell in lines[-1].strip("|").split("|")]
    assert lines[-3].startswith("| model | FID | CLIP score | seconds an image | peak memory | FLOPs an image | tr")
    assert done.err.splitlines()[-2:] == [
        "note: the evaluation compared pictures at 16 px, not 32",
        "note: the evaluation drew with 7 steps of the decoder, not 2",
    ]
    # Those of the point with the least FID; nobody plans how a toy is trained.
    assert (row[:3], row[-1]) == (["tiny", "12.50", "30.25"], "-")


def test_training_ends_with_one_line_for_programs(unclip: Program) -> None:
    done = unclip(
        "bench", "train", "--stage", "prior", "--preset", "tiny", "--set", "prior.depth=1", "--batch", "4",
        "--text-tokens", "0", "--precision", "float32", "--device", "cpu", "--repeats", "1", "--json",
    )  # fmt: skip
    assert (done.code, done.out.count("\n")) == (0, 1)
    said = json.loads(done.out)
    assert said.keys() >= KEYS | {"images_per_second", "flops_per_image"}
    assert (said["batch"], said["precision"], said["name"]) == (4, "float32", "tiny/prior")


def test_a_recipe_is_measured_with_its_own_settings(unclip: Program) -> None:
    done = unclip(
        "bench", "train", "--recipe", "emoji/upsampler_256", "--batch", "2", "--micro-batch", "1", "--checkpointing",
        "--set", "upsampler_256.base_channels=32", "--set", "task.crop_size=32", "--device", "cpu", "--repeats", "1",
    )  # fmt: skip
    assert done.code == 0
    assert "2 in passes of 1, adamw, activation checkpointing" in done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sample", "--preset", "carlo"], "did you mean 'karlo'?"),
        (["sample", "--preset", "karlo", "--stage", "piror"], "did you mean 'prior'?"),
        (["sample", "--preset", "karlo", "--set", "prior.dept=6"], "did you mean 'depth'?"),
        (["sample", "--preset", "karlo", "--set", "prior.depth"], "write key=value"),
        (["sample", "--preset", "karlo", "--model", "emoji"], "give one of them"),
        (["sample", "--set", "prior.depth=6"], "give a --preset"),
        (["sample", "--model", "nowhere"], "there is no model 'nowhere'"),
        (["sample", "--batch", "0"], "--batch '0' cannot be read"),
        (["sample", "--size", "300"], "300"),
        (["sample", "--steps", "piror=3"], "did you mean 'prior'?"),
        (["sample", "--sampler", "ddmp"], "ddim"),
        (["sample", "--dtype", "bf16"], "bfloat16"),
        (["sample", "--evaluation", "nowhere.json"], "cannot be read"),
        (["sample", "--price", "nan"], "--price nan is not the price"),
        (["train"], "give what to train"),
        (["train", "--preset", "karlo", "--recipe", "emoji/prior"], "give one of them"),
        (["train", "--recipe", "emoji/prior", "--batch", "8", "--micro-batch", "3"], "does not divide in passes of 3"),
        (["train", "--preset", "karlo"], "needs a --stage"),
        (["train", "--recipe", "emoji/decodr"], "did you mean 'emoji/decoder'?"),
        (["train", "--recipe", "emoji/decoder", "--stage", "prior"], "belong to --preset"),
        (["train", "--preset", "kandinsky-2.2", "--stage", "decoder"], "only sampled"),
        (["train", "--preset", "tiny", "--stage", "prior", "--precision", "int4"], "precision"),
    ],
)
def test_wrong_input_is_one_line(unclip: Program, arguments: list[str], message: str) -> None:
    done = unclip("bench", *arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err
