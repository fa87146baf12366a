"""Draw the pictures of the pages in docs/ again, by the calls that their captions name.

python benchmarks/doc_pictures.py [--model emoji] [--only variations,mixing] [--out docs/images]
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from PIL import Image

import unclip
from unclip.images import save_png

IMAGES = Path(__file__).parent.parent / "docs" / "images"
CELL, GAP, COLOURS, SEED = 88, 2, 256, 7
FRAMES = 7
Rows = Sequence[Sequence[Image.Image]]


def variations(pipe: unclip.UnClip) -> Rows:
    """Show a heart, variations, its reconstruction and what is between."""
    heart = picture("red-heart")
    fresh = pipe.image_variations(heart, num_images=5, seed=SEED).images
    back = [pipe.image_variations(heart, eta=eta, exact=True, seed=SEED).images[0] for eta in (0.0, 0.3, 0.6, 0.8, 1.0)]
    return [[heart, *fresh], [heart, *back]]


def interpolation(pipe: unclip.UnClip) -> Rows:
    """Show the ways between two pictures, a picture and a text, and two texts."""
    ways = [
        (picture("grinning-face"), picture("tomato")),
        (picture("tomato"), "grinning face"),
        ("grinning face", "crying face"),
    ]
    return [pipe.interpolate(first, last, frames=FRAMES, seed=SEED).images for first, last in ways]


def text_diff(pipe: unclip.UnClip) -> Rows:
    """Move three pictures from one text to another."""
    edits = [
        ("red-heart", "red heart", "blue heart"),
        ("grinning-face", "grinning face", "crying face"),
        ("tangerine", "tangerine", "tomato"),
    ]
    theta = [0.0, 0.15, 0.3, 0.45, 0.6]
    return [
        [picture(name), *pipe.text_diff(picture(name), before, after, theta=theta, seed=SEED).images]
        for name, before, after in edits
    ]


def mixing(pipe: unclip.UnClip) -> Rows:
    """Show a moon, with sunglasses, and led away from them."""
    moon, words = picture("full-moon"), "smiling face with sunglasses"
    parts = [[(moon, 1.0)], [(moon, 0.5), (words, 0.5)], [(moon, 1.0), (words, -0.5)]]
    return [pipe.mix(each, num_images=6, seed=SEED).images for each in parts]


def probing(pipe: unclip.UnClip) -> Rows:
    """Show a face from more and more components."""
    face = picture("sunglasses")
    return [[*pipe.probe(face, [1, 2, 4, 8, 16, 32, 64, 128, 192], seed=SEED).images, face]]


def image_to_image(pipe: unclip.UnClip) -> Rows:
    """Draw over three pictures with more and more strength."""
    edits = [("tangerine", "a red apple"), ("red-heart", "blue heart"), ("full-moon", "a globe showing americas")]
    return [
        [
            picture(name),
            *(
                pipe.image_to_image(picture(name), prompt, strength=strength, seed=SEED).images[0]
                for strength in (0.2, 0.4, 0.6, 0.8, 1.0)
            ),
        ]
        for name, prompt in edits
    ]


def inpainting(pipe: unclip.UnClip) -> Rows:
    """Show a face, its mask and two results; half an apple and two results."""
    face, mask = picture("inpainting-face"), picture("inpainting-mask", "L")
    apple = picture("inpainting-apple", "RGBA")
    masked = pipe.inpaint(face, mask, "face with medical mask, noto style", num_images=2, seed=SEED).images
    green = pipe.inpaint(apple, prompt="green apple, noto style", num_images=2, seed=SEED).images
    return [[face, mask.convert("RGB"), *masked], [on_grey(apple), *green]]


def outpainting(pipe: unclip.UnClip) -> Rows:
    """Show the middle of a face and three wholes; a night sky and the same at 16:9."""
    face, sky = picture("outpainting-face"), picture("outpainting-sky")
    borders = {"left": 60, "right": 66, "top": 60, "bottom": 66}
    wholes = pipe.outpaint(face, "grinning face, noto style", **borders, num_images=3, seed=SEED).images
    placed = Image.new("RGB", wholes[0].size, (230, 230, 230))
    placed.paste(face, (borders["left"], borders["top"]))
    return [[placed, *wholes], [sky, *pipe.outpaint(sky, aspect=(16, 9), seed=10).images]]


def negative(pipe: unclip.UnClip) -> Rows:
    """Show four hearts, and the same seeds led away from red ones."""
    plain, led = (
        pipe.text_to_image(["heart"], num_images=4, negative_prompt=away, seed=SEED).images
        for away in ("", "red heart")
    )
    return [[*plain, *led]]


def not_square(pipe: unclip.UnClip) -> Rows:
    """Show pictures that are wider or higher."""
    wide, high = (384, 256), (256, 384)
    prompts = {"rainbow": wide, "sunset": wide, "cactus": high, "jeans": high}
    return [[pipe.text_to_image([text], image_size=size, seed=SEED).images[0] for text, size in prompts.items()]]


PICTURES: Mapping[str, Callable[[unclip.UnClip], Rows]] = {
    function.__name__: function
    for function in (
        variations,
        interpolation,
        text_diff,
        mixing,
        probing,
        image_to_image,
        inpainting,
        outpainting,
        negative,
        not_square,
    )
}
HEIGHTS = {"inpainting": 174, "outpainting": 174, "not_square": 192}


def main() -> None:
    """Draw and save each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="emoji")
    parser.add_argument("--only", default=",".join(PICTURES), help="which of them")
    parser.add_argument("--out", type=Path, default=IMAGES)
    arguments = parser.parse_args()
    pipe = unclip.UnClip.load(arguments.model)
    for name in arguments.only.split(","):
        sheet = arrange(PICTURES[name](pipe), HEIGHTS.get(name, CELL))
        save_png(sheet.quantize(COLOURS), arguments.out / f"{name}.png")
        print(name, flush=True)


def picture(name: str, mode: str = "RGB") -> Image.Image:
    """Open one of the pictures that the pages begin from."""
    return Image.open(IMAGES / f"{name}.png").convert(mode)


def on_grey(image: Image.Image) -> Image.Image:
    """Return an RGBA picture on grey, so that what is transparent is seen."""
    ground = Image.new("RGB", image.size, (200, 200, 200))
    ground.paste(image, mask=image.getchannel("A"))
    return ground


def arrange(rows: Rows, height: int) -> Image.Image:
    """Place rows of pictures on white, each scaled to `height`."""
    scaled = [
        [image.convert("RGB").resize((round(image.width * height / image.height), height)) for image in row]
        for row in rows
    ]
    width = max(sum(image.width + GAP for image in row) for row in scaled)
    sheet = Image.new("RGB", (width - GAP, len(rows) * (height + GAP) - GAP), "white")
    for number, row in enumerate(scaled):
        left = 0
        for image in row:
            sheet.paste(image, (left, number * (height + GAP)))
            left += image.width + GAP
    return sheet


if __name__ == "__main__":
    main()
