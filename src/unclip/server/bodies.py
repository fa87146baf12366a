"""Read the bodies of requests by hand, since one route takes JSON and forms, and describe them for OpenAPI."""

import json
from typing import Any

from fastapi import Request

from unclip.server.errors import ApiError, show

MAX_PICTURES = 16
PICTURE_FIELDS = ("image", "image[]", "mask")


def body_of(schema: str, *, is_form: bool = False) -> dict[str, Any]:
    """Describe a body by the name of its schema."""
    content = {"schema": {"$ref": f"#/components/schemas/{schema}"}}
    kinds = ["application/json", *(["multipart/form-data"] if is_form else [])]
    return {"requestBody": {"required": True, "content": dict.fromkeys(kinds, content)}}


async def read_body(request: Request) -> dict[str, Any]:
    """Return the fields of a request in JSON, or of a form, in which files are bytes; raises `ApiError`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
        fields: dict[str, Any] = {}
        try:
            async with request.form(max_files=MAX_PICTURES + 1, max_fields=100) as form:
                for name, value in form.multi_items():
                    content = value if isinstance(value, str) else await value.read()
                    if name in PICTURE_FIELDS:
                        fields.setdefault(name.removesuffix("[]"), []).append(content)
                    else:
                        fields[name] = content
        except ValueError:
            raise ApiError("the body is not a form that can be read.", code="invalid_form") from None
        return fields
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise ApiError("the body is not JSON that can be read.", code="invalid_json") from None
    if not isinstance(body, dict):
        raise ApiError(f"the body is {show(body)}; send a JSON object.", code="invalid_json")
    return body
