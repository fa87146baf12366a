"""Find the colour that a drawing mostly has, and give its SVG another one; shades keep their differences."""

import math
import re
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageColor

COLOURS = {
    "red": "#e53935", "orange": "#fb8c00", "yellow": "#fdd835", "green": "#43a047", "blue": "#1e88e5",
    "purple": "#8e24aa", "pink": "#f48fb1", "brown": "#795548", "black": "#2b2b2b", "white": "#e6e9ed",
    "grey": "#9e9e9e",
}  # fmt: skip
HEX = re.compile(r"""(?<=["':;\s])#(?:[0-9a-fA-F]{6}|[0-9a-fA-F]{3})(?=["';\s])""")
LEAST_CHROMA = 0.05
"""Chroma in OKLab above which a colour has a hue that people see."""
HUE_WINDOW = np.radians(38)
LEAST_SHARE = 0.6
"""Share of a drawing's pixels that its main hue must have."""
SHADES = 0.8
"""How much of the differences of lightness is kept: all would clip in very light and very dark colours."""

# Björn Ottosson, "A perceptual color space for image processing", 2020: linear sRGB to OKLab.
TO_LMS = np.array([[0.4122214708, 0.5363325363, 0.0514459929],
                   [0.2119034982, 0.6806995451, 0.1073969566],
                   [0.0883024619, 0.2817188376, 0.6299787005]])  # fmt: skip
TO_LAB = np.array([[0.2104542553, 0.7936177850, -0.0040720468],
                   [1.9779984951, -2.4285922050, 0.4505937099],
                   [0.0259040371, 0.7827717662, -0.8086757660]])  # fmt: skip


@dataclass(frozen=True)
class MainColour:
    """The colour of most of a drawing, in OKLCh."""

    lightness: float
    chroma: float
    hue: float
    """Radians."""
    name: str
    """The nearest of `COLOURS`."""


def main_colour(picture: Image.Image) -> MainColour | None:
    """Find the hue that most pixels of an RGBA drawing have; None if there is no such hue."""
    pixels = np.asarray(picture.convert("RGBA"))
    lab = oklab(pixels[pixels[..., 3] > 127][:, :3])
    chroma, hue = np.hypot(lab[:, 1], lab[:, 2]), np.arctan2(lab[:, 2], lab[:, 1])
    coloured = chroma > LEAST_CHROMA
    if coloured.sum() < LEAST_SHARE * max(1, len(lab)):
        return None
    counts, edges = np.histogram(hue[coloured], bins=36, range=(-np.pi, np.pi))
    centre = edges[counts.argmax()] + np.pi / 36
    near = coloured & (abs((hue - centre + np.pi) % (2 * np.pi) - np.pi) < HUE_WINDOW)
    if near.sum() < LEAST_SHARE * len(lab):
        return None
    lightness, a, b = (float(value) for value in np.median(lab[near], axis=0))
    named = {name: oklab(rgb_of(value)) for name, value in COLOURS.items()}
    name = min(named, key=lambda name: float(np.square(named[name] - [lightness, a, b]).sum()))
    return MainColour(lightness, math.hypot(a, b), math.atan2(b, a), name)


def recolour(body: str, main: MainColour, name: str) -> str:
    """Give all colours of an SVG that are near its main hue the hue and the chroma of the colour called `name`.

    Lighter and darker shades stay lighter and darker.
    """
    lightness, a, b = (float(value) for value in oklab(rgb_of(COLOURS[name])))
    target = MainColour(lightness, math.hypot(a, b), math.atan2(b, a), name)
    return HEX.sub(lambda match: _shade(match[0], main, target), body)


def _shade(colour: str, main: MainColour, target: MainColour) -> str:
    lightness, a, b = (float(value) for value in oklab(rgb_of(colour)))
    chroma, turn = math.hypot(a, b), math.remainder(math.atan2(b, a) - main.hue, 2 * math.pi)
    if chroma < LEAST_CHROMA / 2 or abs(turn) > HUE_WINDOW:
        return colour
    lightness = min(0.98, max(0.08, target.lightness + SHADES * (lightness - main.lightness)))
    chroma, hue = target.chroma * min(1.4, chroma / main.chroma), target.hue + turn / 2
    rgb = from_oklab(np.array([lightness, chroma * np.cos(hue), chroma * np.sin(hue)]))
    return "#" + bytes(rgb.tolist()).hex()


def rgb_of(colour: str) -> UInt8[np.ndarray, " 3"]:
    """Read #rgb or #rrggbb."""
    return np.array(ImageColor.getrgb(colour)[:3], np.uint8)


def oklab(rgb: UInt8[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """Convert sRGB of 8 bits to OKLab."""
    encoded = rgb / 255.0
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ TO_LMS.T) @ TO_LAB.T


def from_oklab(lab: Float[np.ndarray, "*n 3"]) -> UInt8[np.ndarray, "*n 3"]:
    """Convert OKLab to sRGB of 8 bits, clipped to what sRGB has."""
    linear = ((lab @ np.linalg.inv(TO_LAB).T) ** 3 @ np.linalg.inv(TO_LMS).T).clip(0.0, 1.0)
    encoded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(encoded * 255).astype(np.uint8)
