"""Write the hashes of a model folder's files into its card, and compare the files with them.

They show files that were damaged or mixed up. Whoever can change a file can change the card beside it.
"""

import re
from pathlib import Path
from typing import Literal

from unclip.checkpoint import file_hash
from unclip.errors import InputError
from unclip.files import atomic_write
from unclip.model.folder import CONFIG_FILE, TOKENIZERS, is_native

CARD_FILE = "MODEL_CARD.md"
START, END = "<!-- hashes -->", "<!-- /hashes -->"
SECTION = """
## Files

`unclip info` compares the files with these hashes; with `--write-hashes` it writes them anew.

| file | SHA-256 |
|---|---|
{rows}

"""
# Characters that steer a terminal are in no name.
ROW = re.compile(r"^\| `([^`|\x00-\x1f\x7f-\x9f]+)` \| `([0-9a-f]{64})` \|\r?$", re.MULTILINE)
FileState = Literal["ok", "differs", "missing", "not listed"]


def check_hashes(folder: Path) -> dict[str, FileState] | None:
    """Compare the files of a native folder with the table in its card, by name; None where the card has no table.

    "missing" is a file of the table that is not in the folder. Raises `InputError` for a card that cannot be read.
    """
    _, section, _ = _split(folder / CARD_FILE)
    if not section:
        return None
    listed, paths = dict(ROW.findall(section)), _files(folder)
    states: dict[str, FileState] = dict.fromkeys(listed.keys() - paths.keys(), "missing")
    for name, path in paths.items():
        states[name] = "not listed" if name not in listed else "ok" if file_hash(path) == listed[name] else "differs"
    return dict(sorted(states.items()))


def write_hashes(folder: Path | str) -> None:
    """Write the SHA-256 of each file of a native folder into its card, which is made if there is none.

    All else in the card stays. Raises `InputError` for a folder of another layout, and for a card that cannot be read.
    """
    folder = Path(folder)
    if not is_native(folder):
        raise InputError(f"{folder} is no folder of our layout; `unclip convert` writes one.")
    before, section, after = _split(folder / CARD_FILE)
    newline = "\r\n" if "\r\n" in before + after else "\n"
    rows = "\n".join(f"| `{name}` | `{file_hash(path)}` |" for name, path in _files(folder).items())
    if not section:
        before = (before.rstrip() or f"# {folder.absolute().name}") + 2 * newline
    table = f"{START}\n{SECTION.format(rows=rows)}{END}".replace("\n", newline)
    atomic_write(folder / CARD_FILE, f"{before}{table}{after or newline}".encode())


def _files(folder: Path) -> dict[str, Path]:
    """Return the files that hold weights, tokenizers and the configuration, by name in order."""
    others = [CONFIG_FILE, *(name for _, name in TOKENIZERS.values())]
    paths = [*folder.glob("*.safetensors"), *(folder / name for name in others if (folder / name).exists())]
    return {path.name: path for path in sorted(paths)}


def _split(card: Path) -> tuple[str, str, str]:
    """Return the text before the table, the table with its marks ("" if there is none), and the text after it."""
    try:
        text = card.read_bytes().decode() if card.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{card} cannot be read ({error}); give a card in UTF-8.") from None
    parts = re.split(f"({START}.*{END})", text, maxsplit=1, flags=re.DOTALL)
    if (text.count(START), text.count(END), len(parts)) not in ((1, 1, 3), (0, 0, 1)):
        raise InputError(f"{card} has marks {START} or {END} that are no pair; leave one of each in order, or none.")
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 else (text, "", "")
