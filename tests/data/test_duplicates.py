"""Pictures that look the same are found, however they were saved, and no others; blocks find what brute force finds."""

import io

import numpy as np
import pytest
import scipy.fft
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from pictures import encoded, picture
from unclip.data import perceptual_hash
from unclip.data.duplicates import MAX_COLOUR_DIFFERENCE, Look, _masks, _pairs, find_duplicates, look_of
from unclip.errors import InputError


def differing_bits(a: Image.Image, b: Image.Image) -> int:
    return (perceptual_hash(a) ^ perceptual_hash(b)).bit_count()


def test_the_hash_is_the_dct_of_scipy_against_its_median() -> None:
    image = picture(3, 32, 32)
    frequencies = scipy.fft.dctn(np.asarray(image.convert("L"), dtype=float))[1:9, 1:9]
    bits = (frequencies > np.median(frequencies)).reshape(-1)
    assert perceptual_hash(image) == int("".join(str(int(bit)) for bit in bits), 2)


# Half of the bits are set by the median, so different pictures differ in 32 +- 4 of them.
def test_different_pictures_differ_in_half_of_the_bits() -> None:
    hashes = [perceptual_hash(picture(seed)) for seed in range(60)]
    distances = [(a ^ b).bit_count() for index, a in enumerate(hashes) for b in hashes[:index]]
    assert abs(float(np.mean(distances)) - 32) < 1
    assert min(distances) > 4


@pytest.mark.parametrize("seed", range(5))
def test_saving_and_scaling_change_few_bits(seed: int) -> None:
    original = picture(seed, 200, 160)
    jpeg = Image.open(io.BytesIO(encoded(original, "JPEG", quality=60)))
    brighter = ImageEnhance.Brightness(original).enhance(0.9)
    for same in (jpeg, original.resize((75, 60)), original.resize((500, 400)), brighter):
        assert differing_bits(original, same) <= 4


def test_another_colour_is_another_picture() -> None:
    red, blue = (Image.new("RGB", (64, 64), colour) for colour in ("red", "blue"))
    assert perceptual_hash(red) == perceptual_hash(blue) == 0
    assert find_duplicates([look_of(image) for image in (red, blue, red)], 4) == [(2, 0, 0)]


def brute_force(looks: list[Look], max_distance: int) -> list[tuple[int, int, int]]:
    found = []
    for index, look in enumerate(looks):
        for first, other in enumerate(looks[:index]):
            distance = (look.hash ^ other.hash).bit_count()
            apart = max(abs(a - b) for a, b in zip(look.colours, other.colours, strict=True))
            if distance <= max_distance and apart <= MAX_COLOUR_DIFFERENCE:
                found.append((index, first, distance))
                break
    return found


@given(st.integers(0, 2**31), st.integers(0, 16), st.integers(0, 60))
def test_blocks_find_what_brute_force_finds(seed: int, max_distance: int, count: int) -> None:
    random = np.random.default_rng(seed)
    origins = random.integers(0, 2**64, 4, dtype=np.uint64).tolist()
    looks = []
    for _ in range(count):
        flips = random.choice(64, random.integers(0, 12), replace=False)
        shade = bytes(random.choice([0, 20, 40], 48).astype(np.uint8)) if random.random() < 0.3 else bytes(48)
        looks.append(Look(origins[random.integers(4)] ^ sum(2 ** int(bit) for bit in flips), shade))
    assert find_duplicates(looks, max_distance) == brute_force(looks, max_distance)


# Random hashes agree in a mask of b bits in n^2 / 2^(b+1) pairs; d = 4 has 15 masks of 20 to 22 bits.
def test_far_fewer_pairs_are_compared_than_there_are() -> None:
    count, masks = 30_000, _masks(4)
    hashes = np.random.default_rng(0).integers(0, 2**64, count, dtype=np.uint64)
    compared = sum(len(earlier) for mask in masks for earlier, _ in _pairs(hashes & np.uint64(mask)))
    expected = sum(count**2 / 2 ** (mask.bit_count() + 1) for mask in masks)
    assert abs(compared / expected - 1) < 0.1
    assert expected < (count**2 / 2) / 100_000
    assert find_duplicates([Look(value, bytes(48)) for value in hashes.tolist()], 4) == []


@pytest.mark.parametrize("max_distance", [0, 1, 4, 16])
def test_hashes_within_the_distance_agree_in_a_mask(max_distance: int) -> None:
    masks, random = _masks(max_distance), np.random.default_rng(0)
    for _ in range(200):
        flipped = sum(2 ** int(bit) for bit in random.choice(64, max_distance, replace=False))
        assert any(mask & flipped == 0 for mask in masks)


def test_distances_out_of_range_are_refused() -> None:
    for distance in (-1, 17):
        with pytest.raises(InputError, match=f"max_distance={distance} is out of range"):
            find_duplicates([], distance)
    assert find_duplicates([], 4) == []
