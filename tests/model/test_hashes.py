"""Hashes in a model's card: written, compared with the files, and right in the card that ships."""

import hashlib
import shutil
from pathlib import Path

import pytest

from unclip.errors import InputError
from unclip.model import describe_model, find_model, write_hashes

FILES = ["clip", "config", "decoder", "prior", "tokenizer", "upsampler_32"]


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_folder, tmp_path / "model")


@pytest.fixture
def card(folder: Path) -> Path:
    return folder / "MODEL_CARD.md"


def test_the_shipped_card_has_the_hashes_of_the_shipped_files() -> None:
    folder = find_model("emoji")
    files = sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", ".json"))
    assert len(files) == 9
    rows = [f"| `{path.name}` | `{hashlib.sha256(path.read_bytes()).hexdigest()}` |" for path in files]
    assert "\n".join(["|---|---|", *rows, "\n<!-- /hashes -->"]) in (folder / "MODEL_CARD.md").read_text()
    assert describe_model("emoji").hashes == {path.name: "ok" for path in files}


def test_a_folder_without_a_card_has_none_and_gets_one(folder: Path, card: Path) -> None:
    assert describe_model(folder).hashes is None
    write_hashes(folder)
    assert card.read_text().startswith("# model\n\n<!-- hashes -->\n")
    hashes = describe_model(folder).hashes
    assert hashes is not None
    assert [name.partition(".")[0] for name in hashes] == FILES
    assert set(hashes.values()) == {"ok"}


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_all_else_in_the_card_stays_and_writing_again_changes_nothing(folder: Path, card: Path, newline: str) -> None:
    card.write_bytes(f"# A model{newline}{newline}Of mine: ü".encode())
    write_hashes(folder)
    first = card.read_bytes()
    assert first.startswith(f"# A model{newline}{newline}Of mine: ü{newline}{newline}<!-- hashes -->".encode())
    assert first.count(b"\n") == first.count(newline.encode())
    card.write_bytes(first + b"## More\n")
    (folder / "prior.safetensors").write_bytes((folder / "decoder.safetensors").read_bytes())
    write_hashes(folder)
    digest = hashlib.sha256((folder / "decoder.safetensors").read_bytes()).hexdigest().encode()
    assert card.read_bytes().count(digest) == 2
    assert card.read_bytes().endswith(b"## More\n")
    assert card.read_bytes().count(b"<!-- hashes -->") == 1


@pytest.mark.parametrize("name", ["decoder.safetensors", "tokenizer.json", "config.json"])
def test_a_changed_file_differs(folder: Path, name: str) -> None:
    write_hashes(folder)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content + b"\n" if name.endswith(".json") else content[:-1] + bytes([content[-1] ^ 1]))
    hashes = describe_model(folder).hashes
    assert hashes is not None
    assert {name for name, state in hashes.items() if state != "ok"} == {name}
    assert hashes[name] == "differs"


def test_files_that_are_missing_or_not_listed_are_named(folder: Path, card: Path) -> None:
    write_hashes(folder)
    shutil.copy(folder / "prior.safetensors", folder / "other.safetensors")
    text = card.read_text()
    card.write_text(text.replace("`clip.safetensors`", "`../clip.safetensors`"))
    hashes = describe_model(folder).hashes
    assert hashes is not None
    assert {name: state for name, state in hashes.items() if state != "ok"} == {
        "../clip.safetensors": "missing",
        "clip.safetensors": "not listed",
        "other.safetensors": "not listed",
    }


def test_a_row_that_is_no_hash_lists_nothing(folder: Path, card: Path) -> None:
    card.write_text("<!-- hashes -->\n| `clip.safetensors` | `0123` |\n<!-- /hashes -->\n")
    hashes = describe_model(folder).hashes
    assert hashes is not None
    assert set(hashes.values()) == {"not listed"}
    assert [name.partition(".")[0] for name in hashes] == FILES


@pytest.mark.parametrize(
    "content",
    [
        b"<!-- hashes -->",
        b"<!-- /hashes --> <!-- hashes -->",
        b"<!-- hashes --><!-- /hashes --><!-- hashes --><!-- /hashes -->",
        b"\xff\xfe",
    ],
)
def test_cards_that_cannot_be_read_are_refused(folder: Path, card: Path, content: bytes) -> None:
    card.write_bytes(content)
    for call in (describe_model, write_hashes):
        with pytest.raises(InputError, match=r"MODEL_CARD\.md (has marks|cannot be read)"):
            call(folder)
    assert card.read_bytes() == content


def test_other_layouts_have_none(karlo_folder: Path) -> None:
    assert describe_model(karlo_folder).hashes is None
    with pytest.raises(InputError, match="is no folder of our layout"):
        write_hashes(karlo_folder)
    assert not (karlo_folder / "MODEL_CARD.md").exists()
