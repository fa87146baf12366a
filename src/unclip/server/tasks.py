"""A route for every task of the library, its request model made from the task's own description."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import cache, reduce
from inspect import Parameter
from operator import or_
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import ConfigDict, Field
from torch import Tensor

from unclip.config import Config
from unclip.errors import UnclipError
from unclip.model.basis import EmbeddingBasis
from unclip.pipelines import Draft, Result
from unclip.pipelines.inputs import Input
from unclip.pipelines.options import TASKS, Option
from unclip.pipelines.result import check_alpha
from unclip.pipelines.settings import check_prompts, image_seeds
from unclip.server.bodies import body_of, read_body
from unclip.server.config import ServerConfig
from unclip.server.errors import ApiError, explain, refused
from unclip.server.limits import check_cost, usual_size
from unclip.server.pictures import SUFFIXES, decode_base64, read_upload, write_result
from unclip.server.service import Service, as_event, owner_of, warnings_of
from unclip.server.store import StoredWork, keeping
from unclip.server.work import ENDS, Work

NOT_SENT = ("output_type", "progress", "preview")
"""Options that a request has no use for: it gets files, and its progress as events."""
MAX_LISTED = 16
"""Texts, pictures or numbers that one option may list."""
MAX_ROWS = 256
"""Pictures of a draft, and embeddings, that one request may send."""
AS_SENT = ("advance", "finish", "inpaint", "outpaint")
"""Tasks whose pictures have the size of what is sent unless another is asked for."""
MOST = {
    "num_images": 16, "num_candidates": 16, "best_of": 16, "frames": 64, "num_resamples": 16, "batch_size": 64,
    "num_steps": 1000, "left": 2048, "right": 2048, "top": 2048, "bottom": 2048, "window": 2048,
}  # fmt: skip
"""Bounds that a library has no need for, and a server has."""
NOTING_SECONDS = 0.005
"""Between two looks whether the end of a request is in the history."""
POLL_SECONDS = 0.25
"""Between two looks how far another server is with a request."""


class TaskRequest(Config):
    """What the request of any task may say besides the options of the task."""

    model_config = ConfigDict(extra="allow")

    output_format: Literal["png", "jpeg", "webp", "gif"] = "png"
    """gif makes one animation of all pictures."""


class TextInput(Config):
    """A text in a place where a picture could be."""

    text: str = Field(min_length=1)


class PictureInput(Config):
    """A picture, in base64 or as a data URL, in a place where a text could be."""

    picture: str


class WeightedText(TextInput):
    """A text of a mix."""

    weight: float = Field(1.0, allow_inf_nan=False)


class WeightedPicture(PictureInput):
    """A picture of a mix."""

    weight: float = Field(1.0, allow_inf_nan=False)


Numbers = list[Annotated[float, Field(allow_inf_nan=False)]]
Base64 = Annotated[str, Field(min_length=1, description="Bytes of a file in base64, or as a data URL.")]
JSON_TYPES: Mapping[str, Any] = {
    "text": str, "boolean": bool, "integer": int, "number": Annotated[float, Field(allow_inf_nan=False)],
    "size": int | tuple[int, int], "embedding": Numbers | Annotated[list[Numbers], Field(max_length=MAX_ROWS)],
    "picture": Base64, "mask": Base64, "draft": Base64, "basis": Base64,
    "text or picture": TextInput | PictureInput,
    "weighted parts": Annotated[list[WeightedText | WeightedPicture], Field(min_length=1, max_length=MAX_LISTED)],
}  # fmt: skip


@cache
def request_model(task: str) -> type[TaskRequest]:
    """Make the request model of a task: a field for each of its options, with its help and bounds."""
    fields: dict[str, Any] = {}
    for option in TASKS[task].options:
        if option.name in NOT_SENT:
            continue
        bounds = {"ge": option.least, "gt": option.above, "le": MOST.get(option.name, option.most)}
        one: Any = Literal[option.choices] if option.choices else JSON_TYPES[option.kind or "text"]
        numeric: dict[str, Any] = {name: bound for name, bound in bounds.items() if bound is not None}
        if numeric and option.kind in ("integer", "number"):
            one = Annotated[one, Field(**numeric)]
        kinds: list[Any] = [one]
        if option.takes_several and option.kind != "weighted parts":
            kinds.append(Annotated[list[one], Field(min_length=1, max_length=MAX_LISTED)])
        if option.is_per_stage:
            kinds.append(dict[str, one])
        kinds += [None] if option.default is None else []
        default = ... if option.default is Parameter.empty else option.default
        fields[option.name] = (reduce(or_, kinds), Field(default, description=option.help))
    return pydantic.create_model(f"{task}_request", __base__=TaskRequest, **fields)


def read_arguments(task: str, fields: TaskRequest, config: ServerConfig) -> dict[str, Any]:
    """Return the arguments of a task for what a request says; what it leaves out has the task's own default."""
    values = {name: getattr(fields, name) for name in fields.model_fields_set & type(fields).model_fields.keys()}
    arguments = {
        option.name: read_value(option, values[option.name], config)
        for option in TASKS[task].options
        if option.name in values and values[option.name] is not None
    }
    check_alpha(SUFFIXES[fields.output_format], arguments.get("background"))
    # Chosen here, so that requests with a seed of each picture may share a pass.
    has_seeds = isinstance(arguments.get("seed"), list)
    if task == "text_to_image" and isinstance(arguments["prompts"], str) and not has_seeds:
        count = max(arguments.get("num_images", 1), arguments.get("best_of", 1))
        arguments["seed"] = image_seeds(arguments.get("seed"), count)
    return arguments


