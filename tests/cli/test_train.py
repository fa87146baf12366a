"""`unclip train`: recipes and their settings; the training itself is tested with the training part."""

import json
import shlex
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
        (["emoji/decoder", "--minutes", "inf"], "--minutes inf is not a time"),
        (["emoji/decoder", "--set", "optimizer.learning_rate=Infinity"], "should be a finite number (found inf)"),
        (["emoji/decoder", "--set", "task.text_drop_prob=NaN"], "should be"),
        (["emoji/decoder", "--set", "optimizer.betas=[2, 0.9]"], "optimizer.betas.0"),
        (["emoji/decoder", "--smoke", "--set", "data.embeddings=2024"], "2024 holds no embeddings"),
        (["emoji/decoder", "--smoke", "--set", "task.clip=2024"], "2024/clip.safetensors does not exist"),
        (["emoji/decoder", "--smoke", "--device", "nowhere"], "device 'nowhere' cannot be used"),
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


def test_a_path_begins_at_home(unclip: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    done = unclip("train", "emoji/prior", "--dry-run", "--set", "data.folder=~/shards", "--set", "task.clip=~/clip")
    config = json.loads(done.out)
    assert (config["data"]["folder"], config["task"]["clip"]) == ("/home/ann/shards", "/home/ann/clip")


def test_each_run_ends_with_the_command_that_follows_until_there_is_a_model(
    unclip: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a CLIP of another size than the recipes', which the stages take over."""
    monkeypatch.chdir(tmp_path)
    sizes = ("embedding_dim=16", "text_width=48", "text_heads=1", "context_length=24", "vocab_size=560")
    command = ["unclip", "train", "emoji/clip", "--smoke"]
    command += [word for size in sizes for word in ("--set", f"task.model.{size}")]
    lines: list[str] = []
    while command:
        done = unclip(*command[1:])
        assert done.code == 0, done.err
        lines += done.err.splitlines()
        command = shlex.split(done.err.partition("next: ")[2])
    assert "takes the sizes of what it is trained on: task.model.embedding_dim=16 task.model.text_dim=48" in str(lines)
    assert "the averaged weights are in runs/smoke/emoji/prior/prior.safetensors" in str(lines)
    assert "trained on 16 samples, 0 held out (data.validation_share=0)" in str(lines)
    assert done.out.splitlines()[-1] == 'next: unclip generate "..." --model runs/smoke/emoji/model'
    info = json.loads(unclip("info", "runs/smoke/emoji/model", "--json").out)
    assert {stage["name"] for stage in info["stages"]} == {"clip", "autoencoder", "prior", "decoder"}
    plan = unclip("plan", "emoji/prior", "--set", "task.clip=runs/smoke/emoji/clip", "--json")
    assert "task.model.embedding_dim=16" in plan.err
    wrong = ["--set", "task.clip=runs/smoke/emoji/clip", "--set", "task.model.embedding_dim=20"]
    for refused in (unclip("plan", "emoji/prior", *wrong), unclip("train", "emoji/prior", "--smoke", *wrong)):
        assert (refused.code, refused.out) == (2, "")
        assert "set task.model.embedding_dim=16." in refused.err


def test_a_named_folder_that_is_missing_is_not_filled_with_emoji(unclip: Program, tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    done = unclip(
        "train", "emoji/upsampler_256", "--smoke", "--set", f"data.folder={missing}", "--out", tmp_path / "run"
    )
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert f"no .tar shard in {missing}, which is no folder; make some with `unclip data prepare" in done.err
    assert list(tmp_path.iterdir()) == []
