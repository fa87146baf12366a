"""The application: the routes of images, tasks, results and health, and the studio."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import pydantic
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse, JSONResponse, Response
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException

from unclip import __version__
from unclip.errors import UnclipError
from unclip.pipelines import UnClip
from unclip.pipelines.options import TASKS
from unclip.server.config import ServerConfig
from unclip.server.errors import ApiError, answer_error, explain
from unclip.server.fields import EditFields, GenerationFields, VariationFields
from unclip.server.gate import Gate
from unclip.server.images import image_routes
from unclip.server.metrics import CONTENT_TYPE
from unclip.server.policy import AllowAll, Policy
from unclip.server.service import ALIASES, Service, owner_of
from unclip.server.store import MEDIA_TYPES
from unclip.server.studio import Spell, StudioMount
from unclip.server.tasks import request_model, resume, task_routes

SWEEP_SECONDS = 600.0
BEATS = 5
"""How often what is drawn is noted as held here, in the time after which it counts as free."""


def create_app(pipe: UnClip, config: ServerConfig, spell: Spell | None = None, policy: Policy | None = None) -> FastAPI:
    """Make the application that serves a loaded model; raises `InputError` for a store that cannot be used.

    With `spell`, which writes tasks as commands and programs, it has the studio at `/`. A model without a guard gets
    that of `config.safety`. `policy` is a hook that decides further what may be asked for and sent.
    """
    pipe = pipe.with_safety(config.safety) if pipe.guard is None else pipe
    service = Service.open(pipe, config, policy or AllowAll())
    studio = None if spell is None else StudioMount(service, spell)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.worker.start()
        try:
            await resume(service)
        except Exception as error:  # of a full disk, say; the next beat tries again
            explain(error)
        watching = [asyncio.create_task(_sweep(service)), asyncio.create_task(_keep(service))]
        async with nullcontext() if studio is None else studio.running():
            yield
        for one in watching:
            one.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        service.begin_stop()  # if nobody has yet
        await run_in_threadpool(service.worker.join)
        await run_in_threadpool(service.store.release)
        service.store.close()

    # The pages that FastAPI offers load scripts from elsewhere.
    app = FastAPI(title="unclip", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(Gate, service=service, has_studio=studio is not None)

    async def on_error(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            return answer_error(ApiError(str(error.detail), error.status_code, code="invalid_request"))
        return answer_error(explain(error))

    for kind in (UnclipError, pydantic.ValidationError, HTTPException):
        app.add_exception_handler(kind, on_error)
    app.include_router(image_routes(service))
    app.include_router(task_routes(service))
    _add_models(app, service)
    _add_results(app, service)
    if studio is not None:
        app.mount("/", studio)
    app.state.begin_stop = service.begin_stop
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


async def _keep(service: Service) -> None:
    """Hold what is drawn here, and take over what no server holds any more."""
    while service.worker.is_ready:
        await asyncio.sleep(service.config.lease_seconds / BEATS)
        try:
            await run_in_threadpool(service.keep)
            await resume(service)
        except Exception as error:  # of a database that may be back at the next beat
            explain(error)


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