def read_value(option: Option, value: Any, config: ServerConfig) -> Any:
    """Make the value that a task takes for an option of what a request says; raises `ApiError` for what is none."""
    name = option.name
    if option.kind in ("picture", "mask"):
        several = value if isinstance(value, list) else [value]
        pictures = [read_upload(decode_base64(one, name), name, config.max_pixels) for one in several]
        return pictures if option.takes_several else pictures[0]
    if option.kind == "text or picture":
        several = value if isinstance(value, list) else [value]
        inputs = [_read_input(one, name, config) for one in several]
        return inputs if option.takes_several else inputs[0]
    if option.kind == "weighted parts":
        return [(_read_input(one, name, config), one.weight) for one in value]
    if option.kind == "embedding":
        try:
            return np.array(value, dtype=np.float32)
        except ValueError:
            raise refused(name, value, "has rows of several lengths; give embeddings of one.") from None
    if name in ("image_size", "size"):
        sides = (value, value) if isinstance(value, int) else value
        if math.prod(sides) > config.max_pixels:
            raise refused(
                name, "x".join(map(str, sides)), f"has too many pixels; at most {config.max_pixels} can be asked for."
            )
    if option.kind in ("draft", "basis"):
        with NamedTemporaryFile(dir=config.store, suffix=".safetensors") as file:
            file.write(decode_base64(value, name))
            file.flush()
            try:
                loaded = (Draft if option.kind == "draft" else EmbeddingBasis).load(file.name)
            except UnclipError as error:
                raise ApiError(str(error).replace(file.name, name), param=name) from None
        if isinstance(loaded, Draft):
            _check_draft(loaded, name, config.max_pixels)
        return loaded
    return value


def _check_draft(draft: Draft, name: str, max_pixels: int) -> None:
    """Raise `ApiError` for a draft of more pictures, or of larger ones, than a request may ask for."""
    sides = draft.image_size if isinstance(draft.image_size, tuple) else (draft.image_size or 1,) * 2
    if len(draft.seeds) > MAX_ROWS or math.prod(sides) > max_pixels:
        found = f"{len(draft.seeds)} pictures of image_size={draft.image_size}"
        raise ApiError(f"{name} has {found}; at most {MAX_ROWS}, and {max_pixels} pixels, can be drawn.", param=name)


def _read_input(value: TextInput | PictureInput, name: str, config: ServerConfig) -> Any:
    """Make a text or a picture; a text of a request never names a file of this machine."""
    if isinstance(value, TextInput):
        return Input(check_prompts(value.text)[0])
    return read_upload(decode_base64(value.picture, name), name, config.max_pixels)


