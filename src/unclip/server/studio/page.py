"""The page: a tab for each task on the left, what is drawn on the right, and what was drawn before below."""

import html
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import gradio as gr
from fastapi.concurrency import run_in_threadpool

from unclip.pipelines import UnClip
from unclip.pipelines.options import TASKS
from unclip.server.service import Service, owner_of
from unclip.server.studio.drawing import Moment, Shown, draw, earlier
from unclip.server.studio.fields import Form, make_form
from unclip.server.studio.mount import Spell
from unclip.server.work import Work


class Tab(NamedTuple):
    """The tab of a task."""

    title: str
    verb: str
    """What stands on its button."""
    hint: str


TABS: Mapping[str, Tab] = {
    "text_to_image": Tab("Draw", "Draw", "Pictures of what a text says."),
    "image_variations": Tab("Vary", "Vary", "Pictures that CLIP takes for the same as this one."),
    "interpolate": Tab("Between", "Draw the way", "The way from one text or picture to another, in steps."),
    "text_diff": Tab("Change", "Change it", "A picture moves from what one text says to what another says."),
    "inpaint": Tab("Paint", "Paint it anew", "A part of a picture is drawn anew; all else stays, pixel for pixel."),
    "outpaint": Tab("Extend", "Extend it", "A picture goes on beyond its borders."),
    "image_to_image": Tab("Draw over", "Draw over it", "A picture is the sketch for another one."),
    "mix": Tab("Mix", "Mix", "Texts and pictures in one, each with its weight."),
    "upscale": Tab("Upscale", "Upscale", "A picture gets larger and sharper."),
    "probe": Tab("Probe", "Probe", "What is left of a picture in the leading parts of its embedding."),
    "unconditional": Tab("Surprise", "Surprise me", "Pictures of nothing in particular."),
}
"""Tasks in the order of the page."""
GOING_ON = ("image_variations", "image_to_image", "text_diff", "inpaint", "outpaint", "upscale")
"""Tasks to which the picture on the easel can go by a button."""
HINT = '<div role="status" class="line">Write what to draw, and press Draw.</div>'
SHOW_EASEL = "() => document.querySelector('#easel').scrollIntoView({behavior: 'smooth', block: 'nearest'})"
"""On a phone the easel is below the form."""
PRIVATE: Any = {"api_visibility": "private"}


class Easel(NamedTuple):
    """Where pictures are shown."""

    status: gr.HTML
    stop: gr.Button
    picture: gr.Image
    dial: gr.Slider
    strip: gr.Gallery
    after: gr.Column
    """What is of use when there is a picture."""
    command: gr.Code
    python: gr.Code
    shown: gr.State
    place: gr.State


