"""The gate: who may ask, how large a request may be, and a line about each for the audit."""

import asyncio
import base64
import binascii
import hmac
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from starlette.requests import ClientDisconnect, cookie_parser

from unclip.errors import UnclipError
from unclip.server.errors import ApiError, answer_error, explain
from unclip.server.service import AUDIT, Service, owner_of_key
from unclip.server.work import stopping

AsgiApp: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]
OPEN_ROUTES = ("/healthz", "/readyz")
"""Routes that need no key."""
API_ROUTES = (*OPEN_ROUTES, "/metrics", "/openapi.json", "/v1")
COOKIE = "unclip_visitor"
"""Tells the visitors of a studio without keys apart, so that each finds their own pictures again."""

LEFT = 499
"""The status that is counted where a client leaves before its body has arrived; nobody is sent it."""


class BrokenAnswerError(UnclipError):
    """What was begun to be sent has no end."""


class Gate:
    """Lets a request in: with a key where there are keys, with a body that is not too large; and counts answers."""

    def __init__(self, app: AsgiApp, service: Service, *, has_studio: bool) -> None:
        self._app, self._service, self._has_studio = app, service, has_studio

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer or pass on one request; nothing of the body is read before its key is known to be right."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        config, headers = self._service.config, dict(scope["headers"])
        size, status, owner, began, is_read = 0, 0, "", time.monotonic(), False
        is_page = self._has_studio and not scope["path"].startswith(API_ROUTES)
        known = visitor = _visitor_of(headers) if is_page else ""

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
            if message["type"] == "http.response.start" and visitor != known:
                cookie = f"{COOKIE}={visitor}; Path=/; Max-Age=31536000; HttpOnly; SameSite=Strict"
                message = {**message, "headers": [*message["headers"], (b"set-cookie", cookie.encode())]}
            await send(message)

        try:
            _check_origin(scope["method"], headers)
            if scope["path"] not in OPEN_ROUTES:
                by_browser = is_page or b"text/html" in headers.get(b"accept", b"")
                owner = self._owner(headers.get(b"authorization", b""), by_browser=by_browser)
                if is_page and not owner:
                    visitor = visitor or secrets.token_urlsafe(18)
                    owner = owner_of_key(visitor)
                scope.setdefault("state", {})["owner"] = owner
                config = self._service.config_for(owner)
                if scope["method"] == "POST" and not is_page:
                    self._service.count(owner)
            length = headers.get(b"content-length", b"0")
            if length.isdigit() and int(length) > config.max_body_bytes:
                raise too_large(length.decode())
            await self._pass_on(scope, receive_some, send_some, is_page=is_page)
        except ClientDisconnect:
            status = LEFT
        except asyncio.CancelledError:
            if not self._service.stopping.is_set():
                raise
            if status:  # a stream, which ends here
                await send_some({"type": "http.response.body"})
            else:
                await answer_error(stopping())(scope, receive, send_some)
        except Exception as error:
            # Beyond here its message, which may hold a prompt, would be logged.
            refusal = explain(error)
            if status:
                raise BrokenAnswerError("an answer broke off; the lines above say where.") from None
            await answer_error(refusal)(scope, receive, send_some)
        finally:
            status = status or 500
            route = scope.get("route")
            path = "none" if route is None else route.path
            self._service.metrics.requests.labels(path, str(status)).inc()
            # The route and not the path, which may name a result.
            record = {"time": round(time.time(), 3), "key": owner[:12], "method": scope["method"], "route": path}
            AUDIT.info(json.dumps(record | {"status": status, "seconds": round(time.monotonic() - began, 3)}))

    async def _pass_on(self, scope: Any, receive: Any, send: Any, *, is_page: bool) -> None:
        """Let the application answer; a page's stream, which has no end of its own, ends where the server stops."""
        if not is_page:
            await self._app(scope, receive, send)
            return
        answer = asyncio.ensure_future(self._app(scope, receive, send))
        stop = asyncio.create_task(self._service.stopping.wait())
        try:
            await asyncio.wait((answer, stop), return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise asyncio.CancelledError
            answer.result()
        finally:
            stop.cancel()
            answer.cancel()
            await asyncio.gather(answer, stop, return_exceptions=True)

    def _owner(self, header: bytes, *, by_browser: bool) -> str:
        """Return whose key this is; raises `ApiError` for none and for a wrong one."""
        keys = self._service.config.all_keys
        if not keys:
            return ""
        kind, _, given = header.partition(b" ")
        if kind.lower() == b"basic":  # as browsers ask for it: any name, and the key as the password
            try:
                given = base64.b64decode(given, validate=True).partition(b":")[2]
            except binascii.Error:
                given = b""
        # Every key is compared, and in constant time: the time of the answer says nothing.
        right = [key for key in keys if hmac.compare_digest(key.encode(), given.strip())]
        if kind.lower() not in (b"bearer", b"basic") or not right:
            challenge = 'Basic realm="unclip", charset="UTF-8"' if by_browser else "Bearer"
            how = "any name, and a key as the password" if by_browser else "the header Authorization: Bearer KEY"
            raise ApiError(
                f"the API key is missing or wrong; send {how}.", 401, code="invalid_api_key",
                headers={"WWW-Authenticate": challenge},
            )  # fmt: skip
        return owner_of_key(right[0])


def _check_origin(method: str, headers: Mapping[bytes, bytes]) -> None:
    """Raise `ApiError` for what another site's page sends: a browser adds what this site is known by."""
    origin = headers.get(b"origin", b"")
    is_foreign = bool(origin) and origin.partition(b"://")[2] != headers.get(b"host", b"")
    # Browsers name the kind of site to this machine and by https alone, the origin everywhere.
    is_foreign = is_foreign or headers.get(b"sec-fetch-site") == b"cross-site"
    if method not in ("GET", "HEAD", "OPTIONS") and is_foreign:
        raise ApiError("pages of other sites may not ask; let a program do it.", 403, code="cross_site")


def _visitor_of(headers: Mapping[bytes, bytes]) -> str:
    """Return what the cookie says, "" where there is none."""
    return cookie_parser(headers.get(b"cookie", b"").decode("latin-1")).get(COOKIE, "")
