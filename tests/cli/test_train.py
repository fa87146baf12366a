"""`unclip train`: recipes and their settings; the training itself is tested with the training part."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Program = Callable[..., Any]


def test_dry_run_shows_the_changed_settings(unclip: Program, tmp_path: Path) -> None:
    done = unclip(
        "train", "emoji/decoder", "--set", "batch_size=3", "--set", "optimizer.learning_rate=0.5", "--dry-run",
        "--out", tmp_path / "run",
    )  # fmt: skip
    assert done.code == 0
    config = json.loads(done.out)
    assert config["name"] == "emoji/decoder"
    assert config["batch_size"] == 3
    assert config["optimizer"]["learning_rate"] == 0.5
    assert not (tmp_path / "run").exists()


def test_smoke_is_smaller(unclip: Program) -> None:
    full, smoke = (json.loads(unclip("train", "emoji/clip", "--dry-run", *flag).out) for flag in ([], ["--smoke"]))
    assert smoke["num_images"] < full["num_images"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["emoji/decodr"], "did you mean 'emoji/decoder'?"),
        (["emoji/decoder", "--set", "batchsize=3"], "did you mean 'batch_size'?"),
        (["emoji/decoder", "--set", "batch_size=many"], "batch_size"),
        (["emoji/decoder", "--set", "batch_size"], "write key=value"),
        (["emoji/decoder", "--minutes", "0"], "--minutes 0.0 is not a time"),
        (["emoji/decoder", "--minutes", "nan"], "--minutes nan is not a time"),
        (["quickstart"], "quickstart needs your pictures: unclip train quickstart FOLDER"),
        (["quickstart", "nowhere"], "there is no"),
        (["quickstart", "nowhere", "--set", "seed=1"], "--set changes one recipe"),
        (["quickstart", "nowhere", "--dry-run"], "--dry-run changes one recipe"),
        (["emoji/decoder", "pets"], "the folder pets belongs to quickstart, not to 'emoji/decoder'"),
        (["emoji", "--clip", "emoji"], "--clip belongs to quickstart"),
        (["emoji", "--set", "batch_size=3"], "'emoji' is a series"),
    ],
)
def test_wrong_input_is_one_line(unclip: Program, tmp_path: Path, arguments: list[str], message: str) -> None:
    done = unclip("train", *arguments, "--out", tmp_path / "run")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err
    assert not (tmp_path / "run").exists()


def test_a_named_folder_that_is_missing_is_not_filled_with_emoji(unclip: Program, tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    done = unclip(
        "train", "emoji/upsampler_256", "--smoke", "--set", f"data.folder={missing}", "--out", tmp_path / "run"
    )
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert f"no .tar shard in {missing}, which is no folder; make some with `unclip data prepare" in done.err
    assert list(tmp_path.iterdir()) == []
