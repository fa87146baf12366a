"""Embed 32 bits in the brightness of a picture, invisibly, and read them from a compressed, scaled or cropped copy.

The mark is a sum of five periodic patterns of fixed random phases, two periods to the picture's side: one stays in
place, each of the others is shifted, and the shifts are the payload. The phases are public: whoever reads them can
remove or forge a mark, so a mark tells where a picture probably comes from and proves nothing.
"""

import hashlib
import math
import zlib
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Complex64, Float32, Int
from PIL import Image

from unclip.errors import InputError
from unclip.pictures import coverage_of, on_white

NUM_BITS = 32
MODES = ("L", "LA", "RGB", "RGBA")
MAX_FALSE_ALARM = 1e-6
PSNR = 43.0
"""Of a flat marked picture in dB, before its pixels are rounded to whole numbers; of a textured one down to 40.4."""
TILES = 2  # periods to the side of a square of the picture's area: a crop to half of each side holds a whole tile
LOW, HIGH = 8, 26  # cycles a tile; at 256 px wavelengths of 16 to 5 px, which JPEG, WebP and half the size leave
NUM_PATTERNS = 5  # one for the place, four for 10 bits each: the payload and 8 bits that check it
LATTICE = 32  # shifts to a tile's side
GRID = 4 * LATTICE  # positions to a tile's side at which a pattern is looked for
SCALES = 1.016 ** np.arange(-31, 30)  # side of the marked picture in sides of the one at hand: 0.61 to 1.58
WORKING_SIDE = 192  # pixels to which larger pictures are reduced: 2.2 to the shortest wave at the smallest scale
ROWS, COLUMNS = np.arange(-HIGH, HIGH + 1), np.arange(HIGH + 1)  # cycles; other waves are conjugates of these


class Watermark(NamedTuple):
    """What was read from a picture; `payload` has a meaning only where `is_present`."""

    payload: int
    false_alarm: float
    """Bound on the probability that an unmarked picture looks at least so marked; 1 if the check bits disagree."""

    @property
    def is_present(self) -> bool:
        """Whether at most one unmarked picture in a million looks so marked."""
        return self.false_alarm <= MAX_FALSE_ALARM


