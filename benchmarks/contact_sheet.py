"""Draw the contact sheet of README and model card: 64 fixed prompts, one picture each.

python benchmarks/contact_sheet.py [--model emoji] [--best-of 4] [--out docs/contact_sheet.png]

Each is the one of four that the model's own CLIP finds nearest to the prompt; nobody picks.
"""

import argparse
from pathlib import Path

import unclip
from unclip.images import grid, save_png

ROOT = Path(__file__).parent.parent
COLUMNS = 8
CELL = 128
SEED = 1


def main() -> None:
    """Draw all prompts with one seed and save the grid."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="emoji")
    parser.add_argument("--best-of", type=int, default=4)
    parser.add_argument("--prompts", type=Path, default=ROOT / "docs" / "contact_sheet_prompts.txt")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "contact_sheet.png")
    arguments = parser.parse_args()
    prompts = arguments.prompts.read_text().splitlines()
    pipe = unclip.UnClip.load(arguments.model)
    pictures = [
        pipe.text_to_image([prompt], best_of=arguments.best_of, seed=SEED).images[0].resize((CELL, CELL))
        for prompt in prompts
    ]
    about = {"prompts": "\n".join(prompts), "seed": str(SEED), "best_of": str(arguments.best_of)}
    save_png(grid(pictures, COLUMNS), arguments.out, about)


if __name__ == "__main__":
    main()
