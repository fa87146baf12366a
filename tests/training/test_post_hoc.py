"""Averages made after the run against those tracked during it, and the files that they are made from."""

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from unclip.checkpoint import LazyTensor, read_metadata, save_tensors
from unclip.errors import CheckpointError, InputError
from unclip.training.averages import (
    AverageRule,
    Averages,
    Profile,
    Tensors,
    fit_profile,
    inner_products,
    load_snapshots,
    power_exponent,
    reconstruct,
    save_snapshot,
)

STEPS, BATCH, EVERY = 1600, 4, 50
STORED, WANTED = (0.05, 0.1), (0.07, 0.12, 0.15)
END = STEPS * BATCH


def density(profile: Profile, t: np.ndarray) -> np.ndarray:
    gamma = power_exponent(profile.sigma_rel)
    inside = t <= profile.images_seen
    return np.where(inside, (gamma + 1) / profile.images_seen * (t / profile.images_seen) ** gamma, 0.0)


def distance(first: np.ndarray, second: np.ndarray, dt: float) -> float:
    return math.sqrt(float(np.square(first - second).sum()) * dt)


@pytest.mark.parametrize("other", [Profile(1000, 0.1), Profile(400, 0.05), Profile(1000, 0.2)])
def test_products_of_profiles_are_integrals(other: Profile) -> None:
    first, dt = Profile(1000, 0.05), 1000 / 200_000
    t = (np.arange(200_000) + 0.5) * dt
    expected = float((density(first, t) * density(other, t)).sum() * dt)
    products = inner_products([first, other])
    assert products[0, 1] == products[1, 0] == pytest.approx(expected, rel=1e-4)
    assert products[0, 0] == pytest.approx(float(np.square(density(first, t)).sum() * dt), rel=1e-4)


def test_a_stored_profile_is_fitted_by_itself() -> None:
    stored = [Profile(images, width) for images in (100, 200, 300, 400) for width in STORED]
    weights, error = fit_profile(stored, stored[5])
    assert weights == pytest.approx([0, 0, 0, 0, 0, 1, 0, 0], abs=1e-7)
    assert error == pytest.approx(0, abs=1e-6)


def test_the_error_of_a_fit_is_the_distance_of_the_densities() -> None:
    stored = [Profile(images, width) for images in (250, 500, 750, 1000) for width in STORED]
    wanted, dt = Profile(1000, 0.15), 1000 / 100_000
    t = (np.arange(100_000) + 0.5) * dt
    weights, error = fit_profile(stored, wanted)
    summed = sum(weight * density(profile, t) for weight, profile in zip(weights, stored, strict=True))
    target = density(wanted, t)
    assert error == pytest.approx(distance(summed, target, dt) / distance(target, 0 * target, dt), rel=1e-3)
    assert sum(weights) == pytest.approx(1)
    assert 0.001 < error < 0.2


@pytest.fixture(scope="module")
def run() -> tuple[dict[Profile, Tensors], dict[float, torch.Tensor], torch.Tensor]:
    """A random walk of weights: snapshots of two averages, the averages of other widths, and the walk itself."""
    generator = torch.Generator().manual_seed(2)
    walk = torch.randn(STEPS, 40, generator=generator, dtype=torch.float64).cumsum(dim=0)
    network = nn.Linear(40, 1, bias=False).double()
    widths = STORED + WANTED
    averages = Averages([copy.deepcopy(network) for _ in widths], AverageRule(sigma_rel=widths))
    snapshots: dict[Profile, Tensors] = {}
    for step, values in enumerate(walk, start=1):
        with torch.no_grad():
            network.weight.copy_(values[None])
        averages.update(network, BATCH, step * BATCH)
        if step % EVERY == 0:
            for width, average in zip(STORED, averages.networks, strict=False):
                tensors = {"weight": LazyTensor.of(average.weight.detach().clone())}
                snapshots[Profile(step * BATCH, width)] = tensors
    tracked = {width: average.weight.detach()[0] for width, average in zip(widths, averages.networks, strict=True)}
    return snapshots, tracked, walk