def embed_watermark(picture: Image.Image, payload: int) -> Image.Image:
    """Return a copy of `picture` (L, LA, RGB or RGBA) that carries `payload`, at a PSNR of 40 to 43 dB.

    Alpha stays as it is, and so do fully transparent pixels, which the PSNR leaves out. Raises `InputError` for other
    modes, and for a payload outside of [0, 2³²).
    """
    if not 0 <= payload < 2**NUM_BITS:
        raise InputError(f"payload={payload} does not fit in {NUM_BITS} bits; use 0 to {2**NUM_BITS - 1}.")
    if picture.mode not in MODES:
        raise InputError(f"a picture of mode {picture.mode} takes no watermark; convert it to {', '.join(MODES)}.")
    pixels = np.array(picture)
    layers = pixels.reshape(*pixels.shape[:2], -1)
    colours = layers[..., : 1 if picture.mode in ("L", "LA") else 3]
    is_visible = np.asarray(coverage_of(picture)) > 0
    if not is_visible.any():
        return picture.copy()
    values = colours[is_visible].astype(np.float32)
    grey = colours.mean(axis=2, dtype=np.float32)
    contrast = np.sqrt(np.maximum(_local_mean(grey**2) - _local_mean(grey) ** 2, 0))
    # Texture hides more than flat areas do, so there the mark is up to 1.34 times as strong (2.5 dB).
    weights = np.sqrt(np.minimum(1 + contrast / 6, 1.8))
    mark = (_draw(payload, grey.shape) * weights)[is_visible][:, None]
    strength = 255 * 10 ** (-PSNR / 20)
    target = strength * math.sqrt(np.mean(weights[is_visible] ** 2))
    sample = slice(None, None, 1 + len(values) // 2**16)  # enough pixels to know the error by
    for _ in range(4):  # makes up for what black and white cut off: on white, the darker half is left
        changes = np.clip(values[sample] + strength * mark[sample], 0, 255) - values[sample]
        strength *= min(2.0, target / max(math.sqrt(np.mean(changes**2)), 1e-3))
    colours[is_visible] = np.clip(np.rint(values + strength * mark), 0, 255)
    marked = picture.copy()
    marked.paste(Image.fromarray(pixels))
    return marked


def detect_watermark(picture: Image.Image) -> Watermark:
    """Read a mark from a picture of any mode, on white, whatever its scale and position among `SCALES` and shifts.

    With random phases a normalised correlation exceeds t with probability at most exp(-t²/2), whatever the picture
    (Chernoff's bound, as each wave adds a cosine of a uniform phase); `false_alarm` is this times the number of all
    scales, positions and payloads.
    """
    luma = whiten(picture)
    matches = [match(correlate(luma, scale)) for scale in SCALES]
    score, places = max(matches, key=lambda scored: scored[0])
    down, right = np.divmod(places, LATTICE)
    shifts = (down[1:] - down[0]) % LATTICE * LATTICE + (right[1:] - right[0]) % LATTICE
    code = sum(int(shift) << 10 * index for index, shift in enumerate(shifts))
    log_bound = math.log(len(SCALES) * GRID**2 * 2**NUM_BITS) - score**2 / 2
    is_valid = code == _with_check(code >> 8)
    return Watermark(code >> 8, math.exp(min(log_bound, 0.0)) if is_valid else 1.0)


def whiten(picture: Image.Image) -> Float32[np.ndarray, "height width"]:
    """Take the luma of a picture without its coarse shapes, and divide it by its contrast: edges then weigh little."""
    luma = on_white(picture).convert("F")
    reduction = max(1.0, math.sqrt(luma.width * luma.height) / WORKING_SIDE)
    size = [max(1, round(side / reduction)) for side in luma.size]
    values = np.asarray(luma.resize((size[0], size[1]), Image.Resampling.LANCZOS))
    detail = values - _local_mean(values)
    # 9 is the variance of a mark and of JPEG's noise; the power lies between whitening (1/2) and a matched filter (1).
    return detail / (_local_mean(detail**2) + 9) ** 0.875


def correlate(luma: Float32[np.ndarray, "height width"], scale: float) -> Float32[np.ndarray, "patterns grid grid"]:
    """Correlate luma with each pattern at each position in a tile; without a mark the values have a variance of 1."""
    tile, keys = scale * math.sqrt(luma.size) / TILES, _keys()
    spectrum = _waves(luma.shape[0], tile, ROWS).conj().T @ (luma @ _waves(luma.shape[1], tile, COLUMNS).conj())
    amplitudes = np.maximum(np.abs(spectrum), 1e-6)
    spectrum /= np.sqrt(amplitudes * amplitudes[keys[0] != 0].sum() / 2)  # half whitened, then of variance 1
    products = np.zeros((NUM_PATTERNS, GRID, len(COLUMNS)), dtype=np.complex64)
    products[:, ROWS] = spectrum * keys.conj()
    products[..., 0] *= 2  # irfft counts all other columns twice, as their own conjugates
    return np.fft.irfft(np.fft.ifft(products, axis=1), n=GRID) * (GRID**2 / 2)


def match(
    correlations: Float32[np.ndarray, "patterns grid grid"],
) -> tuple[float, Int[np.ndarray, " patterns"]]:
    """Sum each pattern's largest value on the same lattice; returns the best sum, of variance 1, and the places."""
    step = GRID // LATTICE
    lattices = correlations.reshape(NUM_PATTERNS, LATTICE, step, LATTICE, step).transpose(2, 4, 0, 1, 3)
    lattices = lattices.reshape(step**2, NUM_PATTERNS, LATTICE**2)
    scores = lattices.max(axis=2).sum(axis=1) / math.sqrt(NUM_PATTERNS)
    best = scores.argmax()
    return float(scores[best]), lattices[best].argmax(axis=1)


def _draw(payload: int, shape: tuple[int, ...]) -> Float32[np.ndarray, "height width"]:
    """Draw the sum of the shifted patterns, of variance 1."""
    keys, code, tile = _keys(), _with_check(payload), math.sqrt(math.prod(shape)) / TILES
    total = keys[0].copy()
    for index, key in enumerate(keys[1:]):
        down, right = divmod(code >> 10 * index & 1023, LATTICE)
        total += key * np.exp(-2j * np.pi * (ROWS[:, None] * down + COLUMNS * right) / LATTICE)
    rows, columns = _waves(shape[0], tile, ROWS) @ total, _waves(shape[1], tile, COLUMNS)
    product = rows.real @ columns.real.T - rows.imag @ columns.imag.T  # the real part
    return product * np.float32(math.sqrt(2 / np.count_nonzero(keys)))


def _with_check(payload: int) -> int:
    """Append 8 check bits."""
    return payload << 8 | zlib.crc32(payload.to_bytes(NUM_BITS // 8, "big")) & 0xFF


@lru_cache(maxsize=1)
def _keys() -> Complex64[np.ndarray, "patterns rows columns"]:
    """Return each pattern's waves: of amplitude 1 in the band, else 0, and of phases from a hash."""
    radius = np.hypot(ROWS[:, None], COLUMNS)
    is_kept = (radius >= LOW) & (radius <= HIGH) & ((COLUMNS > 0) | (ROWS[:, None] > 0))
    digest = hashlib.shake_256(b"unclip watermark, version 1").digest(2 * NUM_PATTERNS * radius.size)
    phases = np.frombuffer(digest, dtype="<u2").reshape(NUM_PATTERNS, *radius.shape)
    return (np.exp(2j * np.pi / 2**16 * phases) * is_kept).astype(np.complex64)


def _waves(length: int, tile: float, cycles: Int[np.ndarray, " waves"]) -> Complex64[np.ndarray, "length waves"]:
    """Return waves of `cycles` to a tile at the centres of `length` pixels."""
    return np.exp(2j * np.pi / tile * np.outer(np.arange(length) + 0.5, cycles)).astype(np.complex64)


def _local_mean(values: Float32[np.ndarray, "height width"]) -> Float32[np.ndarray, "height width"]:
    """Average over squares whose side is 1/32 of the picture's; the pixels at the border are repeated beyond it."""
    radius = max(1, round(math.sqrt(values.size) / 64))
    for _ in range(2):
        padded = np.pad(values, ((radius + 1, radius), (0, 0)), mode="edge")
        sums = padded.cumsum(axis=0, dtype=np.float64)
        values = ((sums[2 * radius + 1 :] - sums[: -2 * radius - 1]) / (2 * radius + 1)).T.astype(np.float32)
    return values
