"""What all routes share: the model, its worker, the store, and how requests are accepted and waited for."""

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from unclip.pipelines import Result, UnClip
from unclip.pipelines.inputs import texts_and_pictures
from unclip.pipelines.options import TASKS
from unclip.server.config import ServerConfig
from unclip.server.errors import ApiError, explain
from unclip.server.limits import RateLimit
from unclip.server.metrics import Metrics
from unclip.server.policy import AllowAll, Policy
from unclip.server.store import Store
from unclip.server.work import Work, WorkEvent, stopping, timed_out
from unclip.server.worker import Worker

AUDIT = logging.getLogger("unclip.audit")
ALIASES = ("dall-e-2", "dall-e-3", "gpt-image-1")
"""Names under which programs that were written for others find the model."""


@dataclass(frozen=True, eq=False)
class Service:
    """A loaded model that is served."""

    pipe: UnClip
    config: ServerConfig
    worker: Worker
    store: Store
    metrics: Metrics
    rate: RateLimit
    works: dict[str, Work]
    """Requests that are not finished, by name."""
    started: int
    own_configs: Mapping[str, ServerConfig] = field(default_factory=dict)
    """The settings with the limits of those owners who have limits of their own."""
    unnoted: dict[str, tuple[str, Mapping[str, Any]]] = field(default_factory=dict)
    """Ends, with their records, that the history had no room for."""
    policy: Policy = field(default_factory=AllowAll)
    """What may be asked for and sent."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when nothing more is taken, and what is open should end."""

    @classmethod
    def open(cls, pipe: UnClip, config: ServerConfig, policy: Policy) -> "Service":
        """Open the store, and start nothing yet."""
        metrics = Metrics()
        worker = Worker(pipe, metrics, queue_length=config.queue_length, max_batch=config.max_batch)
        store = Store(config.store, config.database, config.lifetime_hours * 3600, config.lease_seconds)
        own = {owner_of_key(key): config.of_key(key) for key in config.key_limits}
        return cls(pipe, config, worker, store, metrics, RateLimit(), {}, int(time.time()), own, policy=policy)

    def config_for(self, owner: str) -> ServerConfig:
        """Return the settings, with the limits of this owner."""
        return self.own_configs.get(owner, self.config)

    def count(self, owner: str) -> None:
        """Count a request; raises `ApiError` where it is more than this owner may ask for in a minute."""
        self.rate.count(owner, self.config_for(owner).requests_per_minute)

    def begin_stop(self) -> None:
        """Take nothing more and end what waits: what survives goes on with the next start. What is drawn is finished,
        unless all of its pass survives.
        """
        self.stopping.set()
        for work in self.worker.begin_stop():
            work.tell(WorkEvent("moved") if work.survives else WorkEvent("failed", stopping()))

    async def accept(self, work: Work, request: bytes | None = None, *, is_new: bool = True) -> None:
        """Note a request and queue it; with its body it survives a crash. Raises `ApiError` where the queue is full
        and for what the hook refuses, `SafetyError` for texts that the safety policy blocks.
        """
        if is_new:
            texts, pictures = texts_and_pictures(TASKS[work.task].kinds, work.arguments)
            said = [*texts, *filter(None, [work.arguments.get("negative_prompt")])]
            if self.config.audit_texts:
                AUDIT.info(json.dumps({"time": round(time.time(), 3), "key": work.owner[:12], "texts": said}))
            if self.pipe.guard is not None:  # again where it is drawn, but a refusal should not wait for that
                await run_in_threadpool(self.pipe.guard.begin().check_texts, texts, only_blocks=True)
            await run_in_threadpool(self.policy.check_request, said, pictures)
        finish = work.finish

        def finish_and_note(outcome: Any) -> Any:
            payload = finish(self.policy.check_result(outcome) if isinstance(outcome, Result) else outcome)
            self.metrics.images.inc(len(outcome) if isinstance(outcome, Result) else 0)
            # Noted before the client hears of it, so that nothing is drawn twice.
            is_ours = self.store.end(work.name, "done", payload if work.survives else {})
            if work.survives and not is_ours:
                work.tell(WorkEvent("moved"))
            return payload

        def note(event: WorkEvent) -> None:
            if not event.is_end:
                return
            if event.kind in ("failed", "cancelled"):
                record = event.data.body() if isinstance(event.data, ApiError) else {}
                try:
                    self.store.end(work.name, event.kind, record)
                except Exception as error:  # a history that cannot be written must not stop the worker
                    explain(error)
                    self.unnoted[work.name] = (event.kind, record)
            # Last: who finds no work reads the history.
            self.works.pop(work.name, None)

        if not isinstance(self.policy, AllowAll):
            work.num_previews = 0  # the policy sees results alone
        work.finish, work.survives = finish_and_note, request is not None
        # First of all, so that `keep` holds it from its beginning.
        self.works[work.name] = work
        is_begun = False
        try:
            if is_new:
                await run_in_threadpool(self.store.begin, work.name, work.owner, work.task, request)
                is_begun = True
            self.worker.submit(work, is_new=is_new)
        except BaseException:  # a request is cancelled, too, where its client goes
            del self.works[work.name]
            if is_begun:
                await run_in_threadpool(self.store.forget, work.name)
            raise
        work.listen(note)

    def keep(self) -> None:
        """Renew the hold of what is drawn here, with how far it is, and drop what another server has or cancelled."""
        # First of all: what is not noted as ended counts as free, and would be drawn again.
        self.note_ends()
        works = dict(self.works)
        progress = {
            name: {"progress": work.last.steps} if work.last.kind == "progress" else {}
            for name, work in works.items()
            if work.last.kind in ("running", "progress", "preview")
        }
        for name in self.store.renew({name: progress.get(name) for name in works}):
            # What is drawn for an open connection goes on: no other server has its body.
            if works[name].survives:
                self.worker.cancel(works[name], "moved")

    def note_ends(self) -> None:
        """Note the ends that the history had no room for; raises what the database does if it still has none."""
        for name, (kind, record) in list(self.unnoted.items()):
            self.store.end(name, kind, record)
            self.unnoted.pop(name, None)

    async def wait(self, work: Work, events: "asyncio.Queue[WorkEvent]") -> AsyncIterator[WorkEvent]:
        """Yield what happens to a request up to its end; raises `ApiError` when it fails or takes too long."""
        while True:
            try:
                async with asyncio.timeout(max(work.deadline - time.monotonic(), 0.0)):
                    event = await events.get()
            except TimeoutError:
                await run_in_threadpool(self.worker.cancel, work)
                raise timed_out() from None
            if event.kind == "failed":
                raise explain(event.data)
            if event.kind == "cancelled":
                raise ApiError("the request was cancelled.", 409, code="cancelled")
            if event.kind == "moved":
                raise ApiError("another server has this request now, or cancelled it.", 409, code="moved")
            yield event
            if event.is_end:
                return


def owner_of(request: Request) -> str:
    """Return whose request this is: a digest of its key, "" where the server has no keys."""
    owner: str = request.scope.get("state", {}).get("owner", "")
    return owner


def owner_of_key(key: str) -> str:
    """Return a name for the holder of a key that does not give the key away."""
    return hashlib.sha256(key.encode()).hexdigest()


def as_event(kind: str, data: Mapping[str, Any]) -> str:
    """Write a server-sent event."""
    return f"event: {kind}\ndata: {json.dumps(dict(data))}\n\n"


def warnings_of(unknown: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the header that names fields which were ignored because nothing is known of them."""
    if not unknown:
        return {}
    names = ", ".join(ascii(name)[1:-1][:40] for name in list(unknown)[:10])
    return {"X-Unclip-Warning": f"unknown fields were ignored: {names}"}
