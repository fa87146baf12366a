"""Mark pictures as generated: a watermark in their pixels, and credentials in their files."""

from dataclasses import dataclass
from typing import Self

from PIL import Image

from unclip import __version__
from unclip.errors import optional_module
from unclip.progress import say
from unclip.safety.credentials import Signer, sign
from unclip.safety.policy import Provenance
from unclip.safety.watermark import embed_watermark


@dataclass(frozen=True, kw_only=True)
class Marker:
    """How the files of pictures are marked; without arguments, not at all."""

    payload: int | None = None
    """What the watermark says; None: there is none."""
    signer: Signer | None = None
    """Who signs; None: nobody."""

    @classmethod
    def open(cls, provenance: Provenance) -> Self:
        """Open the signer that a policy names, or make a development certificate.

        Raises `InputError` for files that are no certificate and key, `DependencyError` where C2PA is not installed.
        """
        signer = None
        if provenance.credentials:
            optional_module("c2pa", "signing pictures", "safety")  # now, not at the first picture
        if provenance.credentials and provenance.certificate is not None and provenance.key is not None:
            signer = Signer.read(provenance.certificate, provenance.key)
        elif provenance.credentials:
            signer = Signer.development()
        return cls(payload=provenance.payload if provenance.watermark else None, signer=signer)

    def note_signer(self) -> None:
        """Say that pictures are signed with a development certificate, where they are."""
        if self.signer is not None and self.signer.is_development:
            say("note: pictures are signed with a development certificate, which nobody trusts; see docs/safety.md")

    def mark(self, picture: Image.Image) -> Image.Image:
        """Return the picture with the watermark."""
        return picture if self.payload is None else embed_watermark(picture, self.payload)

    def sign(self, content: bytes, suffix: str, *, is_edit: bool = False) -> bytes:
        """Return the bytes of a file with credentials, which say whether parts of a picture alone were made."""
        if self.signer is None:
            return content
        return sign(content, suffix, self.signer, software=f"unclip/{__version__}", is_edit=is_edit)


UNMARKED = Marker()
"""Marks nothing."""
