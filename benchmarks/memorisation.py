"""Measure how near the pictures of an emoji model lie to its training pictures, by kind of prompt.

    unclip data emoji runs/memorisation/train --image-size 256 --compositions 2500 --split train
    unclip data emoji runs/memorisation/test --image-size 256 --split test
    python benchmarks/memorisation.py [--model emoji] [--shards runs/memorisation] [-n 100]

Prompts are captions that name a design: of training pictures, each of which was seen with its picture; of test items,
whose design and concept were never seen together; and the development half of the judge's phrases, which are no
captions. Real test pictures stand beside them.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from record import write_result

from unclip.data import ShardSet
from unclip.evaluate import EvaluateOptions, evaluate_memorisation, open_features
from unclip.pipelines import UnClip
from unclip.progress import show_progress

HERE = Path(__file__).parent
STYLE = " style"


def design_captions(infos: list[dict[str, Any]]) -> list[str]:
    """Return the first caption of each sample that names its design."""
    texts = (next((text for text in info["captions"] if text.endswith(STYLE)), None) for info in infos)
    return [text for text in texts if text is not None]


def main() -> None:
    """Draw, measure, and keep the figures without the list of pairs."""
    sys.path[:0] = [str(HERE / "emoji_judge")]
    from lists import is_caption, read_phrases, words_of

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="emoji")
    parser.add_argument("--shards", type=Path, default=Path("runs/memorisation"), help="holds train and test")
    parser.add_argument("--out", type=Path, default=Path("runs/memorisation/results"))
    parser.add_argument("--json", type=Path, default=HERE / "results" / "memorisation.json")
    parser.add_argument("-n", "--num-images", type=int, default=100)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--cache", type=Path)
    arguments = parser.parse_args()
    if not arguments.shards.is_dir():
        print(f"no shards in {arguments.shards}: nothing is measured; the first lines of this file make them")
        return
    shards = {name: ShardSet.open(arguments.shards / name) for name in ("train", "test")}
    infos = {name: [one.info(index) for index in range(len(one))] for name, one in shards.items()}
    words = words_of(infos["train"])
    prompts = {
        "train-captions": design_captions(infos["train"]),
        "test-captions": [text for text in design_captions(infos["test"]) if text.lower() not in words],
        "phrases": [phrase.text for phrase in read_phrases("dev") if not is_caption(phrase.text, words)],
    }
    report = evaluate_memorisation(
        UnClip.load(arguments.model),
        arguments.shards / "train",
        prompts,
        [open_features(f"clip:{arguments.model}")],
        arguments.out,
        held_out=arguments.shards / "test",
        options=EvaluateOptions(num_images=arguments.num_images, size=arguments.size, cache=arguments.cache),
        progress=show_progress,
    )
    kept = report.model_dump(mode="json", exclude={"train", "machine", "version"})
    for measure in kept["measures"]:
        del measure["pairs"]
    write_result(arguments.json, kept)


if __name__ == "__main__":
    main()