class Studio:
    """The page of one served model."""

    def __init__(self, service: Service, spell: Spell) -> None:
        self._service, self._spell = service, spell
        self._works: dict[str, Work] = {}
        """What is being drawn for each open page."""

    def make(self) -> gr.Blocks:
        """Make the page; each request of it is drawn by the service as those to `/v1/tasks` are."""
        service = self._service
        lifetime = int(service.config.lifetime_hours * 3600)
        title, model = "unclip studio", html.escape(service.pipe.name)
        with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(600, lifetime), fill_width=True) as page:
            gr.HTML(f"<h1>{title}</h1><p>draws with the model <b>{model}</b></p>", elem_id="head")
            with gr.Row(equal_height=False):
                with gr.Column(scale=2, min_width=320):
                    tabs, forms, buttons = _make_tabs(service.pipe)
                with gr.Column(scale=3, min_width=320, elem_id="easel"):
                    easel, going_on = _make_easel(forms)
            history = _make_strip("history", "Earlier pictures")
            past = gr.State([])
            for task, form in forms.items():
                lines = [one for one in form.components if isinstance(one, gr.Textbox)]
                for trigger in (buttons[task].click, *(one.submit for one in lines)):
                    trigger(None, js=SHOW_EASEL, **PRIVATE)
                    self._connect_drawing(trigger, form, easel, history, past)
            for task, button in going_on.items():
                brought = self._connect_going_on(task, button, forms[task], tabs, easel)
                if task == "image_variations":
                    self._connect_drawing(brought.success, forms[task], easel, history, past)
            easel.stop.click(self._stop, None, None, show_progress="hidden", **PRIVATE)
            self._connect_places(easel, history, past)
            page.load(self._look_back, None, [history, past], **PRIVATE)
        return page

    def _connect_drawing(self, trigger: Any, form: Form, easel: Easel, history: Any, past: Any) -> None:
        """Let an event draw what the form says; afterwards the earlier pictures are read again."""
        event = trigger(
            self._drawing(form), form.components, list(easel), concurrency_limit=None, show_progress="hidden", **PRIVATE
        )
        event.then(self._look_back, None, [history, past], show_progress="hidden", **PRIVATE)
        return event

    def _drawing(self, form: Form) -> Callable[..., AsyncIterator[list[Any]]]:
        async def run(request: gr.Request, *values: Any) -> AsyncIterator[list[Any]]:
            page = str(request.session_hash)
            own: list[Work] = []

            def accepted(work: Work) -> None:
                own.append(work)
                self._works[page] = work

            try:
                read_body = partial(form.body, values)
                async for moment in draw(self._service, _owner_of(request), form.task, read_body, accepted):
                    yield self._show(moment)
            finally:
                if own and self._works.get(page) is own[0]:
                    del self._works[page]

        return run

    async def _stop(self, request: gr.Request) -> None:
        work = self._works.get(str(request.session_hash))
        if work is not None:
            await run_in_threadpool(self._service.worker.cancel, work)

    def _show(self, moment: Moment) -> list[Any]:
        """Return what each part of the easel becomes."""
        stop = gr.Button(interactive=not moment.is_end)
        if moment.shown is not None:
            return [moment.status, stop, *self._at(moment.shown, 0, is_new=True)]
        if moment.previews is None:
            return [moment.status, stop, *[gr.skip()] * 8]
        first, *others = moment.previews.values()
        strip = gr.Gallery([first, *others], visible=bool(others), selected_index=None)
        return [moment.status, stop, first, gr.Slider(visible=False), strip, *[gr.skip()] * 5]

    def _at(self, shown: Sequence[Shown], place: int, *, is_new: bool = False) -> list[Any]:
        """Show the picture at `place`, how it is drawn again, and, where they are new, all of them."""
        one, last = shown[place], len(shown) - 1
        dial: Any = gr.skip()
        strip: Any = gr.skip()
        if is_new:
            dial = gr.Slider(0, max(last, 1), value=place, visible=TASKS[one.task].is_series and last > 0)
            strip = gr.Gallery([each.path for each in shown], visible=last > 0, selected_index=None)
        command, python = self._spell(one.task, one.options())
        return [
            one.path,
            dial,
            strip,
            gr.Column(visible=True),
            command,
            python,
            list(shown) if is_new else gr.skip(),
            place,
        ]

    def _look_back(self, request: gr.Request) -> tuple[Any, list[Shown]]:
        past = earlier(self._service, _owner_of(request))
        strip = gr.Gallery([(one.path, _caption(one)) for one in past], visible=bool(past), selected_index=None)
        return strip, past

    def _connect_places(self, easel: Easel, history: gr.Gallery, past: gr.State) -> None:
        """Let the dial, the strip and the earlier pictures choose what stands on the easel."""
        moved = [
            easel.picture,
            easel.dial,
            easel.strip,
            easel.after,
            easel.command,
            easel.python,
            easel.shown,
            easel.place,
        ]

        def turn(shown: list[Shown], place: float) -> list[Any]:
            return self._at(shown, int(place))

        def pick(shown: list[Shown], event: gr.SelectData) -> list[Any]:
            return self._at(shown, event.index)

        def bring_back(past: list[Shown], event: gr.SelectData) -> list[Any]:
            return self._at([past[event.index]], 0, is_new=True)

        easel.dial.input(
            turn, [easel.shown, easel.dial], moved, show_progress="hidden", trigger_mode="always_last", **PRIVATE
        )
        easel.strip.select(pick, easel.shown, moved, show_progress="hidden", **PRIVATE)
        history.select(bring_back, past, moved, show_progress="hidden", **PRIVATE)

    def _connect_going_on(self, task: str, button: gr.Button, form: Form, tabs: gr.Tabs, easel: Easel) -> Any:
        """Let a button bring the picture on the easel to the tab of a task."""

        def bring(shown: list[Shown], place: int) -> tuple[Any, Any]:
            return (shown[place].path if shown else gr.skip()), gr.Tabs(selected=task)

        inputs, outputs = [easel.shown, easel.place], [form.picture, tabs]
        return button.click(bring, inputs, outputs, show_progress="hidden", **PRIVATE)


