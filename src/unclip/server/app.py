"""The application: who may ask, how errors are written, and the routes of images, tasks, results and health."""

import asyncio
import hmac
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import pydantic
from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse, JSONResponse, Response
from pydantic.json_schema import models_json_schema
from starlette.requests import ClientDisconnect

from unclip import __version__
from unclip.errors import UnclipError
from unclip.pipelines import UnClip
from unclip.pipelines.options import TASKS
from unclip.server.config import ServerConfig
from unclip.server.errors import ApiError, explain
from unclip.server.fields import EditFields, GenerationFields, VariationFields
from unclip.server.images import image_routes
from unclip.server.metrics import CONTENT_TYPE
from unclip.server.rate import RateLimit
from unclip.server.service import ALIASES, Service, owner_of, owner_of_key
from unclip.server.store import MEDIA_TYPES
from unclip.server.tasks import request_model, resume, task_routes
from unclip.server.work import WorkEvent

AUDIT = logging.getLogger("unclip.audit")
HttpError: Any = HTTPException.__base__
"""What routing raises; FastAPI exports its own subclass alone."""
AsgiApp: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]
OPEN_ROUTES = ("/healthz", "/readyz")
"""Routes that need no key."""
SWEEP_SECONDS = 600.0
LEFT = 499
"""The status that is counted where a client leaves before its body has arrived; nobody is sent it."""


class BrokenAnswerError(UnclipError):
    """What was begun to be sent has no end."""


