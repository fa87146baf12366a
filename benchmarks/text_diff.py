"""Claim: text diffs move towards the target text and away from the source on at least 36 of 40 edits.

    python benchmarks/text_diff.py [--steps 25]

The edits of text_diff_edits.json were written down before any was drawn. CLIP looks at each picture as the decoder
draws it, 128 px, and at its reconstruction; an edit counts where the cosine to the target rises and that to the source
falls.
"""

import argparse
import json
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from record import write_result

import unclip
from unclip.data import emoji_items, rasterize

EDITS = Path(__file__).with_name("text_diff_edits.json")


def main() -> None:
    """Print what became of each edit and the share, and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="emoji")
    parser.add_argument("--steps", type=int, default=25, help="decoder steps, each way")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/text_diff.json"))
    arguments = parser.parse_args()
    pipe, edits = unclip.UnClip.load(arguments.model), json.loads(EDITS.read_text())
    items = {item.key: item for item in emoji_items()}
    started = time.monotonic()
    for edit in edits:
        picture = Image.fromarray(rasterize(items[edit["picture"]], 256))
        edit.update(measure(pipe, picture, edit["from"], edit["to"], arguments.steps))
        print(f"{edit['from']} -> {edit['to']}: {edit['change_to']:+.3f} {edit['change_from']:+.3f}", flush=True)
    moved = sum(edit["change_to"] > 0 > edit["change_from"] for edit in edits)
    result = {
        "num_edits": len(edits),
        "num_moved": moved,
        "share": moved / len(edits),
        "steps": arguments.steps,
        "edits": edits,
        "seconds_per_edit": round((time.monotonic() - started) / len(edits), 1),
    }
    write_result(arguments.out, result)
    print(f"{moved} of {len(edits)} edits moved towards the target and away from the source")


def measure(pipe: unclip.UnClip, picture: Image.Image, source: str, target: str, steps: int) -> dict[str, float]:
    """What the edit adds to the cosines to both texts, and the theta it took."""
    options = {"image_size": 128, "num_steps": steps, "seed": 0, "output_type": "pt"}
    moved = pipe.text_diff(picture, source, target, **options)
    still = pipe.image_variations(picture, eta=0.0, **options)
    seen = F.normalize(pipe.clip.encode_image(torch.stack([*moved.images, *still.images])), dim=-1)
    texts = F.normalize(pipe.clip.encode_text([source, target]).embedding, dim=-1)
    change = (seen[0] - seen[1]) @ texts.T
    theta, away, near = (round(float(number), 4) for number in (moved.settings["theta"][0], *change))
    return {"theta": theta, "change_from": away, "change_to": near}


if __name__ == "__main__":
    main()
