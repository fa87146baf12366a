"""Keep results as files with unguessable names, and the history of requests in a database, each for a limited time."""

import json
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy
from sqlalchemy import Column, Float, Integer, MetaData, String, Table, Text, and_, delete, insert, select, update

from unclip.errors import InputError
from unclip.files import atomic_write
from unclip.server.errors import ApiError

MEDIA_TYPES = {
    ".png": "image/png", ".jpeg": "image/jpeg", ".webp": "image/webp", ".gif": "image/gif",
    ".safetensors": "application/octet-stream",
}  # fmt: skip
MAX_ATTEMPTS = 3
"""Starts of the server that a request may wait for: one that makes it crash is not drawn for ever."""

METADATA = MetaData()
WORKS = Table(
    "works",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("task", String(64), nullable=False),
    Column("status", String(16), nullable=False),
    Column("created", Float, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("record", Text, nullable=False),
)
RESULTS = Table(
    "results",
    METADATA,
    Column("name", String(96), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("created", Float, nullable=False),
)


class StoredWork(NamedTuple):
    """What the history says of a request."""

    name: str
    owner: str
    task: str
    status: str
    created: float
    attempts: int
    record: dict[str, Any]
    """Its results or its error."""


class Store:
    """Results and history of one server, in a folder of its own; any thread may use it."""

    def __init__(self, folder: Path, database: str | None, lifetime_seconds: float) -> None:
        """Make what is missing; raises `InputError` for a folder or a database that cannot be used."""
        self._results, self._requests, self._lifetime = folder / "results", folder / "requests", lifetime_seconds
        try:
            for path in (self._results, self._requests):
                path.mkdir(parents=True, exist_ok=True)
            url = database or f"sqlite:///{(folder / 'history.sqlite').absolute()}"
            self._engine = sqlalchemy.create_engine(url)
            METADATA.create_all(self._engine)
        except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"the history at {database or folder} cannot be used ({reason}); give another.") from None
        except OSError as error:
            raise InputError(f"the store {folder} cannot be made ({error.strerror}); give another folder.") from None

    def close(self) -> None:
        """Close the database."""
        self._engine.dispose()

    def save(self, content: bytes, suffix: str, owner: str) -> str:
        """Keep a result and return its name; raises `ApiError` where there is no room."""
        name = f"{secrets.token_urlsafe(24)}{suffix}"
        with _written(self._results / name, content), self._engine.begin() as connection:
            connection.execute(insert(RESULTS).values(name=name, owner=owner, created=time.time()))
        return name

    def find(self, name: str, owner: str) -> Path | None:
        """Return the file of a result of this owner, or None."""
        oldest = time.time() - self._lifetime
        query = select(RESULTS.c.name).where(
            and_(RESULTS.c.name == name, RESULTS.c.owner == owner, RESULTS.c.created > oldest)
        )
        with self._engine.connect() as connection:
            known = connection.scalar(query)
        path = None if known is None else self._results / known
        return path if path is not None and path.is_file() else None

    def begin(self, name: str, owner: str, task: str, request: bytes | None) -> None:
        """Note an accepted request, whose body is read after a crash; raises `ApiError` where there is no room."""
        values = {"name": name, "owner": owner, "task": task, "status": "queued", "created": time.time()}
        with _written(self._request(name), request), self._engine.begin() as connection:
            connection.execute(insert(WORKS).values(**values, attempts=1, record="{}"))

    def end(self, name: str, status: str, record: Mapping[str, Any]) -> None:
        """Note how a request ended; its body is removed."""
        with self._engine.begin() as connection:
            values = {"status": status, "record": json.dumps(dict(record))}
            connection.execute(update(WORKS).where(WORKS.c.name == name).values(**values))
        self._request(name).unlink(missing_ok=True)

    def forget(self, name: str) -> None:
        """Remove a request that was not accepted after all."""
        with self._engine.begin() as connection:
            connection.execute(delete(WORKS).where(WORKS.c.name == name))
        self._request(name).unlink(missing_ok=True)

    def read(self, name: str, owner: str) -> StoredWork | None:
        """Return what the history says of a request of this owner, or None."""
        query = select(WORKS).where(and_(WORKS.c.name == name, WORKS.c.owner == owner))
        with self._engine.connect() as connection:
            row = connection.execute(query).first()
        return None if row is None else _stored(row)

    def interrupted(self) -> Iterator[tuple[StoredWork, bytes]]:
        """Yield what was accepted and not finished, with its body; without one, or tried too often, it has failed."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(WORKS).where(WORKS.c.status == "queued").order_by(WORKS.c.created)).all()
        for work in map(_stored, rows):
            path = self._request(work.name)
            if not path.is_file() or work.attempts >= MAX_ATTEMPTS:
                error = ApiError("the server was interrupted; ask again.", 503, code="interrupted")
                self.end(work.name, "failed", error.body())
                continue
            with self._engine.begin() as connection:
                again = update(WORKS).where(WORKS.c.name == work.name).values(attempts=work.attempts + 1)
                connection.execute(again)
            yield work, path.read_bytes()

    def sweep(self) -> None:
        """Remove what is past its lifetime."""
        oldest = time.time() - self._lifetime
        with self._engine.begin() as connection:
            connection.execute(delete(RESULTS).where(RESULTS.c.created <= oldest))
            connection.execute(delete(WORKS).where(and_(WORKS.c.created <= oldest, WORKS.c.status != "queued")))
        # By their own age: what a crash left behind is in no history.
        for path in self._results.iterdir():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime <= oldest:
                    path.unlink()

    def _request(self, name: str) -> Path:
        return self._requests / f"{name}.json"


@contextmanager
def _written(path: Path, content: bytes | None) -> Iterator[None]:
    """Write a file, unless there is no content, and remove it again if the block fails, which notes it.

    Raises `ApiError`, which tells nothing of this machine's folders, if that is not possible.
    """
    if content is not None:
        with keeping():
            atomic_write(path, content)
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@contextmanager
def keeping() -> Iterator[None]:
    """Raise `ApiError`, without the name of the file, where the block cannot write one."""
    try:
        yield
    except InputError as error:
        reason = str(error).rpartition(": ")[2].partition(";")[0]
        raise ApiError(f"the server cannot keep this: {reason}.", 507, code="storage_full") from None


def _stored(row: Any) -> StoredWork:
    return StoredWork(**{**row._mapping, "record": json.loads(row.record)})
