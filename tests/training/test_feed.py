"""Every sample once per epoch: whatever the workers, the processes, what is held out, and where a run goes on."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pytest
import torch

from shard_files import write_set
from unclip.data import ShardSet
from unclip.errors import ConfigError, DataError
from unclip.training import Batch, Cluster, Feed, Request, Samples, TrainConfig
from unclip.training.feed import held_out
from unclip.training.task import SampleSet

NUM_SAMPLES = 23


@dataclass(frozen=True)
class Names:
    """Three shards."""

    shard_sizes = (9, 4, 10)
    keys = tuple(f"sample {number}" for number in range(NUM_SAMPLES))


@dataclass(frozen=True)
class Numbers:
    """Samples that are their own numbers."""

    source: SampleSet = Names()

    def __call__(self, request: Request) -> Batch:
        return Batch({"number": torch.from_numpy(request.indices), "slot": torch.from_numpy(request.slots)})


@pytest.fixture
def config(tiny_recipe: Callable[[str], TrainConfig]) -> TrainConfig:
    return tiny_recipe("emoji/prior").replace(batch_size=6)


def feed_of(config: TrainConfig, rank: int = 0, size: int = 1, samples: Samples = Numbers()) -> Feed:
    return Feed(samples, config, Cluster(rank, size, torch.device("cpu")))


def samples_of(
    config: TrainConfig,
    num_processes: int,
    images_seen: int,
    num_steps: int,
    samples: Samples = Numbers(),
) -> list[int]:
    """The samples of some steps in the order of the whole batches."""
    shares = [
        islice(feed_of(config, rank, num_processes, samples).batches(images_seen), num_steps)
        for rank in range(num_processes)
    ]
    found = []
    for parts in zip(*shares, strict=True):
        whole = np.empty(config.batch_size, np.int64)
        for part in parts:
            whole[part["slot"].numpy()] = part["number"].numpy()
        found += whole.tolist()
    return found


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("num_workers", [0, 1, 2, 3])
@pytest.mark.parametrize("num_processes", [1, 2])
def test_every_epoch_has_every_sample_once_also_after_resuming(
    config: TrainConfig, num_workers: int, num_processes: int
) -> None:
    config = config.replace(data=config.data.replace(num_workers=num_workers, lanes=2, shuffle_shards=1))
    # 23 steps of 6 are 6 epochs of 23; the run is interrupted in the middle of the third.
    first, rest = samples_of(config, num_processes, 0, 10), samples_of(config, num_processes, 60, 13)
    epochs = np.array(first + rest).reshape(6, NUM_SAMPLES)
    for epoch in epochs:
        assert sorted(epoch) == list(range(NUM_SAMPLES))
    assert len({tuple(epoch) for epoch in epochs}) == 6
    assert first + rest == samples_of(config.replace(data=config.data.replace(num_workers=0)), 1, 0, 23)


def test_what_is_held_out_is_never_trained_on_and_chosen_by_name(config: TrainConfig) -> None:
    config = config.replace(data=config.data.replace(validation_share=0.3))
    apart = {number for part in feed_of(config).validation() for number in part["number"].tolist()}
    counts = Counter(samples_of(config, 1, 0, NUM_SAMPLES - len(apart)))
    assert apart
    assert counts.keys() == set(range(NUM_SAMPLES)) - apart
    assert set(counts.values()) == {6}
    keys = Names.keys
    assert held_out(keys[::-1], 0.3).tolist() == held_out(keys, 0.3).tolist()[::-1]
    assert np.mean(held_out([str(number) for number in range(20_000)], 0.3)) == pytest.approx(0.3, abs=0.015)


@pytest.mark.parametrize("num_processes", [2, 3, 6])
@pytest.mark.parametrize("count", [1, 7, 9, None])
def test_processes_share_what_is_held_out(config: TrainConfig, num_processes: int, count: int | None) -> None:
    """All of it in its order, in shares of equal size; what fills them up is marked."""
    config = config.replace(data=config.data.replace(validation_share=0.5))
    alone = list(feed_of(config).validation(count))
    shares = [list(feed_of(config, rank, num_processes).validation(count)) for rank in range(num_processes)]
    assert {len(share) for share in shares} == {len(alone)}
    for whole, *parts in zip(alone, *shares, strict=True):
        assert len({len(part) for part in parts}) == 1
        places = torch.cat([part["place"] for part in parts])
        rows = places >= 0
        assert sorted(places[rows].tolist()) == whole["place"].tolist() == list(range(len(whole)))
        for name in ("number", "slot"):
            assert torch.equal(torch.cat([part[name] for part in parts])[rows][places[rows].argsort()], whole[name])


def test_batches_that_processes_cannot_share_are_refused(config: TrainConfig) -> None:
    with pytest.raises(ConfigError, match="batch_size=6 cannot be shared by 4 processes"):
        feed_of(config, 0, 4)
    with pytest.raises(ConfigError, match=r"micro_batch_size=4; use a multiple of 4\."):
        feed_of(config.replace(micro_batch_size=4))
    with pytest.raises(DataError, match="no sample to train on"):
        feed_of(config.replace(data=config.data.replace(validation_share=1.0)))


KINDS = ["cat"] * 12 + ["dog"] * 6 + ["owl"] * 4 + ["yak"]
"""Of each of the 23 samples."""


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Numbers:
    """Samples of four kinds, 12, 6, 4 and 1, in three shards."""
    folder = tmp_path_factory.mktemp("zoo") / "shards"
    write_set(
        folder,
        list(Names.shard_sizes),
        infos=[{"kind": kind, "is_even": index % 2} for index, kind in enumerate(KINDS)],
    )
    return Numbers(ShardSet.open(folder))


def balanced(config: TrainConfig, zoo: Numbers, **changes: object) -> TrainConfig:
    data = config.data.replace(folder=zoo.source.location, balance=["kind"], **changes)
    return config.replace(data=data)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize(("num_processes", "num_workers"), [(1, 0), (2, 0), (3, 1)])
def test_balanced_batches_are_those_of_one_process_also_after_resuming(
    config: TrainConfig, zoo: Numbers, num_processes: int, num_workers: int
) -> None:
    config = balanced(config, zoo)
    alone = samples_of(config, 1, 0, 23, zoo)
    config = balanced(config, zoo, num_workers=num_workers)
    first, rest = (samples_of(config, num_processes, *part, zoo) for part in ((0, 10), (60, 13)))
    assert first + rest == alone
    # Six epochs of 23 draws, and four groups.
    counts = Counter(KINDS[sample] for sample in alone)
    assert all(abs(count - 6 * 23 / 4) < 1 for count in counts.values())


@pytest.mark.parametrize(
    ("power", "rarest", "largest"), [(0.0, "5.75", "0.479"), (0.5, "2.58", "0.745"), (1.0, "1", "1")]
)
def test_a_balanced_run_says_what_its_groups_are(
    config: TrainConfig, zoo: Numbers, power: float, rarest: str, largest: str
) -> None:
    """Draws of a sample per epoch: 23 times n^power / (12^power + 6^power + 4^power + 1), over n."""
    assert feed_of(balanced(config, zoo, balance_power=power), samples=zoo).notes == (
        f"balanced by kind: 4 groups of 1 to 12 samples; a sample of the rarest is seen {rarest} times an epoch, "
        f"one of the largest {largest} times.",
    )
    assert feed_of(config).notes == ()


def test_what_is_held_out_is_not_balanced(config: TrainConfig, zoo: Numbers) -> None:
    config = balanced(config, zoo, validation_share=0.4)
    feed, plain = (
        feed_of(config, samples=zoo),
        feed_of(config.replace(data=config.data.replace(balance=())), samples=zoo),
    )
    assert feed.held_out.tolist() == plain.held_out.tolist() != []
    assert {int(index) for seen in range(0, 120, 6) for index in feed.request(seen).indices} == set(plain.trained_on)
    assert feed.order.num_items == len(feed.trained_on)
