"""Rebuild the emoji data set from its npm packages: icons, captions, split, phrases. Knows no pixels.

    python datasets/emoji/build.py                     # fetches the pinned packages with `npm pack`
    python datasets/emoji/build.py --packages FOLDER   # takes the .tgz files from FOLDER

Needs this project installed; writes `icons/<design>.jsonl.xz`, `captions.jsonl.xz` and `phrases.txt.xz` beside itself,
from fixed inputs always the same bytes (for one version of liblzma).
"""

import argparse
import hashlib
import json
import lzma
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from aliases import ALIASES
from names import Names
from phrases import make_phrases
from sources import PACKAGES, WORDNET, archive, fetch, read_json
from wordnet import WordNet
from words import (
    Record,
    all_names,
    caption_forms,
    code_points,
    concept_groups,
    read_shortcodes,
    read_words,
)

# The code points of `fluent-emoji` are not in its package; its names are those of the flat set.
CHARACTERS = {"noto": "noto", "twemoji": "twemoji", "fluent": "fluent-flat", "fluent-flat": "fluent-flat"}
"""Designs whose icons have code points, and the design whose package holds them; the others are joined by names."""


def main() -> None:
    """Read the packages, join icons and words, write the data set."""
    parser = argparse.ArgumentParser(description="Rebuild the emoji data set from its npm packages.")
    parser.add_argument("--packages", type=Path, help="folder that holds the .tgz files; default: fetch them")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.packages or fetch(Path(temporary))
        wordnet = WordNet(archive(folder, WORDNET))
        words = read_words(folder, wordnet)
        names = Names({code: word["label"] for code, word in words.items()}, read_shortcodes(folder))
        records: list[Record] = []
        for design in PACKAGES:
            icons, captions = join(design, folder, words, names)
            write_lines(arguments.out / "icons" / f"{design}.jsonl.xz", icons)
            records += captions
            num_test = sum(record["test"] for record in captions)
            concepts = {record["concept"] for record in captions}
            print(f"{design}: {len(icons)} icons, {len(concepts)} concepts, {len(icons) - num_test} / {num_test}")
        write_lines(arguments.out / "captions.jsonl.xz", records)
        phrases = make_phrases(concept_groups(words), all_names(folder, words), wordnet)
        write_text(arguments.out / "phrases.txt.xz", "\n".join(phrases))
        print(f"{len(phrases)} phrases")
        concepts = {record["concept"] for record in records}
        num_test = sum(record["test"] for record in records)
        print(f"{len(records)} icons, {num_test} of them in the test split, {len(concepts)} concepts")


def join(design: str, folder: Path, words: Mapping[str, Record], names: Names) -> tuple[list[Record], list[Record]]:
    """Icons and captions of one design, in the order of names: variants of one icon lie side by side and compress."""
    package = read_json(folder, PACKAGES[design], "icons.json")
    if design in CHARACTERS:
        pairs = read_json(folder, PACKAGES[CHARACTERS[design]], "chars.json").items()
        codes = {name: code for code, name in pairs}
    else:
        codes = codes_by_name(design, package["icons"], words, names)
    # Of a drawing with two names the plainer one is kept: "detective", not "man detective".
    order = sorted(codes, key=lambda name: (name.startswith(("man-", "woman-")), name))
    pairs, bodies = [], set()
    for name in order:
        icon, word = package["icons"].get(name), words.get(code_points(codes[name]))
        if icon is None or word is None:
            continue
        body = short_ids(icon["body"])
        if design not in CHARACTERS and body in bodies:
            continue
        bodies.add(body)
        width, height = (icon.get(side, package.get(side, 16)) for side in ("width", "height"))
        drawing = {"name": name, "width": width, "height": height, "body": body}
        pairs.append((name, drawing, record(design, name, codes[name], word)))
    pairs.sort(key=lambda pair: pair[0])
    return [icon for _, icon, _ in pairs], [caption for _, _, caption in pairs]


def codes_by_name(design: str, icons: Iterable[str], words: Mapping[str, Record], names: Names) -> dict[str, str]:
    """Code points of the icons whose names surely mean one emoji."""
    by_label = {word["label"]: code for code, word in words.items()}
    codes = {}
    for name in icons:
        label = ALIASES[design].get(name)
        code = names.find(name) if label is None else by_label.get(label)
        # The bare skin tones are squares of one colour.
        if code is not None and not words[code]["concept"].endswith("skin tone"):
            codes[name] = code
    return codes


def short_ids(body: str) -> str:
    """Number the ids of one icon: they are random letters in the source, a fifth of the compressed size."""
    ids = {name: f"i{index}" for index, name in enumerate(dict.fromkeys(re.findall(r'\bid="([^"]+)"', body)))}
    return re.sub(r'(\bid="|url\(#|href="#)([^")]+)', lambda match: match[1] + ids.get(match[2], match[2]), body)


def record(design: str, name: str, code: str, word: Record) -> Record:
    """One line of `captions.jsonl.xz`."""
    key = f"{design}/{name}"
    return {"key": key, "unicode": code, **word, "captions": caption_forms(design, word), "test": is_test(key)}


def is_test(key: str) -> bool:
    """The split rule: one item in twenty, by the hash of its key, so that it never moves when items come or go."""
    return int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) % 20 == 0


def write_lines(path: Path, lines: Iterable[Record]) -> None:
    """JSON lines under xz."""
    write_text(path, "\n".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) for line in lines))


def write_text(path: Path, text: str) -> None:
    """Text under xz; the window spans all of it, since most of an icon repeats in its variants."""
    content = text.encode()
    window = 1 << max(16, min(27, (len(content) - 1).bit_length()))
    filters = [
        {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": window, "lc": 4, "lp": 0, "pb": 0}
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lzma.compress(content, format=lzma.FORMAT_XZ, filters=filters))


if __name__ == "__main__":
    main()
