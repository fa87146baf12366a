"""Claim: every task on one picture takes seconds on two cores and less than 2 GB, 1024 and 2048 px included.

    python benchmarks/tasks.py

Each is one process of `unclip` on the shipped model with default settings, loading included; memory is its peak
resident set. Run it on a machine that does nothing else.
"""

import argparse
import json
import tempfile
from pathlib import Path

from generate import measure
from PIL import Image, ImageDraw
from record import write_result

HEART, MOON = "docs/images/red-heart.png", "docs/images/full-moon.png"
SMALL, MASK, DRAFT, LARGE = "small.png", "mask.png", "draft.safetensors", "large.png"

# Words of the command, without its output; names that the script itself makes are those above.
TASKS = {
    "text to image, 256 px": ["generate", "a red apple"],
    "text to image, 1024 px": ["generate", "a red apple", "--size", "1024"],
    "text to image, 384 x 256 px": ["generate", "a red apple", "--size", "384x256"],
    "best of 4": ["generate", "a red apple", "--best-of", "4"],
    "finish a draft of the prior": ["finish", DRAFT],
    "variation of the embedding": ["variations", HEART],
    "reconstruction by inversion": ["variations", HEART, "--eta", "0"],
    "interpolation of texts, 9 frames": ["interpolate", "a red heart", "a blue heart"],
    "interpolation of pictures, 9 frames": ["interpolate", HEART, MOON],
    "text diff": ["edit", HEART, "--from", "red heart", "--to", "blue heart"],
    "probing, 9 reconstructions": ["probe", HEART],
    "inpainting": ["inpaint", HEART, MASK, "red heart"],
    "outpainting by 64 px on two sides": ["outpaint", HEART, "--left", "64", "--right", "64"],
    "image to image": ["image-to-image", HEART, "blue heart"],
    "mixing of a text and a picture": ["mix", "blue heart", MOON],
    "upscaling, 256 to 1024 px": ["upscale", SMALL, "--size", "1024"],
    "upscaling, 512 to 2048 px": ["upscale", LARGE, "--size", "2048"],
}


def main() -> None:
    """Print a line per task, and write all as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="Tasks whose name holds this.")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/tasks.json"))
    arguments = parser.parse_args()
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        for name, words in TASKS.items():
            if arguments.only not in name:
                continue
            here = [str(Path(folder) / word) if word in (SMALL, MASK, DRAFT, LARGE) else word for word in words]
            seeded = [] if words[0] == "finish" else ["--seed", "7"]
            seconds, memory = measure([*here, *seeded, "-o", str(Path(folder) / "made.png")])
            figures[name] = {"command": " ".join(words), "seconds": round(seconds, 2), "peak_memory_bytes": memory}
            print(f"{name:40} {seconds:6.2f} s  {memory / 1e9:.2f} GB", flush=True)
    result = {
        "tasks": figures,
    }
    if not arguments.only:
        print(json.dumps(write_result(arguments.out, result)))


def prepare(folder: Path) -> None:
    """The pictures and the draft that commands are given."""
    with Image.open(HEART) as heart:
        for name, side in ((SMALL, 256), (LARGE, 512)):
            heart.convert("RGB").resize((side, side)).save(folder / name)
        mask = Image.new("L", heart.size)
    ImageDraw.Draw(mask).rectangle((0, 0, mask.width // 2, mask.height // 2), fill=255)
    mask.save(folder / MASK)
    measure(["generate", "a red apple", "--seed", "7", "--stop-after", "prior", "-o", str(folder / DRAFT)])


if __name__ == "__main__":
    main()
