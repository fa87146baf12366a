"""Devices, formats and noise: a sample's noise depends on its own seed and on nothing else."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unclip.errors import InputError
from unclip.runtime import (
    NoiseSource,
    autocast,
    forked_random_state,
    inference_dtype,
    resolve_device,
    seeded,
    seeded_generator,
)

CPU = torch.device("cpu")


def test_devices_by_name() -> None:
    assert resolve_device("cpu") == CPU
    assert resolve_device("auto").type in {"cuda", "mps", "cpu"}


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "", "meta", "hpu", "privateuseone", "xla"])
def test_an_unusable_device_is_explained(name: str) -> None:
    with pytest.raises(InputError, match=f"device '{name}' cannot be used.*auto, cpu, cuda or mps") as caught:
        resolve_device(name)
    assert "\n" not in str(caught.value)


def test_inference_dtype_is_one_of_two() -> None:
    assert inference_dtype(CPU) in {torch.bfloat16, torch.float32}
    assert inference_dtype(torch.device("meta")) == torch.float32


def test_autocast_multiplies_in_its_dtype() -> None:
    a = torch.randn(4, 4)
    with autocast(CPU, torch.bfloat16):
        assert (a @ a).dtype == torch.bfloat16
    with autocast(CPU, torch.float32):
        assert (a @ a).dtype == torch.float32


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=5), st.integers(1, 3))
def test_a_sample_does_not_depend_on_its_batch(seeds: list[int], draws: int) -> None:
    together = NoiseSource.from_seeds(seeds)
    alone = [NoiseSource.from_seeds([seed]) for seed in seeds]
    for _ in range(draws):
        batch = together((3, 5))
        assert batch.shape == (len(seeds), 3, 5)
        assert torch.equal(batch, torch.cat([source((3, 5)) for source in alone]))


def test_noise_is_what_torch_draws_from_the_seed() -> None:
    expected = torch.randn((1, 3, 8, 8), generator=torch.Generator().manual_seed(7))
    assert torch.equal(NoiseSource.from_seeds([7])((3, 8, 8)), expected)


def test_noise_ignores_the_global_stream() -> None:
    first = NoiseSource.from_seeds([1])((4,))
    torch.randn(100)
    assert torch.equal(NoiseSource.from_seeds([1])((4,)), first)


def test_a_low_precision_draw_is_the_rounded_float32_draw() -> None:
    low = NoiseSource.from_seeds([3])((64,), dtype=torch.bfloat16)
    assert torch.equal(low, NoiseSource.from_seeds([3])((64,)).bfloat16())


def test_noise_is_standard_normal() -> None:
    draw = NoiseSource.from_seeds(range(4))((50_000,))
    # Five standard errors of the mean and of the standard deviation.
    torch.testing.assert_close(draw.mean(1), torch.zeros(4), atol=5 / 50_000**0.5, rtol=0)
    torch.testing.assert_close(draw.std(1), torch.ones(4), atol=5 / 100_000**0.5, rtol=0)


def test_a_source_knows_its_length() -> None:
    assert len(NoiseSource.from_seeds([5, 6, 7])) == 3


@pytest.mark.parametrize("drawn", [1, 3, 16, 700])
def test_a_source_goes_on_from_its_state(drawn: int) -> None:
    """Also where half of a pair of normal numbers is still to come."""
    source = NoiseSource.from_seeds([5, 6])
    source((drawn,))
    again = NoiseSource.from_states(source.states)
    assert torch.equal(again((5, 5)), source((5, 5)))


@pytest.mark.parametrize("states", [torch.zeros(2, 9, dtype=torch.uint8), torch.zeros(2, 5056, dtype=torch.uint8)])
def test_what_is_no_state_is_refused(states: torch.Tensor) -> None:
    with pytest.raises(InputError, match="not the state of a random generator") as caught:
        NoiseSource.from_states(states)
    assert "\n" not in str(caught.value)


def test_seeded_streams_differ_in_every_part() -> None:
    parts = [(0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 0), (2**63 - 1, 1)]
    draws = torch.stack([torch.randn(16, generator=seeded(*part)) for part in parts])
    assert torch.unique(draws, dim=0).shape[0] == len(parts)
    assert torch.equal(torch.randn(16, generator=seeded(1, 2)), torch.randn(16, generator=seeded(1, 2)))


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
def test_small_seeds_are_torchs_own(seed: int) -> None:
    expected = torch.Generator().manual_seed(seed)
    assert torch.equal(seeded_generator(seed).get_state(), expected.get_state())


@pytest.mark.parametrize(("one", "other"), [(7, 2**32 + 7), (2**32 + 7, 2**33 + 7), (2**63 - 1, 2**62 - 1)])
def test_every_bit_of_a_seed_counts(one: int, other: int) -> None:
    draws = [NoiseSource.from_seeds([seed])((1000,)) for seed in (one, other)]
    assert abs(float((draws[0] * draws[1]).mean())) < 0.15  # 5 standard deviations; equal streams have 1
    assert float(draws[1].std()) == pytest.approx(1.0, abs=0.12)


def test_large_seeds_only_replace_the_words_of_torchs_state() -> None:
    """`manual_seed` fills the words of the state by Knuth's recurrence, so their place and format are known."""
    word, words = 9, []
    for index in range(624):
        words.append(word)
        word = (1812433253 * (word ^ (word >> 30)) + index + 1) & 0xFFFFFFFF
    state = torch.Generator().manual_seed(9).get_state()
    assert state[24 : 24 + 624 * 8].view(torch.int64).tolist() == words
    large, small = seeded_generator(2**40).get_state(), torch.Generator().manual_seed(2**40).get_state()
    differs = (large != small).nonzero().flatten()
    assert 24 <= int(differs.min()) <= int(differs.max()) < 24 + 624 * 8


def test_neighbouring_seeds_are_uncorrelated() -> None:
    draws = torch.stack([torch.randn(10_000, generator=seeded(0, step)) for step in range(20)])
    correlation = torch.corrcoef(draws) - torch.eye(20)
    torch.testing.assert_close(correlation, torch.zeros(20, 20), atol=5 / 10_000**0.5, rtol=0)


def test_a_forked_state_is_seeded_inside_and_put_back() -> None:
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    with forked_random_state(9):
        inside = torch.randn(3)
    assert torch.equal(torch.randn(3), expected)
    assert torch.equal(inside, torch.randn(3, generator=torch.Generator().manual_seed(9)))


def test_a_forked_state_is_put_back_after_an_error() -> None:
    before = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), forked_random_state(9):
        torch.randn(3).mul_(1 / 0)
    assert torch.equal(torch.get_rng_state(), before)
