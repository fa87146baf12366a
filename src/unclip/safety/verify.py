"""Look for what a generated picture's file may say of its origin: credentials, metadata and a watermark."""

import io
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from PIL import ExifTags, Image

from unclip.errors import DependencyError, InputError
from unclip.files import bytes_text
from unclip.pictures import read_picture
from unclip.safety.credentials import EDITED, GENERATED, read_credentials
from unclip.safety.watermark import detect_watermark

MAX_BYTES = 2**29
"""The largest file that is read: an uncompressed RGBA picture of the most pixels that pictures may have."""
METADATA = ("prompt", "seed", "model", "version", "settings")
"""What unclip writes into the files of its pictures; no other program is known to write all five."""
RELIANCE = {
    "absent": "the file has none, and they are easily removed",
    "trusted": "cryptographic: the file is as it was signed, and a trusted root vouches for the signer",
    "untrusted": "the file is as it was signed, but nobody vouches for the signer",
    "tampered": "the file was changed after it was signed",
    "unreadable": "they are damaged, or not in the file",
}


class Mark(NamedTuple):
    """One mark of generation: whether a valid one is in the file, how far to rely on it, and what it says."""

    name: str
    is_found: bool
    confidence: str
    details: Mapping[str, Any]


class Verification(NamedTuple):
    """All marks of a file. None of them proves nothing: each can be removed, and most models leave none."""

    marks: tuple[Mark, ...]

    @property
    def is_generated(self) -> bool:
        """Whether a mark says that a model made the picture, or parts of it."""
        return any(mark.is_found for mark in self.marks)

    @property
    def verdict(self) -> str:
        """The conclusion in words, with the marks that it rests on."""
        names = " and ".join(mark.name for mark in self.marks if mark.is_found)
        return f"generated, by its {names}" if names else "no sign of generation (which proves nothing)"


def verify_picture(source: Path | str | bytes, trust: bytes | None = None) -> Verification:
    """Look for all marks in a file, or in its bytes; `trust` are trusted roots of signers, in PEM.

    Raises `InputError` for a file that is missing, no picture, damaged or too large, and for a wrong `trust`.
    """
    content, name = (source, "the picture") if isinstance(source, bytes) else (_read(source), source)
    picture = read_picture(content, name)
    watermark, texts = detect_watermark(picture), read_metadata(content)
    details = {name: texts[name] for name in METADATA if name in texts}
    is_ours = len(details) == len(METADATA)
    chance = "none is read: there is none, or the picture was turned, cut or overwritten"
    if watermark.is_present:
        chance = f"of unmarked pictures, at most a share of {max(watermark.false_alarm, 1e-99):.0e} looks like this"
    payload = {"payload": f"{watermark.payload:08x}"} if watermark.is_present else {}
    return Verification((
        _verify_credentials(content, trust),
        Mark("metadata", is_ours, *(("anyone can write these texts", details) if is_ours else ("there are none", {}))),
        Mark("watermark", watermark.is_present, chance, payload | {"false_alarm": watermark.false_alarm}),
    ))  # fmt: skip


def read_metadata(content: bytes) -> dict[str, str]:
    """Read the texts that `unclip.images` wrote into a file; none where there are none, or they are damaged."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "WEBP", "GIF")) as image:
                texts: Any = image.info
                if image.format in ("JPEG", "WEBP"):
                    comment = image.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment]
                    texts = json.loads(comment.removeprefix(b"ASCII\0\0\0"))
                elif image.format == "GIF":
                    texts = json.loads(texts["comment"])
        return {str(key): str(text) for key, text in texts.items() if isinstance(text, str)}
    except Exception:  # on damaged bytes, decoders fail in many ways
        return {}


def _read(path: Path | str) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); give the path of a whole picture.") from None
    if len(content) > MAX_BYTES:
        raise InputError(f"{path} has more than {bytes_text(MAX_BYTES)}; the file of a picture has less.")
    return content


def _verify_credentials(content: bytes, trust: bytes | None) -> Mark:
    try:
        credentials = read_credentials(content, trust)
    except DependencyError as error:
        return Mark("credentials", False, f"not checked: {error}", {"status": "not checked"})
    is_valid = credentials.status in ("trusted", "untrusted")
    is_found = is_valid and credentials.source_type in (GENERATED, EDITED)
    return Mark("credentials", is_found, RELIANCE[credentials.status], credentials._asdict())
