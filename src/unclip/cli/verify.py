"""`unclip verify`: what the file of a picture says of its origin."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Exit, Option

from unclip.cli.options import AsJson
from unclip.errors import InputError

NOTHING_EXIT = 1
MAX_SHOWN = 100
"""Characters of a text from a picture's file that are printed; --json has all."""


def verify(
    image: Annotated[Path, Argument(help="A picture: PNG, JPEG, WebP or GIF.")],
    trust: Annotated[Path | None, Option(help="Certificates of roots whose signers are trusted, in PEM.")] = None,
    as_json: AsJson = False,
) -> None:
    """Look for signs that a model made a picture: content credentials (C2PA), unclip's metadata and its watermark.

    Exit code 0: a valid one was found; 1: none, which proves nothing, since all can be removed; 2: wrong input.
    """
    from unclip.safety import verify_picture

    try:
        roots = None if trust is None else trust.read_bytes()
    except OSError as error:
        raise InputError(f"--trust {trust} cannot be read ({error.strerror}); give certificates in PEM.") from None
    result = verify_picture(image, roots)
    if as_json:
        record: dict[str, Any] = {"image": str(image), "is_generated": result.is_generated, "verdict": result.verdict}
        print(json.dumps(record | {mark.name: mark._asdict() for mark in result.marks}))
    else:
        for mark in result.marks:
            state = "a sign" if mark.is_found else "no sign"
            print(f"{mark.name}: {state}; {mark.confidence}{_details_text(mark.details)}")
        print(f"verdict: {result.verdict}")
    if not result.is_generated:
        raise Exit(NOTHING_EXIT)


def _details_text(details: Mapping[str, Any]) -> str:
    """Write what is known in brackets; a control character, which could steer a terminal, becomes a space."""
    joined = {name: " ".join(value) if isinstance(value, tuple) else value for name, value in details.items()}
    known = {name: str(value) for name, value in joined.items() if value not in (None, "")}
    texts = (f"{name} {value[:MAX_SHOWN]}{'...' * (len(value) > MAX_SHOWN)}" for name, value in known.items())
    text = "".join(character if character.isprintable() else " " for character in ", ".join(texts))
    return text and f" ({text})"
