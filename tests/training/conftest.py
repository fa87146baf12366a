"""A tiny data set and a tiny CLIP that the training tests share."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from short_runs import changed, small_shards
from unclip.clip import TextImageEncoder
from unclip.data import emoji_items, write_shards
from unclip.recipes import get_recipe
from unclip.training import PriorTaskConfig, TrainConfig, train

NUM_ITEMS = {256: 16, 1024: 4}
"""Pictures by their side in pixels."""


@pytest.fixture(scope="session", autouse=True)
def _quick_runs(few_previews: None) -> None:
    del few_previews


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folders = {side: tmp_path_factory.mktemp("data") / f"shards-{side}" for side in NUM_ITEMS}
    for side, folder in folders.items():
        write_shards(folder, emoji_items("train")[: NUM_ITEMS[side]], side, "tiny")
    return folders


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory, shards: dict[int, Path]) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "clip"
    train(_tiny("emoji/clip", shards, folder), folder)
    return folder


@pytest.fixture(scope="session")
def autoencoder_folder(tmp_path_factory: pytest.TempPathFactory, shards: dict[int, Path]) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "autoencoder"
    train(_tiny("emoji/autoencoder", shards, folder), folder)
    return folder


@pytest.fixture(scope="session")
def tiny_recipe(shards: dict[int, Path], clip_folder: Path, autoencoder_folder: Path) -> Callable[[str], TrainConfig]:
    """The smoke variant of a recipe by name, on the tests' data, CLIP and autoencoder."""
    return lambda name: _tiny(name, shards, clip_folder, autoencoder_folder)


@pytest.fixture(scope="session")
def whole_run(
    tiny_recipe: Callable[[str], TrainConfig], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """The folder of an undisturbed run of `tiny_recipe`, trained once for all tests; copy it to change it."""

    @cache
    def run(name: str) -> Path:
        folder = tmp_path_factory.mktemp("whole") / name.replace("/", "-")
        train(tiny_recipe(name), folder)
        return folder

    return run


@pytest.fixture(scope="session")
def prior(tiny_recipe: Callable[[str], TrainConfig], tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """The smallest stage, no warm-up, nothing dropped, and no decay."""
    folder = small_shards(tmp_path_factory.mktemp("small") / "shards", 16, 16)
    return changed(
        tiny_recipe("emoji/prior"), folder=str(folder), emoji_split=None, dropout=0.0, trackers=(),
        learning_rate=1e-3, warmup_images=0, weight_decay=0.0, decay="constant", max_grad_norm=1e9, num_images=24,
    )  # fmt: skip


def _tiny(name: str, shards: dict[int, Path], clip: Path, autoencoder: Path | None = None) -> TrainConfig:
    """The smoke variant of a recipe on the test's own data, in float32 so that numbers are exact."""
    config = get_recipe(name, smoke=True)
    data = config.data.replace(folder=shards[config.data.source_size], limit=None)
    frozen = {"clip": clip, "autoencoder": autoencoder}
    task = config.task.replace(
        **{part: folder for part, folder in frozen.items() if getattr(config.task, part, None) is not None}
    )
    if isinstance(task, PriorTaskConfig):  # the stage of most tests, of the loop and of the data: nothing left out
        clip_config = TextImageEncoder.load(clip).clip.config
        task = task.replace(model=task.model.replace(num_text_tokens=clip_config.context_length))
        data = data.replace(balance=())
    return config.replace(
        data=data, task=task, num_images=64, checkpoint_images=32, preview_images=64, precision="float32"
    )
