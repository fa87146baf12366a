"""Stop after the decoder, keep the small pictures in a file, choose among them, and enlarge the chosen ones alone.

python examples/drafts.py [FOLDER]
"""

import sys
from pathlib import Path

import unclip
from unclip.images import grid, save_png, to_pil
from unclip.pipelines import Draft


def main(folder: Path) -> None:
    """Save a sheet of small pictures, and large ones of the first and the last."""
    pipe = unclip.UnClip.load("emoji")
    draft = pipe.draft("a fox", num_images=4, stop_after="decoder", seed=7, num_steps={"prior": 10, "decoder": 8})
    draft.save(folder / "fox.safetensors")
    assert draft.images is not None
    save_png(grid(to_pil(draft.images), columns=4), folder / "fox-small.png")

    # Any time later, on any machine.
    chosen = Draft.load(folder / "fox.safetensors").pick([0, 3])
    result = pipe.finish(chosen)
    for image, seed in zip(result.images, result.seeds, strict=True):
        save_png(image, folder / f"fox-{seed}.png")
        print(folder / f"fox-{seed}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path())