def write_outcome(service: Service, owner: str, form: str, outcome: Any) -> dict[str, Any]:
    """Keep what a task made as files, and return a record that names them."""
    if isinstance(outcome, Tensor):
        return {"embeddings": outcome.float().cpu().tolist()}
    if isinstance(outcome, Draft | EmbeddingBasis):
        with NamedTemporaryFile(dir=service.config.store, suffix=".safetensors") as file:
            with keeping():
                outcome.save(file.name)
            content = Path(file.name).read_bytes()
        return {"data": [{"name": service.store.save(content, ".safetensors", owner)}]}
    assert isinstance(outcome, Result), f"a task made a {type(outcome).__name__}"
    names = [
        service.store.save(content, SUFFIXES[form], owner) for content, _ in write_result(outcome, None, form, None)
    ]
    data: list[dict[str, Any]]
    data = [{"name": name, "seed": seed} for name, seed in zip(names, outcome.seeds, strict=form != "gif")]
    if len(set(outcome.prompts)) > 1:
        data = [one | {"prompt": prompt} for one, prompt in zip(data, outcome.prompts, strict=form != "gif")]
    reports = [report.record() for report in outcome.safety]
    return {"data": data, "settings": outcome.settings, "safety": reports, "is_cut": any(outcome.cut)}


def task_routes(service: Service) -> APIRouter:
    """Make a route for each task, and those to follow a request, read its end, and cancel it."""
    router = APIRouter(prefix="/v1/tasks", tags=["tasks"])
    for task, description in TASKS.items():
        summary = (description.function.__doc__ or "").partition("\n")[0]
        router.add_api_route(
            f"/{task}", _accepting(service, task), methods=["POST"], status_code=202, summary=summary, name=task,
            openapi_extra=body_of(request_model(task).__name__),
        )  # fmt: skip

    @router.get("/{name}")
    async def status(name: str, request: Request) -> Response:
        """Say how far a request is, or how it ended."""
        return JSONResponse(_status(*await _find(service, name, request), request))

    @router.get("/{name}/events")
    async def events(name: str, request: Request) -> Response:
        """Follow a request to its end by server-sent events."""
        found = await _find(service, name, request)
        return StreamingResponse(_follow(service, *found, request), media_type="text/event-stream")

    @router.delete("/{name}")
    async def cancel(name: str, request: Request) -> Response:
        """Cancel a request; one that has ended stays as it is."""
        work, _ = await _find(service, name, request)
        if work is not None:
            await run_in_threadpool(service.worker.cancel, work)
        await run_in_threadpool(service.store.cancel, name)  # of what another server draws
        return JSONResponse(_status(*await _find(service, name, request), request))

    return router


def make_work(service: Service, task: str, fields: TaskRequest, owner: str, name: str | None = None) -> Work:
    """Make the work of a request; raises `ApiError` for values that are none."""
    config = service.config_for(owner)
    arguments = read_arguments(task, fields, config)
    unsaid = {option.name for option in TASKS[task].options} - arguments.keys()
    for option in {"image_size", "size"} & unsaid:
        if task not in AS_SENT and (side := usual_size(service.pipe, config.max_pixels)) is not None:
            arguments[option] = side
    check_cost(arguments, config)

    def finish(outcome: Any) -> dict[str, Any]:
        return {**write_outcome(service, owner, fields.output_format, outcome), "request": spoken(task, fields)}

    return Work(task, arguments, finish, owner=owner, name=name, timeout_seconds=service.config.timeout_seconds)


def spoken(task: str, fields: TaskRequest) -> dict[str, Any]:
    """Return what a request says in words and numbers: its pictures and embeddings are left out."""
    values = fields.model_dump(mode="json", exclude_unset=True)
    said = {
        option.name: _without_pictures(values[option.name])
        for option in TASKS[task].options
        if values.get(option.name) is not None and option.kind not in ("draft", "basis", "embedding")
    }
    files = {option.name: f"{option.kind}.png" for option in TASKS[task].options if option.kind in ("picture", "mask")}
    return said | {name: file for name, file in files.items() if name in said}


