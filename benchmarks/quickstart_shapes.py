"""What `unclip train quickstart` makes of 60 pictures in two minutes, on this machine as busy as it is.

    python benchmarks/quickstart_shapes.py [--minutes 2] [--side 256] [--out runs/quickstart-shapes]

Makes the pictures (six colours, five shapes, two sizes, a caption each), trains on them, and draws every caption into
`OUT/sheet.png`: real pictures in the odd rows, drawn ones below. Prints the report's table of stages.
"""

import argparse
import math
from pathlib import Path

from PIL import Image, ImageDraw

from unclip import UnClip
from unclip.images import grid
from unclip.recipes import Quickstart, quickstart

COLOURS = {
    "red": (214, 40, 40), "orange": (244, 140, 6), "yellow": (250, 210, 60),
    "green": (56, 160, 70), "blue": (40, 90, 200), "purple": (130, 60, 180),
}  # fmt: skip
SHAPES = ("circle", "square", "triangle", "star", "cross")
SCALES = {"large": 0.8, "small": 0.45}
COLUMNS = 12


def main() -> None:
    """Make, train, draw."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--out", type=Path, default=Path("runs/quickstart-shapes"))
    arguments = parser.parse_args()
    pictures = arguments.out / "pictures"
    captions = write_shapes(pictures, arguments.side)
    model = quickstart(Quickstart(source=str(pictures), minutes=arguments.minutes), arguments.out / "run")
    if model is None:
        return
    drawn = UnClip.load(model).text_to_image(captions, seed=0, num_candidates=1, batch_size=16).images
    real = [Image.open(pictures / f"{number:02}.png").resize(drawn[0].size) for number in range(len(captions))]
    rows = []
    for first in range(0, len(captions), COLUMNS):
        rows += real[first : first + COLUMNS] + drawn[first : first + COLUMNS]
    grid(rows, COLUMNS).save(arguments.out / "sheet.png")
    table = (model.parent / "report.md").read_text().partition("## Stages")[2].partition("The losses")[0]
    print(f"{table.strip()}\n{arguments.out / 'sheet.png'}")


def write_shapes(folder: Path, side: int) -> list[str]:
    """60 coloured shapes on white with a .txt beside each; the captions in their order."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds = [(scale, colour, shape) for scale in SCALES for colour in COLOURS for shape in SHAPES]
    for number, (scale, colour, shape) in enumerate(kinds):
        draw_shape(shape, COLOURS[colour], SCALES[scale], side).save(folder / f"{number:02}.png")
        (folder / f"{number:02}.txt").write_text(f"a {scale} {colour} {shape}\n")
    return [f"a {scale} {colour} {shape}" for scale, colour, shape in kinds]


def draw_shape(shape: str, colour: tuple[int, int, int], scale: float, side: int) -> Image.Image:
    """One of `SHAPES` in the middle of a white square, `scale` of its side wide."""
    # Four times as large and shrunk: Pillow's own edges are jagged.
    large = 4 * side
    image = Image.new("RGB", (large, large), "white")
    draw, middle, radius = ImageDraw.Draw(image), large / 2, scale * large / 2
    bar = 0.3 * radius
    match shape:
        case "circle":
            draw.ellipse((middle - radius, middle - radius, middle + radius, middle + radius), fill=colour)
        case "square":
            half = 0.8 * radius
            draw.rectangle((middle - half, middle - half, middle + half, middle + half), fill=colour)
        case "cross":
            draw.rectangle((middle - radius, middle - bar, middle + radius, middle + bar), fill=colour)
            draw.rectangle((middle - bar, middle - radius, middle + bar, middle + radius), fill=colour)
        case "triangle":
            draw.polygon(_corners([(radius, 120 * turn) for turn in range(3)], middle), fill=colour)
        case "star":
            points = [(radius if turn % 2 == 0 else 0.45 * radius, 36 * turn) for turn in range(10)]
            draw.polygon(_corners(points, middle), fill=colour)
    return image.resize((side, side), Image.Resampling.LANCZOS)


def _corners(points: list[tuple[float, float]], middle: float) -> list[tuple[float, float]]:
    """Points given by distance and degrees clockwise from the top."""
    turned = [(length, math.radians(degrees)) for length, degrees in points]
    return [(middle + length * math.sin(angle), middle - length * math.cos(angle)) for length, angle in turned]


if __name__ == "__main__":
    main()
