"""Keep results as files with unguessable names, and the history of requests in a database, each for a limited time."""

import json
import re
import secrets
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy
from sqlalchemy import (
    Column,
    ColumnElement,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    and_,
    delete,
    insert,
    or_,
    select,
    update,
)

from unclip.errors import InputError
from unclip.files import atomic_write
from unclip.server.errors import ApiError
from unclip.server.work import ENDS

MEDIA_TYPES = {
    ".png": "image/png", ".jpeg": "image/jpeg", ".webp": "image/webp", ".gif": "image/gif",
    ".safetensors": "application/octet-stream",
}  # fmt: skip
MAX_ATTEMPTS = 3
"""Servers that a request may bring down with it: one that makes them crash is not drawn for ever."""

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
    Column("replica", String(16), nullable=False),
    Column("beats", Integer, nullable=False),
    Column("record", Text, nullable=False),
)
LIVE = WORKS.c.status.not_in(ENDS)
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
    replica: str
    """The server that holds it; "" where one that stopped let it go."""
    beats: int
    """Grows as long as that server lives."""
    record: dict[str, Any]
    """Its results or its error; before its end, how far it is."""


class Store:
    """Results and history of servers that share a folder and a database; any thread may use it.

    Each request is held by one server, which renews its hold. What is not renewed for `lease_seconds`, by the clock of
    whoever looks, is free to be claimed by another, and from then on the first can no longer write its end.
    """

    def __init__(
        self, folder: Path, database: str | None, lifetime_seconds: float, lease_seconds: float = 5.0
    ) -> None:  # fmt: skip
        """Make what is missing; raises `InputError` for a folder or a database that cannot be used."""
        self.results, self._requests = folder.absolute() / "results", folder / "requests"
        self._lifetime = lifetime_seconds
        self._replica, self._lease = secrets.token_hex(8), lease_seconds
        self._seen: dict[str, tuple[tuple[str, int], float]] = {}
        try:
            for path in (self.results, self._requests):
                path.mkdir(parents=True, exist_ok=True)
            url = database or f"sqlite:///{(folder / 'history.sqlite').absolute()}"
            # A connection is tried before it is used: the database may have been restarted.
            self._engine = sqlalchemy.create_engine(url, pool_pre_ping=True)
            METADATA.create_all(self._engine)
        except (sqlalchemy.exc.SQLAlchemyError, ImportError, ValueError) as error:
            reason = str(error).splitlines()[0]
            # Then what is shown as the host, or as its port, is a part of the password.
            if (database or "").count("@") > 1 or isinstance(error, ValueError):
                reason = "write @ : / of a password as %40 %3A %2F"
            name = re.sub(r"//([^:@/]*):.*@", r"//\1:***@", database or str(folder))
            raise InputError(f"the history at {name} cannot be used ({reason}); give another.") from None
        except OSError as error:
            raise InputError(f"the store {folder} cannot be made ({error.strerror}); give another folder.") from None

    def close(self) -> None:
        """Close the database."""
        self._engine.dispose()

    def save(self, content: bytes, suffix: str, owner: str) -> str:
        """Keep a result and return its name; raises `ApiError` where there is no room."""
        name = f"{secrets.token_urlsafe(24)}{suffix}"
        with _written(self.results / name, content), self._engine.begin() as connection:
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
        path = None if known is None else self.results / known
        return path if path is not None and path.is_file() else None

    def owner_of(self, name: str) -> str | None:
        """Return whose result this is; None where there is none of this name."""
        with self._engine.connect() as connection:
            return connection.scalar(select(RESULTS.c.owner).where(RESULTS.c.name == name))

    def begin(self, name: str, owner: str, task: str, request: bytes | None) -> None:
        """Note an accepted request, whose body is read after a crash; raises `ApiError` where there is no room."""
        values = {"name": name, "owner": owner, "task": task, "status": "queued", "created": time.time()}
        hold = {"replica": self._replica, "beats": 0}
        with _written(self._request(name), request), self._engine.begin() as connection:
            connection.execute(insert(WORKS).values(**values, **hold, attempts=1, record="{}"))

    def end(self, name: str, status: str, record: Mapping[str, Any]) -> bool:
        """Note how a request ended, and remove its body; False, and nothing, unless this server still holds it."""
        return self._end(and_(WORKS.c.name == name, WORKS.c.replica == self._replica), name, status, record)

    def cancel(self, name: str) -> None:
        """Note that a request is cancelled, unless it has ended; who holds it learns that when it renews its hold."""
        self._end(WORKS.c.name == name, name, "cancelled", {})

    def _end(self, which: ColumnElement[bool], name: str, status: str, record: Mapping[str, Any]) -> bool:
        values = {"status": status, "record": json.dumps(dict(record))}
        with self._engine.begin() as connection:
            is_noted = connection.execute(update(WORKS).where(and_(which, LIVE)).values(**values)).rowcount == 1
        if is_noted:
            self._request(name).unlink(missing_ok=True)
        return is_noted

    def renew(self, works: Mapping[str, Mapping[str, Any] | None]) -> list[str]:
        """Renew the hold of requests, each with how far it is (None: it waits); returns those that are lost.

        Lost is what was cancelled through another server, or claimed by one.
        """
        if not works:
            return []
        held = and_(WORKS.c.replica == self._replica, LIVE)
        lost = or_(WORKS.c.replica != self._replica, WORKS.c.status == "cancelled")
        with self._engine.begin() as connection:
            renewal = update(WORKS).where(and_(WORKS.c.name.in_(works), held))
            connection.execute(renewal.values(beats=WORKS.c.beats + 1))
            for name, progress in works.items():
                if progress is not None:
                    values = {"status": "running", "record": json.dumps(dict(progress))}
                    connection.execute(update(WORKS).where(and_(WORKS.c.name == name, held)).values(**values))
            return list(connection.scalars(select(WORKS.c.name).where(and_(WORKS.c.name.in_(works), lost))))

    def release(self) -> None:
        """Let go what this server holds, so that the next one need not wait."""
        with self._engine.begin() as connection:
            held = and_(WORKS.c.replica == self._replica, LIVE)
            connection.execute(update(WORKS).where(held).values(replica="", status="queued", record="{}"))

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

    def history(self, owner: str, most: int) -> list[StoredWork]:
        """Return what this owner had drawn and can still be read, newest first."""
        query = select(WORKS).where(and_(WORKS.c.owner == owner, WORKS.c.status == "done"))
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(WORKS.c.created.desc()).limit(most)).all()
        return [_stored(row) for row in rows]

    def interrupted(self, drawn: Collection[str] = ()) -> Iterator[tuple[StoredWork, bytes]]:
        """Claim what no server holds any more, nor is `drawn` by this one, and yield it with its body.

        Without a body, or where too many servers went down with it, it has failed. Of servers that look at the same
        time one gets it.
        """
        # Emptied first: where the history cannot be read, others may not have been able to renew, either.
        seen, self._seen = self._seen, {}
        with self._engine.connect() as connection:
            rows = connection.execute(select(WORKS).where(LIVE).order_by(WORKS.c.created)).all()
        now, free = time.monotonic(), []
        for work in map(_stored, rows):
            sign = (work.replica, work.beats)
            before, since = seen.get(work.name, (sign, now))
            self._seen[work.name] = (sign, since if before == sign else now)
            is_stale = now - self._seen[work.name][1] >= self._lease
            if work.name not in drawn and (is_stale or not work.replica):
                free.append(work)
        for work in free:
            is_crashed = bool(work.replica)
            hold = {"replica": self._replica, "beats": work.beats + 1, "attempts": work.attempts + is_crashed}
            same = and_(WORKS.c.replica == work.replica, WORKS.c.beats == work.beats)
            claim = update(WORKS).where(and_(WORKS.c.name == work.name, same, LIVE))
            with self._engine.begin() as connection:
                if connection.execute(claim.values(**hold, status="queued", record="{}")).rowcount == 0:
                    continue
            path = self._request(work.name)
            if not path.is_file() or (is_crashed and work.attempts >= MAX_ATTEMPTS):
                error = ApiError("the server was interrupted; ask again.", 503, code="interrupted")
                self.end(work.name, "failed", error.body())
                continue
            yield work, path.read_bytes()

    def sweep(self) -> None:
        """Remove what is past its lifetime."""
        oldest = time.time() - self._lifetime
        with self._engine.begin() as connection:
            connection.execute(delete(RESULTS).where(RESULTS.c.created <= oldest))
            connection.execute(delete(WORKS).where(and_(WORKS.c.created <= oldest, ~LIVE)))
        # By their own age: what a crash left behind is in no history.
        for path in self.results.iterdir():
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