class Gate:
    """Lets a request in: with a key where there are keys, with a body that is not too large; and counts answers."""

    def __init__(self, app: AsgiApp, service: Service) -> None:
        self._app, self._service = app, service
        self._rate = RateLimit(service.config.requests_per_minute)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer or pass on one request; nothing of the body is read before its key is known to be right."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        config, headers = self._service.config, dict(scope["headers"])
        size, status, owner, began, is_read = 0, 0, "", time.monotonic(), False

        def too_large(found: str) -> ApiError:
            most = config.max_body_bytes
            return ApiError(f"the body has {found} bytes; at most {most} are read: send less.", 413, code="too_large")

        async def receive_some() -> Any:
            nonlocal size, is_read
            if is_read:  # what follows is that the client has left, whenever that is
                return await receive()
            try:
                async with asyncio.timeout(max(began + config.body_seconds - time.monotonic(), 0.0)):
                    message = await receive()
            except TimeoutError:
                late = f"the body did not arrive within {config.body_seconds:g} seconds; send it faster, or send less."
                raise ApiError(late, 408, code="body_too_slow") from None
            is_read = not message.get("more_body", False)
            size += len(message.get("body", b""))
            if size > config.max_body_bytes:
                raise too_large(f"{size} or more")
            return message

        async def send_some(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            if scope["path"] not in OPEN_ROUTES:
                owner = self._owner(headers.get(b"authorization", b""))
                scope.setdefault("state", {})["owner"] = owner
                if scope["method"] == "POST":
                    self._rate.count(owner)
            length = headers.get(b"content-length", b"0")
            if length.isdigit() and int(length) > config.max_body_bytes:
                raise too_large(length.decode())
            await self._app(scope, receive_some, send_some)
        except ClientDisconnect:
            status = LEFT
        except Exception as error:
            # Beyond here its message, which may hold a prompt, would be logged.
            refusal = explain(error)
            if status:
                raise BrokenAnswerError("an answer broke off; the lines above say where.") from None
            await answer_error(refusal)(scope, receive, send_some)
        finally:
            route = scope.get("route")
            path = "none" if route is None else route.path
            status = status or 500
            self._service.metrics.requests.labels(path, str(status)).inc()
            # The route and not the path, which may name a result.
            record = {"time": round(time.time(), 3), "key": owner[:12], "method": scope["method"], "route": path}
            AUDIT.info(json.dumps(record | {"status": status, "seconds": round(time.monotonic() - began, 3)}))

    def _owner(self, header: bytes) -> str:
        """Return whose key this is; raises `ApiError` for none and for a wrong one."""
        keys = self._service.config.api_keys
        if not keys:
            return ""
        kind, _, given = header.partition(b" ")
        # Every key is compared, and in constant time: the time of the answer says nothing.
        right = [key for key in keys if hmac.compare_digest(key.encode(), given.strip())]
        if kind.lower() != b"bearer" or not right:
            raise ApiError(
                "the API key is missing or wrong; send the header Authorization: Bearer KEY.", 401,
                code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"},
            )  # fmt: skip
        return owner_of_key(right[0])


def answer_error(error: ApiError) -> Response:
    """Return the answer to a request that is refused or failed."""
    return JSONResponse(error.body(), error.status, headers=error.headers)


def create_app(pipe: UnClip, config: ServerConfig) -> FastAPI:
    """Make the application that serves a loaded model; raises `InputError` for a store that cannot be used."""
    service = Service.open(pipe, config)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.worker.start()
        await resume(service)
        sweeping = asyncio.create_task(_sweep(service))
        yield
        sweeping.cancel()
        stopped = ApiError("the server stops; ask again when it is back.", 503, code="stopping")
        for work in await run_in_threadpool(service.worker.stop):
            if not work.survives:
                work.tell(WorkEvent("failed", stopped))
        service.store.close()

    # The pages that FastAPI offers load scripts from elsewhere.
    app = FastAPI(title="unclip", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(Gate, service=service)

    async def on_error(request: Request, error: Exception) -> Response:
        if isinstance(error, HttpError):
            return answer_error(ApiError(str(error.detail), error.status_code, code="invalid_request"))
        return answer_error(explain(error))

    for kind in (UnclipError, pydantic.ValidationError, HttpError):
        app.add_exception_handler(kind, on_error)
    app.include_router(image_routes(service))
    app.include_router(task_routes(service))
    _add_models(app, service)
    _add_results(app, service)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _add_models(app: FastAPI, service: Service) -> None:
    names = list(dict.fromkeys((service.pipe.name, *ALIASES)))

    def about(name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": service.started, "owned_by": "unclip"}

    @app.get("/v1/models", tags=["models"])
    async def models() -> dict[str, Any]:
        """List the model and its aliases."""
        return {"object": "list", "data": [about(name) for name in names]}

    @app.get("/v1/models/{name:path}", tags=["models"])
    async def model(name: str) -> dict[str, Any]:
        """Describe the model."""
        if name not in names:
            raise ApiError(f"there is no such model; use one of: {', '.join(names)}.", 404, code="model_not_found")
        return about(name)


def _add_results(app: FastAPI, service: Service) -> None:
    @app.get("/v1/results/{name}", tags=["results"])
    async def result(name: str, request: Request) -> Response:
        """Send a result; those of other keys do not exist."""
        path = await run_in_threadpool(service.store.find, name, owner_of(request))
        if path is None:
            raise ApiError("there is no such result; it may be past its lifetime.", 404, code="not_found")
        return FileResponse(path, media_type=MEDIA_TYPES[path.suffix], headers={"X-Content-Type-Options": "nosniff"})

    @app.get("/healthz", tags=["health"])
    async def healthz() -> dict[str, str]:
        """Say that the process answers."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["health"])
    async def readyz() -> Response:
        """Say whether requests are taken."""
        ready = service.worker.is_ready
        return JSONResponse({"status": "ready" if ready else "stopping"}, 200 if ready else 503)

    @app.get("/metrics", tags=["health"])
    async def metrics() -> Response:
        """Send the figures for Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)


async def _sweep(service: Service) -> None:
    """Remove old results, now and then."""
    while True:
        try:
            await run_in_threadpool(service.note_ends)
            await run_in_threadpool(service.store.sweep)
        except Exception as error:  # the next sweep may succeed
            explain(error)
        await asyncio.sleep(SWEEP_SECONDS)


def _openapi(app: FastAPI) -> dict[str, Any]:
    """Describe the API; bodies that are read by hand have the schemas of the models that check them."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, routes=app.routes)
        models: list[type[pydantic.BaseModel]] = [GenerationFields, EditFields, VariationFields]
        models += [request_model(task) for task in TASKS]
        _, schemas = models_json_schema(
            [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
        )
        document.setdefault("components", {}).setdefault("schemas", {}).update(schemas["$defs"])
        app.openapi_schema = document
    return app.openapi_schema