def _make_tabs(pipe: UnClip) -> tuple[gr.Tabs, dict[str, Form], dict[str, gr.Button]]:
    forms, buttons = {}, {}
    with gr.Tabs(elem_id="tasks", overflow_behavior="wrap") as tabs:
        for task, tab in TABS.items():
            if can_draw(pipe, task):
                with gr.Tab(tab.title, id=task):
                    gr.Markdown(tab.hint)
                    forms[task] = make_form(task, pipe)
                    buttons[task] = gr.Button(tab.verb, variant="primary", elem_id=f"draw-{task}")
    return tabs, forms, buttons


def _make_easel(forms: Iterable[str]) -> tuple[Easel, dict[str, gr.Button]]:
    """Make the easel, and the buttons that lead on from it."""
    with gr.Row(elem_id="progress"):
        status = gr.HTML(HINT, elem_id="status")
        stop = gr.Button("Stop", size="sm", interactive=False, scale=0, min_width=80, elem_id="stop")
    buttons: Any = ["download", "fullscreen"]
    picture = gr.Image(
        show_label=False, type="filepath", interactive=False, height=420, elem_id="picture", buttons=buttons
    )
    dial = gr.Slider(0, 1, step=1, label="From first to last", visible=False, interactive=True, elem_id="dial")
    strip = _make_strip("strip", "")
    going_on = {}
    with gr.Column(visible=False) as after:
        with gr.Row(elem_id="going-on"):
            for task in (name for name in GOING_ON if name in forms):
                going_on[task] = gr.Button(TABS[task].title, size="sm", min_width=80, elem_id=f"to-{task}")
        command, python = _make_codes()
    return Easel(status, stop, picture, dial, strip, after, command, python, gr.State([]), gr.State(0)), going_on


def _make_codes() -> tuple[gr.Code, gr.Code]:
    words: Any = {"interactive": False, "wrap_lines": True, "show_line_numbers": False, "lines": 1}
    with gr.Accordion("How to draw it again", open=True):
        command = gr.Code(label="Command", language="shell", elem_id="command", **words)
        python = gr.Code(label="Python", language="python", elem_id="python", **words)
    return command, python


def _make_strip(name: str, title: str) -> gr.Gallery:
    return gr.Gallery(
        label=title, show_label=bool(title), columns=8, fit_columns=False, height="auto", allow_preview=False,
        visible=False, interactive=False, buttons=[], elem_id=name,
    )  # fmt: skip


def can_draw(pipe: UnClip, task: str) -> bool:
    """Whether the model has the stages of a task."""
    if task == "upscale":
        return any(name.startswith("upsampler") for name in pipe.stages)
    return "decoder" in pipe.stages and (task != "probe" or pipe.basis is not None)


def _caption(shown: Shown) -> str:
    text = shown.request.get("prompts") or shown.request.get("prompt") or shown.task.replace("_", " ")
    return f"{text if len(text) <= 40 else f'{text[:40]}...'}"


def _owner_of(request: gr.Request) -> str:
    assert request.request is not None, "outside of a request"
    return owner_of(request.request)
