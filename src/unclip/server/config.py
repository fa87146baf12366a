"""Define the settings of the server."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from unclip.config import Config, load_config
from unclip.errors import InputError
from unclip.files import expand_home


class KeyLimits(Config):
    """What the holder of one key may ask for; None is as much as everybody."""

    requests_per_minute: int | None = Field(None, ge=1)
    max_body_bytes: int | None = Field(None, ge=1)
    max_pixels: int | None = Field(None, ge=1)
    max_steps: int | None = Field(None, ge=1)


class ServerConfig(Config):
    """What one server allows, and where it keeps what it drew."""

    store: Path
    """The folder of results and of the history; servers may share it."""
    api_keys: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Keys of which a request has to bring one; none: everybody may draw."""
    key_limits: Mapping[str, KeyLimits] = {}
    """Keys, of `api_keys` or further ones, that have limits of their own."""
    database: str | None = None
    """The URL of the history, as SQLAlchemy reads it; None is a SQLite file in the store."""
    lifetime_hours: float = Field(24.0, gt=0)
    """Hours after which a result, and what the history says of it, is removed."""
    lease_seconds: float = Field(5.0, gt=0)
    """Seconds without a sign of a server that shares the history, after which others draw what it had accepted."""
    audit_texts: bool = False
    """Whether the audit has a line with the texts of each request."""
    queue_length: int = Field(32, ge=1)
    """Requests that may wait; one more is refused."""
    max_batch: int = Field(8, ge=1)
    """Pictures of compatible requests that are drawn in one call."""
    requests_per_minute: int | None = Field(None, ge=1)
    """Requests of one key in a minute, refused ones included; None: any number."""
    timeout_seconds: float = Field(600.0, gt=0)
    """Seconds from acceptance to the end of a request."""
    body_seconds: float = Field(120.0, gt=0)
    """Seconds in which the body of a request has to arrive."""
    max_body_bytes: int = Field(64 * 2**20, ge=1)
    max_pixels: int = Field(2**24, ge=1)
    """Pixels of a picture that is sent, or asked for."""
    max_steps: int = Field(1000, ge=1)
    """Steps of a stage that a request may ask for."""
    safety: str = "default"
    """The safety policy: the name of one that ships, a TOML file, or off. A model that has a guard keeps it."""

    @property
    def all_keys(self) -> tuple[str, ...]:
        """All keys."""
        return (*self.api_keys, *(key for key in self.key_limits if key not in self.api_keys))

    def of_key(self, key: str) -> "ServerConfig":
        """Return what the holder of a key of `key_limits` is allowed."""
        return self.replace(**self.key_limits[key].model_dump(exclude_none=True))


def read_key_limits(path: str) -> dict[str, KeyLimits]:
    """Read a TOML file with a table of limits for each key, maybe empty; raises `InputError`, which shows no key."""
    try:
        tables: dict[str, Any] = tomllib.loads(expand_home(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"the keys of {path} cannot be read ({error.strerror}); give a file of TOML.") from None
    except ValueError as error:
        raise InputError(f"the keys of {path} are no TOML ({str(error).splitlines()[0]}).") from None
    limits = {}
    for number, (key, table) in enumerate(tables.items(), 1):
        if not key or not isinstance(table, dict):
            raise InputError(f'key {number} of {path} has no table; write ["the-key"] and its limits in lines below.')
        for name, value in table.items():
            if name not in KeyLimits.model_fields:
                allowed = ", ".join(KeyLimits.model_fields)
                dots = ' (and write a key with a dot as ["the.key"])' if isinstance(value, dict) else ""
                raise InputError(f"key {number} of {path} has {name!r}; use {allowed}{dots}.")
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InputError(f"key {number} of {path} has {name} = {value!r}; give a whole number, 1 or more.")
        limits[key] = load_config(KeyLimits, table)
    if not limits:
        raise InputError(f"{path} has no key, so everybody might draw; write [the-key] on a line of its own.")
    return limits