def _without_pictures(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_pictures(one) for one in value]
    return value | {"picture": "picture.png"} if isinstance(value, dict) and "picture" in value else value


async def resume(service: Service) -> None:
    """Queue again what was accepted by a server that stopped or crashed, this one or another."""
    for stored, body in await run_in_threadpool(
        lambda: list(service.store.interrupted(service.works.keys() | service.unnoted.keys()))
    ):
        try:
            fields = request_model(stored.task).model_validate_json(body)
            work = await run_in_threadpool(make_work, service, stored.task, fields, stored.owner, stored.name)
            await service.accept(work, body, is_new=False)
        except (UnclipError, pydantic.ValidationError, KeyError) as error:  # of a task of another version, too
            await run_in_threadpool(service.store.end, stored.name, "failed", explain(error).body())


def _accepting(service: Service, task: str) -> Callable[[Request], Awaitable[Response]]:
    async def accept(request: Request) -> Response:
        body = await read_body(request)
        fields = request_model(task).model_validate(body)
        work = await run_in_threadpool(make_work, service, task, fields, owner_of(request))
        await service.accept(work, json.dumps(body).encode())
        headers = warnings_of(fields.model_extra) | {"Location": f"/v1/tasks/{work.name}"}
        return JSONResponse({"id": work.name, "task": task, "status": "queued"}, status_code=202, headers=headers)

    return accept


async def _find(service: Service, name: str, request: Request) -> tuple[Work | None, StoredWork]:
    """Return a request, while it is not finished, and what the history says of it.

    Raises `ApiError` for another key's, and for one that does not exist.
    """
    # In this order: what ends in between has its end in the history, which is written before the work is left out.
    while (work := service.works.get(name)) is not None and work.last.is_end:
        await asyncio.sleep(NOTING_SECONDS)
    if name in service.unnoted:
        await run_in_threadpool(service.note_ends)
    stored = await run_in_threadpool(service.store.read, name, owner_of(request))
    if stored is None or stored.task not in TASKS:
        raise ApiError("there is no such request; it may have been removed.", 404, code="not_found")
    return work, stored


def _about(stored: StoredWork, status: str, **more: Any) -> dict[str, Any]:
    return {"id": stored.name, "task": stored.task, "status": status, "created": int(stored.created), **more}


def _status(work: Work | None, stored: StoredWork, request: Request) -> dict[str, Any]:
    if work is None:
        return _about(stored, stored.status, **_with_urls(stored.record, request))
    last = work.last
    progress = {"progress": last.steps} if last.kind == "progress" else {}
    return _about(stored, "queued" if last.kind == "queued" else "running", **progress)


def _with_urls(record: Mapping[str, Any], request: Request) -> dict[str, Any]:
    """Return a record with the addresses of its files in place of their names."""
    data = [dict(one) for one in record.get("data", [])]
    for one in data:
        one["url"] = f"{request.base_url}v1/results/{one.pop('name')}"
    return {**record, **({"data": data} if data else {})}


async def _follow(service: Service, work: Work | None, stored: StoredWork, request: Request) -> AsyncIterator[str]:
    """Write each event of a request; one that has ended has a single event."""
    if work is not None:
        events = work.events()
        while not (event := await events.get()).is_end:
            if event.kind != "preview":
                yield as_event(event.kind, event.steps or {"status": event.kind})
        if event.kind != "moved":
            record = event.data.body() if isinstance(event.data, ApiError) else event.data or {}
            yield as_event(event.kind, _about(stored, event.kind, **_with_urls(record, request)))
            return
    # Another server draws it, or did: the history says how far it is.
    shown = ""
    while (newest := await run_in_threadpool(service.store.read, stored.name, stored.owner)) is not None:
        if service.stopping.is_set():
            yield as_event("stopping", {"status": "queued"})
            return
        if newest.status in ENDS:
            yield as_event(newest.status, _status(None, newest, request))
            return
        steps = newest.record.get("progress")
        event_text = as_event("progress" if steps else newest.status, steps or {"status": newest.status})
        if event_text != shown:
            yield event_text
        shown = event_text
        await asyncio.sleep(POLL_SECONDS)
