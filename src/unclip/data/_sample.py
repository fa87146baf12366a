"""One sample of any source: an encoded picture with its texts. Knows no file and no decoder."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Sample"]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A picture as it lies in a file (PNG, JPEG, WebP), and what is said of it."""

    key: str
    """Unique in its set; may hold slashes, no dots after the last of them."""
    picture: bytes
    captions: tuple[str, ...]
    """At least one, the plain one first; "" where there is none."""
    info: Mapping[str, Any] = field(default_factory=dict)
    """What else the source knows, as JSON values."""
