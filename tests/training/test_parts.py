"""Learning rate, weight average, augmentation and blur against closed forms."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from unclip.data import emoji_items
from unclip.runtime import seeded
from unclip.training.averages import ema_decay
from unclip.training.config import DataConfig, OptimizerConfig
from unclip.training.optimizer import learning_rate, make_optimizers
from unclip.training.task import Request, Stream
from unclip.training.tasks.clip import augment, shrink_and_restore
from unclip.training.tasks.common import draw_times
from unclip.training.tasks.degrade import blur
from unclip.training.tasks.samples import choose_captions, load_pictures


def test_warm_up_is_linear_and_the_cosine_ends_at_a_hundredth() -> None:
    config = OptimizerConfig(learning_rate=2.0, warmup_images=99, decay="cosine")
    assert learning_rate(config, 49, 1099) == pytest.approx(1.0)
    assert learning_rate(config, 99, 1099) == pytest.approx(2.0)
    assert learning_rate(config, 599, 1099) == pytest.approx(2.0 * (0.01 + 0.99 * 0.5))
    assert learning_rate(config, 1099, 1099) == pytest.approx(0.02)


def test_a_weight_loses_half_its_share_in_one_half_life() -> None:
    assert math.prod(ema_decay(10, 10**9, 1000.0) for _ in range(100)) == pytest.approx(0.5)


def test_the_half_life_is_a_tenth_of_the_images_seen_in_the_beginning() -> None:
    assert ema_decay(10, 1000, 1e9) == pytest.approx(0.5 ** (10 / 100))


def test_only_matrices_are_decayed() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    groups = make_optimizers(network, OptimizerConfig(learning_rate=1e-3, weight_decay=0.3)).param_groups
    assert [(group["weight_decay"], len(group["params"])) for group in groups] == [(0.3, 1), (0.0, 3)]


def request(count: int, rank: int = 0, size: int = 1, images_seen: int = 0) -> Request:
    slots = np.arange(count)[rank::size]
    return Request(slots, slots, count, images_seen, seed=1)


def test_times_are_table_points_and_every_batch_covers_all_of_them_evenly() -> None:
    t = draw_times(request(50), 1000)
    index = t * 1000 - 1
    torch.testing.assert_close(index, index.round(), atol=1e-9, rtol=0)
    assert torch.equal((index.sort().values // 20).long(), torch.arange(50))


def test_what_is_drawn_for_a_sample_does_not_depend_on_who_computes_it() -> None:
    for rank in range(3):
        part = request(12, rank, 3, images_seen=24)
        whole = request(12, images_seen=24)
        assert torch.equal(part.noise((2, 2)), whole.noise((2, 2))[rank::3])
        assert torch.equal(draw_times(part, 1000), draw_times(whole, 1000)[rank::3])
    shifted = request(12, images_seen=12).noise((2, 2))
    assert not torch.equal(shifted, request(12, images_seen=24).noise((2, 2)))


def test_no_two_uses_of_random_numbers_share_a_stream() -> None:
    """Also not dropout of the processes with any number as their rank, which once drew the samples' own noise."""
    indices = np.arange(1)
    drawn = [
        generator.initial_seed()
        for is_held_out in (False, True)
        for request in [Request(indices, indices, 1, 8, 0, is_held_out)]
        for generator in [*request.generators, request.shared(), request.shared(Stream.SELF_CONDITIONING)]
    ]
    drawn += [seeded(0, Stream.DROPOUT, rank, 8).initial_seed() for rank in range(64)]
    assert len(set(drawn)) == len(drawn)


def test_captions_are_dropped_at_the_given_rate() -> None:
    drawn = choose_captions([["a", "b"]] * 4000, request(4000), drop_prob=0.25)
    share = drawn.count(-1) / 4000
    assert abs(share - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 4000)
    assert abs(drawn.count(0) / 4000 - 0.375) < 0.03


def test_augmentation_without_range_changes_nothing_and_keeps_white_white() -> None:
    images = torch.rand(4, 3, 16, 16, generator=seeded(0)) * 2 - 1
    draws = torch.rand(4, 4, generator=seeded(1))
    torch.testing.assert_close(augment(images, 0.0, 0.0, draws), images, atol=1e-5, rtol=0)
    white = torch.ones(4, 3, 16, 16)
    torch.testing.assert_close(augment(white, 0.3, 45.0, draws), white, atol=1e-5, rtol=0)


def test_degrading_keeps_the_mean_and_touches_only_the_chosen() -> None:
    images = torch.rand(8, 3, 32, 32, generator=seeded(0)) * 2 - 1
    assert torch.equal(shrink_and_restore(images, 0.0, torch.rand(8, 2, generator=seeded(2))), images)
    degraded = shrink_and_restore(images, 1.0, torch.rand(8, 2, generator=seeded(2)))
    torch.testing.assert_close(degraded.mean(dim=(2, 3)), images.mean(dim=(2, 3)), atol=0.02, rtol=0)
    assert degraded.var().item() < images.var().item()


def test_blur_of_an_impulse_is_a_normalised_gaussian() -> None:
    image = torch.zeros(1, 1, 9, 9)
    image[0, 0, 4, 4] = 1.0
    sigma = torch.tensor([0.8])
    row = blur(image, sigma, sigma, torch.zeros(1), taps=5)[0, 0].sum(dim=0)
    weights = torch.exp(-0.5 * (torch.arange(-2, 3) / 0.8) ** 2)
    torch.testing.assert_close(row[2:7], weights / weights.sum())
    torch.testing.assert_close(row.sum(), torch.tensor(1.0))


def test_every_nth_picture_is_drawn_up_to_the_limit(tmp_path: Path) -> None:
    config = DataConfig(folder=tmp_path / "some", emoji_split="test", source_size=16, every=100, limit=5)
    keys = [item.key for item in emoji_items("test")]
    assert sorted(load_pictures(config, 16).keys) == sorted(keys[0:500:100])
