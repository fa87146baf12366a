"""Draw what the widgets of a task say, and tell the page how far it is; and list what was drawn before."""

import html
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from fastapi.concurrency import run_in_threadpool
from PIL import Image

from unclip.pipelines.options import TASKS
from unclip.server.errors import ApiError, explain
from unclip.server.service import Service
from unclip.server.studio.fields import title_of
from unclip.server.tasks import make_work, request_model
from unclip.server.work import Work

NUM_PREVIEWS = 8
CUT = " The prompt is longer than the model reads; its end was left out."
BLURRED = " What the safety policy names is blurred."
COUNTS = ("num_images", "best_of")
"""Options about how many pictures there are: the seed of one draws it alone."""
MAX_HISTORY = 60
"""Requests of the past that the page shows."""


class Shown(NamedTuple):
    """A picture on the page, and what drew it."""

    path: str
    seed: int
    task: str
    request: dict[str, Any]

    def options(self) -> dict[str, Any]:
        """Return the options that draw this picture alone, or its whole series, again, as the library takes them."""
        described = {option.name: option for option in TASKS[self.task].options}
        values = {name: value for name, value in self.request.items() if name in described and name not in COUNTS}
        options = {name: _value(value) for name, value in values.items() if value != described[name].default}
        for name, value in options.items():
            if described[name].kind == "size" and isinstance(value, list):
                options[name] = tuple(value)
        return options | ({"seed": self.seed} if "seed" in described else {})


@dataclass(frozen=True)
class Moment:
    """What the page shows at one moment: a line, and pictures where there are new ones."""

    status: str
    previews: dict[int, Image.Image] | None = None
    shown: list[Shown] | None = None
    is_end: bool = False


async def draw(
    service: Service, owner: str, task: str, read_body: Callable[[], dict[str, Any]], accepted: Callable[[Work], None]
) -> AsyncIterator[Moment]:
    """Queue a request as `/v1/tasks` does, and follow it to its end; a page that is left cancels it.

    `accepted` is given the work, so that it can be cancelled. What is wrong is one sentence in the last moment.
    """
    work = None
    try:
        body = await run_in_threadpool(read_body)
        fields = request_model(task).model_validate(body)
        service.count(owner if service.config.all_keys else "")
        work = await run_in_threadpool(make_work, service, task, fields, owner)
        work.num_previews = NUM_PREVIEWS
        await service.accept(work, json.dumps(body).encode())
        accepted(work)
        previews: dict[int, Image.Image] = {}
        async for event in service.wait(work, work.events()):
            match event.kind:
                case "progress":
                    yield Moment(_bar(*event.data))
                case "preview":
                    place, _, picture = event.data
                    previews[place] = picture
                    yield Moment(_bar("decoder", 0, 0), dict(sorted(previews.items())))
                case "done":
                    shown = await run_in_threadpool(pictures_of, service, owner, task, event.data)
                    findings = [one for report in event.data.get("safety", ()) for one in report["findings"]]
                    note = CUT if event.data["is_cut"] else ""
                    note += BLURRED if any(one["action"] == "blur" for one in findings) else ""
                    yield Moment(_line(f"{_count(len(shown))}.{note}"), shown=shown, is_end=True)
                case _:
                    yield Moment(_line("Waiting for others." if event.kind == "queued" else "Drawing."))
    except ApiError as error:
        is_stopped = error.code == "cancelled"
        yield Moment(_line("Stopped." if is_stopped else sentence_of(error), is_error=not is_stopped), is_end=True)
    except Exception as error:  # whatever it is, the page says it
        yield Moment(_line(sentence_of(explain(error)), is_error=True), is_end=True)
    finally:
        if work is not None and not work.last.is_end:
            service.worker.cancel(work)


def sentence_of(error: ApiError) -> str:
    """Write the message of an error as a sentence of the page, with the names that the page uses."""
    text = str(error)
    if error.param is not None and text.startswith(f"{error.param}="):
        text = f"{title_of(error.param)} {text.removeprefix(error.param)[1:]}"
    return text[:1].upper() + text[1:]


def earlier(service: Service, owner: str) -> list[Shown]:
    """List the pictures of this owner, newest first."""
    works = service.store.history(owner, MAX_HISTORY)
    return [shown for work in works for shown in pictures_of(service, owner, work.task, work.record)]


def pictures_of(service: Service, owner: str, task: str, record: Mapping[str, Any]) -> list[Shown]:
    """Return the pictures that a record of the history names, of those that are still there."""
    shown, request = [], record.get("request", {})
    for one in record.get("data", []):
        path = service.store.find(one["name"], owner)
        if path is not None and path.suffix != ".safetensors":
            own = {"prompts": one["prompt"]} if "prompt" in one and "prompts" in request else {}
            shown.append(Shown(str(path), one.get("seed", 0), task, {**request, **own}))
    return shown


def _count(number: int) -> str:
    return "One picture" if number == 1 else f"{number} pictures"


def _line(text: str, *, is_error: bool = False) -> str:
    kind = "alert" if is_error else "status"
    return f'<div role="{kind}" class="line {kind}">{html.escape(text)}</div>'


def _bar(stage: str, done: int, total: int) -> str:
    """Write a bar of progress; total 0: it only says that something moves."""
    numbers = f'value="{done}" max="{total}"' if total else ""
    text = f"{html.escape(stage.replace('_', ' '))}: step {done} of {total}" if total else html.escape(stage)
    return f'<div role="status" class="line"><progress {numbers}></progress> {text}</div>'


def _value(value: Any) -> Any:
    """Return what the library takes for a value of a request."""
    match value:
        case {"text": str(text), **rest}:
            return (text, rest["weight"]) if "weight" in rest else text
        case {"picture": str(path), **rest}:
            return (path, rest["weight"]) if "weight" in rest else path
        case list() if any(isinstance(one, dict) for one in value):
            return [_value(one) for one in value]
    return value
