"""The routes of the images API: generations, edits and variations."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response, StreamingResponse
from PIL import Image

from unclip.pipelines import Result
from unclip.pipelines.inputs import Input
from unclip.pipelines.tasks.inpaint import mask_of_alpha
from unclip.server.bodies import MAX_PICTURES, body_of, read_body
from unclip.server.errors import ApiError, refused, show
from unclip.server.fields import (
    EditFields,
    GenerationFields,
    ImageFields,
    VariationFields,
    check_fields,
    draw_options,
)
from unclip.server.pictures import decode_base64, fit, read_upload, write_preview, write_result
from unclip.server.service import ALIASES, Service, as_event, owner_of, warnings_of
from unclip.server.work import Work

F = TypeVar("F", bound=ImageFields)
WATCH_SECONDS = 0.25
"""Between two looks whether a client is still there."""


def image_routes(service: Service) -> APIRouter:
    """Make the routes for one model."""
    router = APIRouter(prefix="/v1/images", tags=["images"])

    @router.post("/generations", openapi_extra=body_of("GenerationFields"))
    async def generations(request: Request) -> Response:
        """Draw pictures of a prompt."""
        fields = await _read(request, GenerationFields, service)
        allowed = service.config_for(owner_of(request))
        options, size = draw_options(fields, service.pipe, allowed, uses_prior=True)
        options |= {"prompts": fields.prompt, "negative_prompt": fields.negative_prompt}
        return await _answer(service, request, fields, "text_to_image", options, size, "image_generation")

    @router.post("/edits", openapi_extra=body_of("EditFields", is_form=True))
    async def edits(request: Request) -> Response:
        """Draw anew what is transparent in the mask or the picture; without either, draw over the picture."""
        fields = await _read(request, EditFields, service)
        allowed = service.config_for(owner_of(request))
        pictures = await _read_pictures([*_listed(fields.image), *_listed(fields.images)], "image", allowed.max_pixels)
        masks = await _read_pictures(_listed(fields.mask), "mask", allowed.max_pixels)
        if not pictures:
            raise ApiError("image is missing; send one.", param="image", code="missing_required_parameter")
        options, size = draw_options(fields, service.pipe, allowed, uses_prior=True)
        task, more = plan_edit(fields, pictures, masks, size)
        return await _answer(service, request, fields, task, options | more, size, "image_edit")

    @router.post("/variations", openapi_extra=body_of("VariationFields", is_form=True))
    async def variations(request: Request) -> Response:
        """Draw variations of a picture."""
        fields = await _read(request, VariationFields, service)
        allowed = service.config_for(owner_of(request))
        pictures = await _read_pictures(_listed(fields.image), "image", allowed.max_pixels)
        if len(pictures) != 1:
            raise ApiError(f"image is one picture; found {len(pictures)}.", param="image", code="invalid_image")
        options, size = draw_options(fields, service.pipe, allowed, uses_prior=False)
        options |= {"images": pictures[0]}
        return await _answer(service, request, fields, "image_variations", options, size, "image_variation")

    return router


def plan_edit(
    fields: EditFields, pictures: Sequence[Image.Image], masks: Sequence[Image.Image], size: tuple[int, int] | None
) -> tuple[str, dict[str, Any]]:
    """Choose the task of an edit, whose pictures will have `size`; returns its name and its own options.

    A mask, or else what is transparent in the picture, is painted; one opaque picture is drawn over, and several are
    mixed with the prompt, in equal parts. Raises `ApiError` for what none of the three can do.
    """
    picture, negative = pictures[0], fields.negative_prompt
    is_painted = bool(masks) or (len(pictures) == 1 and mask_of_alpha(picture) is not None)
    if is_painted and len(pictures) > 1:
        raise refused("mask", "a picture", f"goes with one picture; found {len(pictures)}.")
    if (is_painted or len(pictures) > 1) and negative:
        raise refused("negative_prompt", negative, "is read where one picture without a mask is drawn over.")
    if (is_painted or len(pictures) > 1) and fields.strength is not None:
        raise refused("strength", fields.strength, "is of one picture without a mask.")
    if len(pictures) > 1:
        return "mix", {"parts": [(one, 1.0) for one in (Input(fields.prompt), *pictures)]}
    if not is_painted:
        own = {"images": picture, "prompt": fields.prompt, "negative_prompt": negative}
        return "image_to_image", own | ({} if fields.strength is None else {"strength": fields.strength})
    # The picture keeps its own pixels, so a size of another shape would cut some of them off.
    if size is not None and abs(size[0] * picture.height - size[1] * picture.width) > max(*size, *picture.size):
        raise refused(
            "size", fields.size, f"has another shape than the picture, {picture.width}x{picture.height}; use auto."
        )
    own = {"image": picture, "prompt": fields.prompt}
    if masks:
        mask = masks[0]
        if abs(mask.width * picture.height - mask.height * picture.width) > max(*mask.size, *picture.size):
            raise refused(
                "mask", f"{mask.width}x{mask.height}",
                f"has another shape than the picture, {picture.width}x{picture.height}; send one of its shape.",
            )  # fmt: skip
        if mask.size != picture.size:
            mask = mask.resize(picture.size, Image.Resampling.NEAREST)
        own |= {"mask": mask} | ({"mask_kind": "alpha"} if mask_of_alpha(mask) is not None else {})
    return "inpaint", own


async def _read(request: Request, kind: type[F], service: Service) -> F:
    """Read a request in JSON or as a form; raises `ApiError` for anything else, and for a model that is not here."""
    body = await read_body(request)
    fields = kind.model_validate({name: value for name, value in body.items() if value is not None})
    if fields.model not in (None, service.pipe.name, *ALIASES):
        message = f"model={show(fields.model)} is not served; use {service.pipe.name!r}."
        raise ApiError(message, 404, param="model", code="model_not_found")
    check_fields(fields, service.pipe)
    return fields


def _listed(value: Any) -> list[Any]:
    """Return one value, several or none as a list; of {"image_url": ...} what it holds."""
    values = value if isinstance(value, list) else [] if value is None else [value]
    return [one.get("image_url", one) if isinstance(one, dict) else one for one in values]


async def _read_pictures(values: Sequence[Any], param: str, max_pixels: int) -> list[Image.Image]:
    """Read pictures as bytes of a form or base64 of JSON."""
    most = MAX_PICTURES if param == "image" else 1
    if len(values) > most:
        raise ApiError(f"{param} has {len(values)} pictures; at most {most} can be.", param=param)
    pictures = []
    for value in values:
        if not isinstance(value, str | bytes):
            raise refused(param, value, "is no picture; send its bytes in base64, or as a file of a form.")
        content = value if isinstance(value, bytes) else decode_base64(value, param)
        pictures.append(await run_in_threadpool(read_upload, content, param, max_pixels))
    return pictures


async def _answer(
    service: Service,
    request: Request,
    fields: ImageFields,
    task: str,
    options: Mapping[str, Any],
    size: tuple[int, int] | None,
    event: str,
) -> Response:
    """Queue a request, wait for its pictures, and send them, or the events on the way to them."""
    owner, base = owner_of(request), str(request.base_url)
    usual = "b64_json" if fields.model == "gpt-image-1" else "url"
    as_url = not fields.stream and (fields.response_format or usual) == "url"

    def finish(result: Result) -> dict[str, Any]:
        data = []
        for content, pixels in write_result(result, size, fields.output_format, fields.output_compression):
            if as_url:
                name = service.store.save(content, f".{fields.output_format}", owner)
                data.append({"url": f"{base}v1/results/{name}"})
            else:
                data.append({"b64_json": base64.b64encode(content).decode()})
            shown_size = "x".join(map(str, pixels))
        about = {
            "created": int(time.time()),
            "background": "transparent" if result.settings.get("background") == "transparent" else "opaque",
            "output_format": fields.output_format,
            "quality": fields.quality,
            "size": shown_size,
            "usage": _usage(service, fields),
        }
        reports = [report.record() for report in result.safety]
        return {"data": data, "seeds": result.seeds, "safety": reports, "is_cut": any(result.cut), "about": about}

    seconds = service.config.timeout_seconds
    work = Work(task, options, finish, owner=owner, num_previews=fields.partial_images, timeout_seconds=seconds)
    await service.accept(work)
    headers = warnings_of(fields.model_extra)
    events = _stream(service, work, fields, size, event)
    watching = asyncio.create_task(_cancel_when_left(service, work, request))
    try:
        if fields.stream:
            # What is refused at the first step still has a status of its own.
            first = await anext(events)
        else:
            (done,) = [event.data async for event in service.wait(work, work.events()) if event.is_end]
    finally:
        watching.cancel()
        if not (fields.stream or work.last.is_end):  # the server ends what serves a client that has gone
            service.worker.cancel(work)
    if not fields.stream:
        if done["is_cut"]:
            note = "the prompt is longer than the model reads; its end was left out"
            headers["X-Unclip-Warning"] = "; ".join([*headers.values(), note])
        content = {name: done[name] for name in ("data", "seeds", "safety")}
        return JSONResponse({**done["about"], **content}, headers=headers)

    async def all_events() -> AsyncIterator[str]:
        yield first
        async for text in events:
            yield text

    return StreamingResponse(all_events(), media_type="text/event-stream", headers=headers)


async def _cancel_when_left(service: Service, work: Work, request: Request) -> None:
    """End a request whose client has gone: nobody could be given its pictures."""
    while not await request.is_disconnected():
        await asyncio.sleep(WATCH_SECONDS)
    await run_in_threadpool(service.worker.cancel, work)


async def _stream(
    service: Service, work: Work, fields: ImageFields, size: tuple[int, int] | None, event: str
) -> AsyncIterator[str]:
    """Write the previews and the pictures of a request as events; a client that leaves ends the request."""
    about: dict[str, Any] = {
        "background": fields.background,
        "output_format": fields.output_format,
        "quality": fields.quality,
        "size": fields.size or "auto",
    }
    is_begun = False
    try:
        async for happened in service.wait(work, work.events()):
            if happened.kind == "progress" and not is_begun:
                is_begun = True
                yield ": the pictures are being drawn\n\n"
            if happened.kind == "preview":
                place, number, picture = happened.data
                small = await run_in_threadpool(
                    write_preview, fit(picture, size), fields.output_format, fields.output_compression
                )
                data = {"b64_json": base64.b64encode(small).decode(), "created_at": int(time.time()), **about}
                data |= {"partial_image_index": number, "image_index": place}
                yield as_event(f"{event}.partial_image", {"type": f"{event}.partial_image", **data})
            elif happened.kind == "done":
                for place, one in enumerate(happened.data["data"]):
                    data = {**one, **happened.data["about"], "seed": happened.data["seeds"][place]}
                    data |= {"created_at": data.pop("created"), "image_index": place}
                    data["safety"] = happened.data["safety"][place]
                    yield as_event(f"{event}.completed", {"type": f"{event}.completed", **data})
    except ApiError as error:
        if not is_begun:
            raise
        yield as_event("error", error.body())
    finally:
        if not work.last.is_end:
            service.worker.cancel(work)


def _usage(service: Service, fields: ImageFields) -> dict[str, Any]:
    """Count what CLIP reads of the prompt; pictures are not made of tokens here."""
    count = 0
    if isinstance(fields, GenerationFields):
        (count,) = service.pipe.need_clip.count_tokens([fields.prompt])
    details = {"text_tokens": count, "image_tokens": 0}
    return {"input_tokens": count, "input_tokens_details": details, "output_tokens": 0, "total_tokens": count}
