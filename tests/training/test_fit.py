"""A run that cannot work is refused before its data are read, naming the settings and the values that fit."""

from collections.abc import Callable
from pathlib import Path

import pytest

from processes import finish, start
from short_runs import ALONE, changed
from unclip.clip import TextImageEncoder
from unclip.data import embed
from unclip.errors import ConfigError, InputError, UnclipError
from unclip.training import TrainConfig, make_plan, make_task, train
from unclip.training.fit import adopt_sizes, stored_clip

Recipe = Callable[[str], TrainConfig]


@pytest.mark.parametrize(
    ("stage", "wrong", "message"),
    [
        ("prior", {"embedding_dim": 16, "text_dim": 32}, "embedding_dim=16, but the image embedding is 32 in the CLIP"),
        ("prior", {"text_dim": 16}, "text_dim=16, but the token width is 32 in the CLIP"),
        ("prior", {"num_text_tokens": 24}, "num_text_tokens=24, but the prompt length is 32 in the CLIP"),
        ("prior", {"text_embedding_dim": 64}, "text_embedding_dim=64, but the text embedding is 32 in the CLIP"),
        ("decoder", {"embedding_dim": 16}, "embedding_dim=16, but the image embedding is 32 in the CLIP"),
        ("decoder", {"text_dim": 16}, "text_dim=16, but the token width is 32 in the CLIP"),
    ],
)
def test_sizes_that_do_not_fit_the_clip_are_refused_before_the_data_are_read(
    stage: str, wrong: dict[str, int], message: str, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    config = changed(tiny_recipe(f"emoji/{stage}"), **wrong, folder=str(tmp_path / "nowhere"), emoji_split=None)
    for begin in (
        lambda: train(config, tmp_path / "made" / "run"),
        lambda: make_plan(config, num_pictures=10, clip=stored_clip(config.task.clip)),
    ):
        with pytest.raises(
            ConfigError, match=rf"the {stage} does not fit: task\.model\.{message}.*; set task\.model\."
        ):
            begin()
    assert not (tmp_path / "made").exists()
    fitting, changes = adopt_sizes(config)
    assert changes
    assert adopt_sizes(fitting) == (fitting, [])
    kept, _ = adopt_sizes(config, {f"task.model.{name}" for name in wrong})
    assert {name: getattr(kept.task.model, name) for name in wrong} == wrong


def test_what_is_adopted_trains(prior: TrainConfig) -> None:
    odd = changed(prior, embedding_dim=16, text_dim=None, num_text_tokens=20)
    fitting, changes = adopt_sizes(odd)
    assert changes == ["task.model.embedding_dim=32", "task.model.num_text_tokens=32"]
    assert make_task(fitting, ALONE.device).build().config.embedding_dim == 32


def test_stored_embeddings_of_another_clip_are_told_from_a_wrong_network(
    prior: TrainConfig, tmp_path: Path, clip_folder: Path
) -> None:
    embed(prior.data.folder, TextImageEncoder.load(clip_folder), tmp_path / "stored", num_workers=0)
    stored = changed(prior, embeddings=str(tmp_path / "stored"))
    wrong = changed(stored, embedding_dim=16, text_dim=32)
    with pytest.raises(ConfigError, match=r"is 32 in the CLIP \S+ and 32 in the embeddings \S+; set"):
        make_task(wrong, ALONE.device)
    other = stored_clip(clip_folder)
    assert other is not None
    missing = changed(stored, clip=tmp_path / "not there yet")
    with pytest.raises(ConfigError, match=r"is 48 in the CLIP .* and 32 in the embeddings .*; name the CLIP that made"):
        make_plan(missing, num_pictures=10, clip=other.replace(embedding_dim=48))


def test_a_compiler_that_is_missing_is_one_line(
    prior: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a process of its own, without the checks of annotations."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    changes = {"compile": "true", "data.folder": prior.data.folder, "task.clip": prior.task.clip}
    options = [word for name, value in changes.items() for word in ("--set", f"{name}={value}")]
    command = [
        "-m",
        "unclip",
        "train",
        "emoji/prior",
        "--smoke",
        "--device",
        "cpu",
        *options,
        "--out",
        tmp_path / "run",
    ]
    [(code, errors)] = finish(start(command, 1), timeout=300)
    assert (code, errors.count("Traceback")) == (2, 0), errors
    assert "compile=true needs a compiler that torch can use on cpu" in errors
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": float("inf")}, {"learning_rate": float("nan")}, {"weight_decay": float("inf")},
        {"betas": (2.0, 0.9)}, {"betas": (0.9, float("nan"))}, {"ema_images": float("inf")}, {"seed": -1},
        {"max_grad_norm": float("inf")}, {"text_drop_prob": float("nan")}, {"seed": 2**63},
    ],
    ids=str,
)  # fmt: skip
def test_numbers_that_are_no_settings_are_refused(change: dict[str, object], prior: TrainConfig) -> None:
    [name] = change
    with pytest.raises(ConfigError, match=name):
        changed(prior, **change)


def test_refused_runs_leave_nothing(prior: TrainConfig, tmp_path: Path) -> None:
    """Neither the folder nor those above it, whatever the reason and however late it is seen."""
    for broken in (
        prior.replace(micro_batch_size=3),
        prior.replace(ema="power", ema_sigma_rel=(0.9,)),
        changed(prior, validation_share=1.0),
        changed(prior, folder=str(tmp_path / "nowhere")),
        changed(prior, clip=tmp_path / "nowhere"),
    ):
        with pytest.raises(UnclipError):
            train(broken, tmp_path / "made" / "for" / "it", device="cpu")
        assert not (tmp_path / "made").exists()


def test_the_folder_of_a_model_is_not_trained_in(prior: TrainConfig, tiny_folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in tiny_folder.iterdir()}
    with pytest.raises(InputError, match="is the folder of a model"):
        train(prior, tiny_folder, device="cpu")
    assert {path.name: path.read_bytes() for path in tiny_folder.iterdir()} == before
