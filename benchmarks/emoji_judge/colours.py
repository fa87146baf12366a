"""Name the colours of pictures on white: what share of the coloured part has which name."""

import torch
from torch import Tensor

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "grey")
FIRST_HUES = {
    10.0: "orange",
    40.0: "yellow",
    68.0: "green",
    170.0: "blue",
    252.0: "purple",
    305.0: "pink",
    340.0: "red",
}
"""Degrees from which a hue has a name; below the first it is red."""
BLACK_VALUE, GREY_SATURATION, WHITE_VALUE = 0.3, 0.18, 0.85
DULL_BLACK = (0.5, 0.5)
"""Saturation and value below which, together, a colour is black as well: designs draw black as dark grey or violet."""
PINK_SATURATION, PINK_VALUE = 0.45, 0.8
"""Red that is paler and brighter than these is pink."""
BROWN_HUES, BROWN_VALUE, PALE_BROWN = (3.0, 45.0), 0.7, (0.68, 0.82)
"""Orange that is darker than the value, or below saturation and value together, is brown."""
NO_HUE = ("black", "grey")


def colour_shares(images: Tensor) -> Tensor:
    """Return the share of each of `COLOURS` in the part that is not white: (batch, colours), rows of sum 1 or 0.

    `images` are (batch, 3, height, width) in [-1, 1].
    """
    pixels = (images.float().flatten(2).clamp(-1.0, 1.0) + 1.0) / 2.0
    value, least = pixels.max(dim=1).values, pixels.min(dim=1).values
    spread = value - least
    saturation, hue = spread / value.clamp_min(1e-6), _hue(pixels, value, spread)
    limits = torch.tensor(list(FIRST_HUES))
    names = torch.tensor([COLOURS.index(name) for name in ("red", *FIRST_HUES.values())])
    colour = names[torch.bucketize(hue, limits, right=True)]
    is_pale = (colour == COLOURS.index("red")) & (saturation < PINK_SATURATION) & (value > PINK_VALUE)
    colour = torch.where(is_pale, COLOURS.index("pink"), colour)
    is_dark = (value < BROWN_VALUE) | ((saturation < PALE_BROWN[0]) & (value < PALE_BROWN[1]))
    is_brown = (hue >= BROWN_HUES[0]) & (hue < BROWN_HUES[1]) & is_dark
    colour = torch.where(is_brown, COLOURS.index("brown"), colour)
    is_dull = saturation < GREY_SATURATION
    colour = torch.where(is_dull, COLOURS.index("grey"), colour)
    is_black = (value < BLACK_VALUE) | ((saturation < DULL_BLACK[0]) & (value < DULL_BLACK[1]))
    colour = torch.where(is_black, COLOURS.index("black"), colour)
    is_seen = ~(is_dull & (value >= WHITE_VALUE))
    counts = torch.stack([((colour == place) & is_seen).sum(dim=1) for place in range(len(COLOURS))], dim=1).float()
    return counts / counts.sum(dim=1, keepdim=True).clamp_min(1.0)


def main_colours(images: Tensor, expected: list[str]) -> list[str]:
    """Name the main colour of each picture; black and grey, as of outlines, count only where one is expected."""
    shares = colour_shares(images)
    for row, name in zip(shares, expected, strict=True):
        if name not in NO_HUE:
            row[[COLOURS.index(dull) for dull in NO_HUE]] = -1.0
    return [COLOURS[place] for place in shares.argmax(dim=1)]


# Hue of HSV (Smith 1978), in degrees.
def _hue(pixels: Tensor, value: Tensor, spread: Tensor) -> Tensor:
    red, green, blue = pixels.unbind(dim=1)
    size = spread.clamp_min(1e-6)
    sector = torch.where(
        value == red,
        (green - blue) / size,
        torch.where(value == green, 2.0 + (blue - red) / size, 4.0 + (red - green) / size),
    )
    return (60.0 * sector) % 360.0