@pytest.mark.parametrize("width", WANTED)
def test_a_width_that_was_not_stored_is_the_one_that_was_tracked(
    width: float, run: tuple[dict[Profile, Tensors], dict[float, torch.Tensor], torch.Tensor]
) -> None:
    """By Cauchy and Schwarz the two differ by at most |p - q| |walk - its end|, norms over time: no tolerance to pick.

    What that bound leaves is small: under a hundredth of the distance between neighbouring stored averages.
    """
    snapshots, tracked, walk = run
    wanted = Profile(END, width)
    tensors, average = reconstruct(snapshots, wanted)
    found = tensors["weight"].read()[0].double()
    assert average == (END, len(snapshots), fit_profile(list(snapshots), wanted)[1])
    norm = ((walk - walk[-1]).square().sum(dim=0) * BATCH).sqrt()
    bound = average.error * math.sqrt(inner_products([wanted])[0, 0]) * norm
    difference = (found - tracked[width]).abs()
    assert (difference <= bound + 1e-5 * walk.abs().max()).all()
    spread = (tracked[0.05] - tracked[0.1]).square().mean().sqrt()
    assert difference.square().mean().sqrt() < 0.01 * spread


def test_an_earlier_moment_is_reconstructed_from_what_was_stored_until_then(
    run: tuple[dict[Profile, Tensors], dict[float, torch.Tensor], torch.Tensor],
) -> None:
    snapshots, _, _ = run
    wanted = Profile(END // 2, 0.1)
    tensors, average = reconstruct(dict(reversed(snapshots.items())), wanted)
    assert average.num_snapshots == len(snapshots) // 2
    expected = snapshots[wanted]["weight"].read().float()
    torch.testing.assert_close(tensors["weight"].read(), expected, rtol=1e-5, atol=1e-4)


def test_constants_and_whole_numbers_come_back_bit_for_bit() -> None:
    constant = torch.rand(1000) * 100
    snapshots = {
        Profile(images, width): {"mean": LazyTensor.of(constant), "seen": LazyTensor.of(torch.tensor([images]))}
        for images in (100, 200, 300, 400)
        for width in STORED
    }
    made, _ = reconstruct(snapshots, Profile(400, 0.18))
    assert torch.equal(made["mean"].read(), constant)
    assert torch.equal(made["seen"].read(), torch.tensor([400]))


def test_snapshots_come_back_from_their_files_oldest_first(tmp_path: Path) -> None:
    written = {Profile(images, width): torch.randn(5, 3) for images in (2_000_000, 300, 10**10) for width in STORED}
    paths = [save_snapshot(tmp_path, profile, {"weight": LazyTensor.of(w)}) for profile, w in written.items()]
    assert paths[0] == tmp_path / "averages" / "000002000000-0.05.safetensors"
    assert read_metadata(paths[0])["storage"] == "float32"
    found = load_snapshots(tmp_path)
    assert list(found) == sorted(written)
    assert all(torch.equal(tensors["weight"].read(), written[profile]) for profile, tensors in found.items())


def test_what_cannot_be_averaged_is_one_line(tmp_path: Path) -> None:
    snapshots: dict[Profile, Tensors] = {Profile(300, 0.1): {"weight": LazyTensor.of(torch.ones(3))}}
    with pytest.raises(InputError, match=r"^no snapshot of an average up to images=200: the first was taken at 300;"):
        reconstruct(snapshots, Profile(200, 0.1))
    with pytest.raises(InputError, match="there is none; train with ema=power"):
        reconstruct(load_snapshots(tmp_path), Profile(200, 0.1))
    other: dict[Profile, Tensors] = {Profile(400, 0.1): {"weight": LazyTensor.of(torch.ones(4))}}
    with pytest.raises(CheckpointError, match=r"at 300 and 400 images are of different networks \(weight\)"):
        reconstruct(snapshots | other, Profile(400, 0.1))
    save_tensors(tmp_path / "averages" / "stray.safetensors", {"weight": torch.ones(3)}, {})
    with pytest.raises(CheckpointError, match=r"stray\.safetensors is no snapshot of an average"):
        load_snapshots(tmp_path)
