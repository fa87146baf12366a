"""Say in the form of the images API what is wrong with a request."""

import errno
import logging
import traceback
from collections.abc import Mapping
from typing import Any

import pydantic
from fastapi.responses import JSONResponse, Response
from sqlalchemy.exc import SQLAlchemyError

from unclip.errors import ConfigError, InputError, SafetyError, UnclipError

LOG = logging.getLogger("unclip.server")
LIBRARY_NAMES = {
    "image_size": "size", "num_images": "n", "num_steps": "num_inference_steps", "guidance_scale": "guidance_scale",
    "negative_prompt": "negative_prompt", "the mask": "mask", "background": "background", "prompt": "prompt",
    "seed": "seed", "the picture": "image",
}  # fmt: skip
"""How the API calls what messages of the library begin with."""
MAX_SHOWN = 60


class ApiError(UnclipError):
    """A request that is refused or failed: its message, and what the API's clients read of it."""

    def __init__(
        self, message: str, status: int = 400, *, param: str | None = None, code: str = "invalid_value",
        headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status, self.param, self.code, self.headers = status, param, code, dict(headers or {})

    @property
    def kind(self) -> str:
        """The `type` of the error."""
        names = {401: "authentication_error", 429: "rate_limit_error"}
        return names.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")

    def body(self) -> dict[str, Any]:
        """Return what is sent."""
        return {"error": {"type": self.kind, "code": self.code, "param": self.param, "message": str(self)}}


def answer_error(error: ApiError) -> Response:
    """Return the answer to a request that is refused or failed."""
    return JSONResponse(error.body(), error.status, headers=error.headers)


def refused(param: str, value: object, reason: str) -> ApiError:
    """Make the error about a field whose value asks for what the model or the server lacks."""
    return ApiError(f"{param}={show(value)} {reason}", param=param, code="unsupported_value")


def show(value: object) -> str:
    """Write a value for a message, cut where it is long."""
    text = ascii(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def explain(error: BaseException) -> ApiError:
    """Return what a client is told of any error; what is not of the request is logged, without its message."""
    match error:
        case ApiError():
            return error
        case pydantic.ValidationError():
            return _explain_fields(error)
        case SafetyError():
            return ApiError(str(error), code="content_policy_violation")
        case InputError() | ConfigError():
            text = str(error)
            param = next((name for start, name in LIBRARY_NAMES.items() if text.startswith(start)), None)
            return ApiError(text, param=param)
        case SQLAlchemyError():
            LOG.error("the history cannot be used: %s", type(error).__name__)
            return ApiError("the server cannot write its history; ask again later.", 507, code="storage_full")
        case OSError() if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            LOG.error("no room: %s", errno.errorcode[error.errno])
            return ApiError("the server has no room to keep this; ask again later.", 507, code="storage_full")
    # A message may hold a prompt, and prompts are not logged.
    LOG.error("%s in\n%s", type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
    return ApiError("the server failed on this request; its log says where.", 500, code="internal_error")


def _explain_fields(error: pydantic.ValidationError) -> ApiError:
    """Name every wrong field, with the value and what is allowed."""
    details = error.errors(include_url=False, include_context=False)
    parts = []
    for detail in details[:5]:
        place = ".".join(map(str, detail["loc"])) or "the body"
        if detail["type"] == "missing":
            parts.append(f"{place} is missing; it is required")
        else:
            parts.append(f"{place}={show(detail['input'])}: {detail['msg'][:1].lower()}{detail['msg'][1:]}")
    first = details[0]
    code = "missing_required_parameter" if first["type"] == "missing" else "invalid_value"
    return ApiError(f"{'; '.join(parts)}.", param=str(first["loc"][0]) if first["loc"] else None, code=code)
