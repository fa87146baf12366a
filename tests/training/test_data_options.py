"""Every setting of a run's data changes what its text says."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from shard_files import write_set
from short_runs import ALONE, changed, first_batch, options, small_shards, steps
from unclip.clip import TextImageEncoder
from unclip.data import ShardSet, emoji_items, open_pictures
from unclip.errors import DataError
from unclip.pipelines import embed
from unclip.training import DataConfig, Feed, TrainConfig, make_task, train
from unclip.training.feed import held_out
from unclip.training.tasks.common import load_pictures

# Stored features are float16, of numbers near 1; losses of two steps then move by this share.
FLOAT16 = 2e-3
Recipe = Callable[[str], TrainConfig]
SHARD_SIZES = [6, 6, 6, 6]


@pytest.fixture(scope="module")
def prior(tiny_recipe: Callable[[str], TrainConfig], tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    folder = small_shards(tmp_path_factory.mktemp("small") / "shards", 16, 16)
    return changed(tiny_recipe("emoji/prior"), folder=str(folder), emoji_split=None, dropout=0.0)


@pytest.fixture(scope="module")
def four_shards(prior: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """Greys in four shards, 24 in all; a batch is six of them."""
    folder = tmp_path_factory.mktemp("greys") / "shards"
    write_set(folder, SHARD_SIZES, 16)
    return changed(prior, folder=str(folder), batch_size=6)


def epoch(config: TrainConfig) -> np.ndarray:
    """The shard of each sample of the first epoch, a row for each batch; every sample comes once."""
    feed = Feed(make_task(config, ALONE.device).samples, config, ALONE)
    rows = np.stack([feed.request(seen).indices for seen in range(0, sum(SHARD_SIZES), config.batch_size)])
    assert sorted(rows.flat) == list(range(sum(SHARD_SIZES)))
    return rows // SHARD_SIZES[0]


def test_the_pictures_are_those_of_the_folder(four_shards: TrainConfig) -> None:
    keys = make_task(four_shards, ALONE.device).samples.source.keys
    assert list(keys) == [f"{number:05d}" for number in range(24)]


def test_the_emoji_set_is_rasterised_as_the_settings_say(tmp_path: Path) -> None:
    for split in ("train", "test"):
        config = DataConfig(folder=tmp_path / split, emoji_split=split, source_size=20, every=100, limit=3)
        pictures = load_pictures(config, 16)
        assert set(pictures.keys) == {item.key for item in emoji_items(split)[:300:100]}
        assert open_pictures(config.folder, [20], cache=False).item(0).pixels[20].shape == (20, 20, 3)
    with pytest.raises(Exception, match="smaller than image_size=21"):
        open_pictures(config.folder, [21], cache=False).item(0)


@pytest.mark.parametrize("hidden", [True, False])
def test_stored_embeddings_give_the_losses_of_computed_ones(prior: TrainConfig, tmp_path: Path, hidden: bool) -> None:
    out = tmp_path / "embeddings"
    embed(prior.data.folder, TextImageEncoder.load(prior.task.clip), out, hidden=hidden, num_workers=0)
    stored = changed(prior, embeddings=str(out))
    batch = first_batch(stored)
    assert "pixels" not in batch.tensors
    assert ("text_hidden" in batch.tensors) == hidden
    computed = steps(prior, 3).losses
    assert steps(stored, 3).losses == pytest.approx(computed, rel=FLOAT16)


def test_a_decoder_trains_without_the_pictures_whose_embedding_is_missing(
    tiny_recipe: Recipe, tmp_path: Path, clip_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few, all_of_them = (small_shards(tmp_path / f"shards-{count}", 16, count) for count in (8, 16))
    embed(few, TextImageEncoder.load(clip_folder), tmp_path / "embeddings", num_workers=0)
    config = changed(tiny_recipe("emoji/decoder"), folder=str(all_of_them), emoji_split=None, image_size=16)
    config = changed(config, embeddings=str(tmp_path / "embeddings"), num_images=8, trackers=(), preview_images=16)
    with pytest.raises(DataError, match="has no embedding of 8 of 16 pictures"):
        train(config, tmp_path / "run", device="cpu")
    train(changed(config, missing_embeddings="skip"), tmp_path / "run", device="cpu")
    assert "8 of 16 pictures have no embedding and are skipped" in capsys.readouterr().err


@pytest.mark.parametrize("change", [{"cache": False}, {"num_workers": 2}])
def test_how_pictures_are_read_does_not_change_the_losses(prior: TrainConfig, change: dict[str, int]) -> None:
    assert steps(changed(prior, **change), 3).losses == steps(prior, 3).losses


def test_cache_is_a_file_beside_the_shards(prior: TrainConfig, tmp_path: Path) -> None:
    write_set(tmp_path, [3], 16)
    for cache, count in ((False, 0), (True, 1)):
        make_task(changed(prior, folder=str(tmp_path), cache=cache), ALONE.device)
        assert len(list(tmp_path.glob(".cache-16-*.npy"))) == count


def test_shuffling_within_one_shard_at_a_time_ends_a_shard_before_the_next(four_shards: TrainConfig) -> None:
    assert (np.ptp(epoch(changed(four_shards, shuffle_shards=1)), axis=1) == 0).all()
    pairs = epoch(changed(four_shards, shuffle_shards=2)).reshape(2, 12)
    assert [len(set(half)) for half in pairs.tolist()] == [2, 2]
    assert np.ptp(epoch(four_shards), axis=1).min() > 0


def test_lanes_read_shards_of_their_own(four_shards: TrainConfig) -> None:
    shards = epoch(changed(four_shards, lanes=2)).reshape(-1)
    assert set(shards[0::2]) | set(shards[1::2]) == {0, 1, 2, 3}
    assert not set(shards[0::2]) & set(shards[1::2])
    assert set(epoch(four_shards).reshape(-1)[0::2]) == {0, 1, 2, 3}


def test_what_is_held_out_is_never_trained_on(four_shards: TrainConfig) -> None:
    config = changed(four_shards, validation_share=0.3)
    task = make_task(config, ALONE.device)
    feed = Feed(task.samples, config, ALONE)
    apart = set(np.flatnonzero(held_out(task.samples.source.keys, 0.3)))
    assert 0 < len(apart) < 24
    assert set(feed.held_out) == apart
    trained = {int(index) for seen in range(0, 120, 6) for index in feed.request(seen).indices}
    assert trained == set(range(24)) - apart
    assert len(Feed(task.samples, four_shards, ALONE).held_out) == 0


def test_damaged_samples_are_counted_and_named_and_the_run_goes_on(
    prior: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for cache in (True, False):
        folder = tmp_path / str(cache)
        small_shards(folder, 16)
        keys = ShardSet.open(folder).keys
        [shard] = folder.glob("*.tar")
        content = bytearray(shard.read_bytes())
        for damaged in (2, 5):
            start = ShardSet.open(folder).sample(damaged).picture
            place = bytes(content).index(start)
            content[place : place + 16] = bytes(16)
        shard.write_bytes(content)
        config = changed(prior, folder=str(folder), cache=cache, embed="every_step", trackers=(), num_images=24)
        train(config, tmp_path / f"run-{cache}", device="cpu")
        lines = [json.loads(line) for line in (tmp_path / f"run-{cache}" / "log.jsonl").read_text().splitlines()]
        # Eight samples, of which two are damaged, in each of three epochs of one batch.
        assert [line["skipped_samples"] for line in lines] == [2.0, 2.0, 2.0]
        told = [line for line in capsys.readouterr().err.splitlines() if "skipped a sample" in line]
        assert len(told) == 2
        assert all(any(keys[damaged] in line for line in told) for damaged in (2, 5))
        assert all(torch.isfinite(torch.tensor(line["loss"])) for line in lines)


SHOWN = {
    "folder": test_the_pictures_are_those_of_the_folder,
    "emoji_split": test_the_emoji_set_is_rasterised_as_the_settings_say,
    "source_size": test_the_emoji_set_is_rasterised_as_the_settings_say,
    "limit": test_the_emoji_set_is_rasterised_as_the_settings_say,
    "every": test_the_emoji_set_is_rasterised_as_the_settings_say,
    "embeddings": test_stored_embeddings_give_the_losses_of_computed_ones,
    "missing_embeddings": test_a_decoder_trains_without_the_pictures_whose_embedding_is_missing,
    "cache": test_cache_is_a_file_beside_the_shards,
    "shuffle_shards": test_shuffling_within_one_shard_at_a_time_ends_a_shard_before_the_next,
    "lanes": test_lanes_read_shards_of_their_own,
    "num_workers": test_how_pictures_are_read_does_not_change_the_losses,
    "validation_share": test_what_is_held_out_is_never_trained_on,
}


def test_every_setting_has_its_test() -> None:
    assert options(DataConfig) == set(SHOWN)
