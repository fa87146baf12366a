"""`unclip verify`: marks of generated pictures as lines and as JSON, exit codes, and files that are none."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from optional import require
from pictures import encoded, picture
from unclip.images import encode_gif, encode_picture
from unclip.safety import verify as verify_module
from unclip.safety.credentials import DEVELOPMENT, Signer, sign
from unclip.safety.verify import METADATA, read_metadata, verify_picture
from unclip.safety.watermark import embed_watermark

require("c2pa")
require("cryptography")

Program = Callable[..., Any]
TEXTS = {"prompt": "a “cat”, 猫", "seed": "7", "model": "tiny", "version": "1.2.3", "settings": '{"image_size": 32}'}
SUFFIXES = (".png", ".jpg", ".webp", ".gif")
SIGNER = Signer.development()
ROOT = SIGNER.certificates[SIGNER.certificates.rindex(b"-----BEGIN") :]


def file_of(suffix: str, texts: dict[str, str] | None = None) -> bytes:
    texts = TEXTS if texts is None else texts
    return encode_gif([picture(0)], texts) if suffix == ".gif" else encode_picture(picture(0), suffix, texts)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_all_that_is_known_as_json(unclip: Program, tmp_path: Path, suffix: str) -> None:
    content = sign(file_of(suffix), suffix, SIGNER, software="unclip/1.2.3")
    done = unclip("verify", write(tmp_path / f"a{suffix}", content), "--json")
    assert (done.code, done.err, done.out.count("\n")) == (0, "", 1)
    record = json.loads(done.out)
    assert record["is_generated"] is True
    assert record["verdict"] == "generated, by its credentials and metadata"
    assert record["metadata"]["details"] == TEXTS
    assert record["credentials"]["is_found"] is True
    assert record["credentials"]["details"] == {
        "status": "untrusted", "signer": DEVELOPMENT, "software": "unclip 1.2.3",
        "source_type": "trainedAlgorithmicMedia", "problems": ["signingCredential.untrusted"],
    }  # fmt: skip
    assert record["watermark"]["is_found"] is False
    assert 0 < record["watermark"]["details"]["false_alarm"] <= 1


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_metadata_alone_suffice_and_a_plain_picture_has_none(unclip: Program, tmp_path: Path, suffix: str) -> None:
    done = unclip("verify", write(tmp_path / f"a{suffix}", file_of(suffix)))
    assert (done.code, done.out.splitlines()[-1]) == (0, "verdict: generated, by its metadata")
    done = unclip("verify", write(tmp_path / f"b{suffix}", file_of(suffix, {})))
    assert (done.code, done.err) == (1, "")
    assert done.out.splitlines()[-1] == "verdict: no sign of generation (which proves nothing)"
    assert [line.split()[0] for line in done.out.splitlines()] == [
        "credentials:",
        "metadata:",
        "watermark:",
        "verdict:",
    ]


def test_a_watermark_is_found_with_its_payload(unclip: Program, tmp_path: Path) -> None:
    marked = embed_watermark(picture(0, 512, 512), 0x0123ABCD)
    done = unclip("verify", write(tmp_path / "a.png", encoded(marked)), "--json")
    record = json.loads(done.out)
    assert (done.code, record["verdict"]) == (0, "generated, by its watermark")
    assert record["watermark"]["is_found"] is True
    assert record["watermark"]["details"]["payload"] == "0123abcd"
    assert 0 <= record["watermark"]["details"]["false_alarm"] < 1e-5


def test_trust_makes_a_signer_known(unclip: Program, tmp_path: Path) -> None:
    content = sign(file_of(".png", {}), ".png", SIGNER, software="unclip/1.2.3")
    path, roots = write(tmp_path / "a.png", content), write(tmp_path / "roots.pem", ROOT)
    line = unclip("verify", path).out.splitlines()[0]
    assert line.startswith("credentials: a sign; the file is as it was signed, but nobody vouches for the signer (")
    done = unclip("verify", path, "--trust", roots)
    assert done.code == 0
    assert done.out.startswith("credentials: a sign; cryptographic: the file is as it was signed, and a trusted root ")
    assert f"(status trusted, signer {DEVELOPMENT}, software unclip 1.2.3, source_type " in done.out
    for wrong, text in ((tmp_path / "none.pem", "none.pem cannot be read"), (path, "are no certificates in PEM")):
        done = unclip("verify", path, "--trust", wrong)
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
        assert text in done.err


def test_broken_credentials_are_no_mark(unclip: Program, tmp_path: Path) -> None:
    content = bytearray(sign(file_of(".jpg", {}), ".jpg", SIGNER, software="unclip/1.2.3"))
    content[-300] ^= 1
    done = unclip("verify", write(tmp_path / "a.jpg", bytes(content)))
    assert done.code == 1
    assert done.out.startswith("credentials: no sign; the file was changed after it was signed (status tampered, ")


def test_texts_of_other_programs_are_no_mark() -> None:
    for name in METADATA:
        texts = {key: text for key, text in TEXTS.items() if key != name}
        _, metadata, _ = verify_picture(file_of(".png", texts)).marks
        assert (metadata.is_found, metadata.details) == (False, {})


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_metadata_read_back_as_they_were_written(suffix: str) -> None:
    assert read_metadata(file_of(suffix)) == TEXTS
    with Image.open(io.BytesIO(file_of(suffix))) as image:
        plain = Image.frombytes("RGB", image.size, image.convert("RGB").tobytes())
    assert read_metadata(encoded(plain, "JPEG")) == {}


@pytest.mark.parametrize("comment", [b"", b"ASCII\0\0\0", b"ASCII\0\0\0[1]", b"[" * 100_000, b'{"prompt": 7}', b"\xff"])
def test_comments_that_are_not_ours(comment: bytes) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = comment
    file = io.BytesIO()
    picture(0).save(file, "WEBP", exif=exif)
    assert read_metadata(file.getvalue()) == {}


def test_texts_cannot_steer_the_terminal(unclip: Program, tmp_path: Path) -> None:
    hostile = "\x1b[2J\r\nverdict      fine" + "x" * 200
    path = write(tmp_path / "a.png", file_of(".png", {**TEXTS, "prompt": hostile}))
    done = unclip("verify", path)
    assert "\x1b" not in done.out
    assert "\r" not in done.out
    assert done.out.count("\n") == 4
    assert f"(prompt  [2J  verdict      fine{'x' * 77}..., seed 7, " in done.out
    assert json.loads(unclip("verify", path, "--json").out)["metadata"]["details"]["prompt"] == hostile


def test_without_the_library_credentials_are_unchecked(
    unclip: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.png", file_of(".png"))
    monkeypatch.setitem(sys.modules, "c2pa", None)
    done = unclip("verify", path)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[0].startswith("credentials: no sign; not checked: ")
    assert "pip install 'unclip[safety]'" in done.out.splitlines()[0]


def test_files_that_are_no_whole_picture_are_one_line(unclip: Program, tmp_path: Path) -> None:
    whole = sign(file_of(".png"), ".png", SIGNER, software="unclip/1.2.3")
    cases = {b"": "is not a picture", b"\x00" * 999: "is not a picture", whole[:2000]: "a.png", whole[:-400]: "a.png"}
    for content, text in cases.items():
        done = unclip("verify", write(tmp_path / "a.png", content), "--json")
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
        assert text in done.err
    for path, text in ((tmp_path / "none.png", "No such file"), (tmp_path, "Is a directory")):
        done = unclip("verify", path)
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
        assert text in done.err


def test_a_huge_file_is_not_read(unclip: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_module, "MAX_BYTES", 1000)
    done = unclip("verify", write(tmp_path / "a.png", bytes(1001)))
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "has more than 0.0 MB" in done.err
    assert "is not a picture" in unclip("verify", write(tmp_path / "a.png", bytes(1000))).err
