"""Every setting of a run's data changes what its text says."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from embedding_files import write_arrays, write_tables
from shard_files import picture, write_set, write_tar
from short_runs import ALONE, changed, first_batch, of_pixels, options, small_shards, steps, stop_after
from unclip.checkpoint import load_tensors
from unclip.clip import TextImageEncoder
from unclip.config import override
from unclip.data import EmbeddingSet, ShardSet, embed, emoji_items, open_pictures
from unclip.errors import ConfigError, DataError, TrainingError
from unclip.training import DataConfig, Feed, TrainConfig, make_task, train
from unclip.training.feed import held_out
from unclip.training.tasks.samples import load_pictures, read_items

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


def test_compositions_are_drawn_with_the_train_split(tmp_path: Path) -> None:
    config = DataConfig(folder=tmp_path / "a", emoji_split="train", source_size=64, every=100, limit=3, compositions=50)
    pictures = load_pictures(config, 32)
    # As many as `limit` says, of drawings of the whole split.
    assert set(pictures.keys) == {item.key for item in emoji_items("train")[:300:100]} | {
        *("noto/composition-000000", "twemoji/composition-000001", "fluent/composition-000002"),
    }
    for split in ("test", None):
        with pytest.raises(ConfigError, match=f"data.compositions=1 are made of .* data.emoji_split={split}"):
            DataConfig(folder=tmp_path, emoji_split=split, compositions=1)


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


@pytest.mark.parametrize("is_hidden_read", [True, False])
@pytest.mark.parametrize(("with_texts", "with_captions"), [(True, True), (False, True), (True, False), (False, False)])
def test_layouts_of_other_programs_give_the_losses_of_our_own(
    prior: TrainConfig, tmp_path: Path, is_hidden_read: bool, with_texts: bool, with_captions: bool
) -> None:
    pytest.importorskip("pyarrow")
    own, other = tmp_path / "own", tmp_path / "other"
    embed(prior.data.folder, TextImageEncoder.load(prior.task.clip), own, num_workers=0)
    stored = EmbeddingSet.open(own)
    count = len(stored)
    write_arrays(other, "img_emb", {"0": stored.image(np.arange(count)).half().numpy()})
    if with_texts:
        write_arrays(other, "text_emb", {"0": stored.text([(row, 0) for row in range(count)]).embedding.half().numpy()})
    if with_captions:
        write_tables(
            other, {"0": {"key": list(stored.keys), "TEXT": [stored.captions(row)[0] for row in range(count)]}}
        )
    config = prior if is_hidden_read else changed(prior, num_text_tokens=0)
    config = changed(config, embeddings=str(other), text_drop_prob=0.2)
    if not with_captions and (is_hidden_read or not with_texts):
        message = "set task.model.num_text_tokens=0" if with_texts else "holds image embeddings alone"
        with pytest.raises(DataError, match=message):
            make_task(config, ALONE.device)
        return
    batch = first_batch(config)
    assert ("text_embedding" in batch.tensors) == (with_texts and not is_hidden_read)
    shards, plain = ShardSet.open(prior.data.folder), tmp_path / "plain"
    samples = [shards.sample(row) for row in range(count)]
    first = {f"{sample.key}.txt": sample.captions[0].encode() for sample in samples}
    write_tar(plain / "0.tar", {**{f"{sample.key}.png": sample.picture for sample in samples}, **first})
    embed(plain, TextImageEncoder.load(prior.task.clip), tmp_path / "first", num_workers=0)
    ours = changed(config, embeddings=str(tmp_path / "first"))
    assert steps(config, 3).losses == pytest.approx(steps(ours, 3).losses, rel=FLOAT16)


def test_pictures_without_an_embedding_are_skipped_where_that_is_allowed(
    prior: TrainConfig, tiny_recipe: Callable[[str], TrainConfig], tmp_path: Path
) -> None:
    config = changed(of_pixels(tiny_recipe("emoji/decoder")), emoji_split=None)
    size = config.task.model.image_size
    write_set(tmp_path / "set", [3, 1], size)
    embed(tmp_path / "set", TextImageEncoder.load(prior.task.clip), tmp_path / "embeddings", num_workers=0)
    write_set(tmp_path / "set", [3, 1, 1], size)
    config = changed(config, folder=str(tmp_path / "set"), embeddings=str(tmp_path / "embeddings"))
    for share in (0.0, 0.19):
        with pytest.raises(
            DataError, match=r"no embedding of 00004 and 0 more of 5 .*data\.missing_share=0\.2, or embed"
        ):
            make_task(changed(config, missing_share=share), ALONE.device)
    task = make_task(changed(config, missing_share=0.2), ALONE.device)
    assert "1 of 5 pictures are skipped: no embedding." in task.notes
    _, indices, skipped = read_items(task.samples.source, [3, 4])
    assert (indices.tolist(), skipped) == ([3, 0], ("00004 has no embedding",))
    with pytest.raises(DataError, match=r"no embedding of x and 0 more of 1 samples; embed these"):
        EmbeddingSet.open(tmp_path / "embeddings").find(["x"], 1.0)


@pytest.mark.parametrize("cache", [True, False])
def test_what_has_no_caption_is_counted_or_refused_before_training(
    prior: TrainConfig, tmp_path: Path, cache: bool
) -> None:
    config = changed(prior, folder=str(tmp_path), cache=cache)
    write_tar(
        tmp_path / "a.tar",
        {f"{key}.{suffix}": content for key in "ab" for suffix, content in (("png", picture(16)), ("cls", b"7"))},
    )
    with pytest.raises(DataError, match=r"none of 2 pictures in .*unclip data prepare --caption-column FIELD"):
        make_task(config, ALONE.device)
    write_tar(tmp_path / "b.tar", {"c.png": picture(16), "c.txt": b"a cat"})
    assert make_task(config, ALONE.device).notes == ("2 of 3 pictures have no caption; their text is empty.",)


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


@pytest.fixture(scope="module")
def uneven(prior: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """Twelve greys in two shards: one bright, eleven dark; a batch is six of them."""
    folder = tmp_path_factory.mktemp("uneven") / "shards"
    write_set(folder, [6, 6], 16, infos=[{"is": "bright" if number == 7 else "dark"} for number in range(12)])
    return changed(prior, folder=str(folder), batch_size=6)


def num_bright(config: TrainConfig, num_images: int = 120) -> int:
    """How often the bright one is drawn in the first ten epochs."""
    feed = Feed(make_task(config, ALONE.device).samples, config, ALONE)
    return sum(int((feed.request(seen).indices == 7).sum()) for seen in range(0, num_images, 6))


def test_balance_draws_groups_equally_often(uneven: TrainConfig) -> None:
    assert num_bright(uneven) == 10
    assert num_bright(changed(uneven, balance=["is"])) == 60


def test_balance_power_lies_between_groups_and_samples(uneven: TrainConfig) -> None:
    drawn = [num_bright(changed(uneven, balance=["is"], balance_power=power)) for power in (0.0, 0.5, 1.0)]
    assert drawn == [60, pytest.approx(120 / (1 + 11**0.5), abs=1), 10]


def test_balance_takes_stored_features_whose_pictures_have_the_fields(uneven: TrainConfig, tmp_path: Path) -> None:
    out = tmp_path / "embeddings"
    embed(uneven.data.folder, TextImageEncoder.load(uneven.task.clip), out, num_workers=0)
    stored = changed(uneven, balance=["is"], embeddings=str(out))
    assert num_bright(stored) == 60
    with pytest.raises(DataError, match=r"^data\.balance reads the \.json .* does not hold 00000 and 11 more of 12"):
        num_bright(changed(stored, folder=str(small_shards(tmp_path / "others", 16, 2))))


def test_a_field_that_is_missing_is_refused_with_those_that_exist(uneven: TrainConfig) -> None:
    with pytest.raises(
        DataError, match=r'data\.balance=\["iz"\]: .*00000 has no .iz.; did you mean .is.\? allowed: is\.'
    ):
        num_bright(changed(uneven, balance=["iz"]))


@pytest.mark.parametrize(("change", "found"), [({"lanes": 2}, "null and .*=2"), ({"shuffle_shards": 3}, "3 and .*=1")])
def test_balance_is_refused_where_shards_are_streamed(change: dict[str, int], found: str) -> None:
    message = (
        rf"^data\.balance=a,b draws .*data\.shuffle_shards={found} stream .*; allowed are null and 1: "
        r"set data\.shuffle_shards=null data\.lanes=1, or data\.balance=\[\]\.$"
    )
    with pytest.raises(ConfigError, match=message):
        DataConfig(folder="x", balance=("a", "b"), **change)


def test_fields_may_be_separated_by_commas(uneven: TrainConfig) -> None:
    for text in ("is, design", '["is", "design"]'):
        assert override(uneven, {"data.balance": text}).data.balance == ("is", "design")


def test_a_balanced_run_that_was_interrupted_equals_one_that_was_not(
    uneven: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = changed(uneven, balance=["is"], trackers=(), num_images=48, checkpoint_images=100)
    train(config, tmp_path / "whole", device="cpu")
    assert (
        "balanced by is: 2 groups of 1 to 11 samples; a sample of the rarest is seen 6 times" in capsys.readouterr().err
    )
    with monkeypatch.context() as patch:
        assert train(config, tmp_path / "halves", device="cpu", stopped=stop_after(3, patch)) == (3, 18)
    train(config, tmp_path / "halves", device="cpu")
    whole, halves = (
        load_tensors(tmp_path / name / "checkpoint-00000008.safetensors").tensors for name in ("whole", "halves")
    )
    assert whole.keys() == halves.keys()
    assert all(torch.equal(whole[name], halves[name]) for name in whole)
    with pytest.raises(TrainingError, match=r"data\.balance: \['is'\] there, \[\] asked"):
        train(changed(config, balance=()), tmp_path / "whole", device="cpu")


SHOWN = {
    "folder": test_the_pictures_are_those_of_the_folder,
    "emoji_split": test_the_emoji_set_is_rasterised_as_the_settings_say,
    "source_size": test_the_emoji_set_is_rasterised_as_the_settings_say,
    "limit": test_the_emoji_set_is_rasterised_as_the_settings_say,
    "every": test_the_emoji_set_is_rasterised_as_the_settings_say,
    "compositions": test_compositions_are_drawn_with_the_train_split,
    "embeddings": test_stored_embeddings_give_the_losses_of_computed_ones,
    "missing_share": test_pictures_without_an_embedding_are_skipped_where_that_is_allowed,
    "cache": test_cache_is_a_file_beside_the_shards,
    "shuffle_shards": test_shuffling_within_one_shard_at_a_time_ends_a_shard_before_the_next,
    "lanes": test_lanes_read_shards_of_their_own,
    "num_workers": test_how_pictures_are_read_does_not_change_the_losses,
    "validation_share": test_what_is_held_out_is_never_trained_on,
    "balance": test_balance_draws_groups_equally_often,
    "balance_power": test_balance_power_lies_between_groups_and_samples,
}


def test_every_setting_has_its_test() -> None:
    assert options(DataConfig) == set(SHOWN)
