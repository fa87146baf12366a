"""Bring the studio into the application while that answers already: importing gradio takes some seconds."""

import asyncio
import posixpath
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import PlainTextResponse
from starlette.requests import ClientDisconnect

from unclip.server.errors import explain
from unclip.server.service import Service

Spell: TypeAlias = Callable[[str, Mapping[str, Any]], tuple[str, str]]
"""Writes a task with its options as a command and as a Python program."""
ADDRESS = re.compile(r"/gradio_api/(file=[a-z][a-z0-9+.-]*:|proxy=)", re.IGNORECASE)
"""Paths by which gradio would fetch from elsewhere for a visitor."""
CSS = Path(__file__).with_name("page.css")
FONTS = ["system-ui", "sans-serif"]
"""Those of the machine: gradio's own come from elsewhere."""


class StudioMount:
    """An application whose requests wait until the page has been made."""

    def __init__(self, service: Service, spell: Spell) -> None:
        self._service, self._spell = service, spell
        self._app: Any = PlainTextResponse("The studio could not be made; the server's log says why.", 503)
        self._is_made = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        await self._is_made.wait()
        if ADDRESS.match(scope.get("path", "")):
            await PlainTextResponse("Addresses are not fetched.", 403)(scope, receive, send)
            return
        # Files have long names by chance, but whose they are is known.
        path, owner = posixpath.normpath(scope.get("path", "")), scope.get("state", {}).get("owner", "")
        if "/file" in path:
            whose = await run_in_threadpool(self._service.store.owner_of, posixpath.basename(path))
            if whose not in (None, owner):
                await PlainTextResponse("There is no such file.", 404)(scope, receive, send)
                return
        with suppress(ClientDisconnect):  # a page that was left while it sent something
            await self._app(scope, receive, send)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Make the page in the background, and end in the end what it began."""
        making = asyncio.create_task(self._run())
        try:
            yield
        finally:
            making.cancel()
            with suppress(asyncio.CancelledError):
                await making

    async def _run(self) -> None:
        try:
            app = await asyncio.to_thread(_make_app, self._service, self._spell)
            async with app.router.lifespan_context(app):
                self._app = app
                self._is_made.set()
                await asyncio.Event().wait()
        except Exception as error:  # the API answers without a studio
            explain(error)
            self._is_made.set()


def _make_app(service: Service, spell: Spell) -> FastAPI:
    import gradio

    from unclip.server.studio.page import Studio

    app, page = FastAPI(openapi_url=None), Studio(service, spell).make()
    # Only launched pages check that a file which a visitor names is one that was uploaded; this one is mounted.
    page.has_launched = True
    theme = gradio.themes.Default(font=FONTS, font_mono=["ui-monospace", "monospace"])
    return gradio.mount_gradio_app(
        app, page, path="/", theme=theme, css_paths=[CSS], footer_links=[], run_history=False, ssr_mode=False,
        mcp_server=False, pwa=False, enable_monitoring=False, max_file_size=service.config.max_body_bytes,
        allowed_paths=[str(service.store.results)],
    )  # fmt: skip
