"""Define the settings of the server."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from unclip.config import Config


class ServerConfig(Config):
    """What one server allows, and where it keeps what it drew."""

    store: Path
    """The folder of results and of the history; servers may share it."""
    api_keys: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Keys of which a request has to bring one; none: everybody may draw."""
    database: str | None = None
    """The URL of the history, as SQLAlchemy reads it; None is a SQLite file in the store."""
    lifetime_hours: float = Field(24.0, gt=0)
    """Hours after which a result, and what the history says of it, is removed."""
    lease_seconds: float = Field(5.0, gt=0)
    """Seconds without a sign of a server that shares the history, after which others draw what it had accepted."""
    queue_length: int = Field(32, ge=1)
    """Requests that may wait; one more is refused."""
    max_batch: int = Field(8, ge=1)
    """Pictures of compatible requests that are drawn in one call."""
    requests_per_minute: int | None = Field(None, ge=1)
    """Requests of one key that are accepted in a minute; None: any number."""
    timeout_seconds: float = Field(600.0, gt=0)
    """Seconds from acceptance to the end of a request."""
    body_seconds: float = Field(120.0, gt=0)
    """Seconds in which the body of a request has to arrive."""
    max_body_bytes: int = Field(64 * 2**20, ge=1)
    max_pixels: int = Field(2**24, ge=1)
    """Pixels of a picture that is sent, or asked for."""
