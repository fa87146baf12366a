"""What is refused: by name, with the right status, and before anything is drawn."""

import base64
import json
import struct
import zlib
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

from live_server import png

PICTURE = png(Image.new("RGB", (20, 20), "red"))
ENCODED = base64.b64encode(PICTURE).decode()


def refusal(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The error of an answer, whose form is checked."""
    assert answer.status_code == status, answer.text
    (error,) = answer.json().values()
    assert error.keys() == {"type", "code", "param", "message"}
    assert "\n" not in error["message"]
    return error


@pytest.mark.parametrize("key", [None, "Bearer wrong", "Bearer", "Basic a key", "Bearer a keyy", "Bearer \xe9"])
@pytest.mark.parametrize("path", ["/v1/images/generations", "/v1/tasks/text_to_image", "/none"])
def test_without_the_key_nothing_is_read(address: str, key: str | None, path: str) -> None:
    headers = {} if key is None else {"Authorization": key.encode("latin-1")}
    answer = httpx.post(f"{address}{path}", content=b"no JSON", headers=headers)
    assert refusal(answer, 401)["code"] == "invalid_api_key"
    assert answer.headers["www-authenticate"] == "Bearer"


def test_health_needs_no_key(address: str) -> None:
    assert httpx.get(f"{address}/healthz").json() == {"status": "ok"}
    assert httpx.get(f"{address}/readyz").json() == {"status": "ready"}
    assert httpx.get(f"{address}/metrics").status_code == 401


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("style", "vivid"),
        ("n", 11),
        ("n", 0),
        ("n", "many"),
        ("size", "big"),
        ("size", "99999x99999"),
        ("size", "1000x10"),
        ("size", "-16x16"),
        ("quality", "best"),
        ("response_format", "gif"),
        ("output_format", "bmp"),
        ("output_compression", 50),
        ("output_compression", 101),
        ("background", "pink"),
        ("partial_images", 2),
        ("partial_images", 4),
        ("seed", -1),
        ("seed", 2**63),
        ("num_inference_steps", 0),
        ("guidance_scale", -1),
        ("moderation", "none"),
        ("prompt", ""),
        ("prompt", 5),
        ("prompt", "x" * 32_001),
    ],
)
def test_a_refused_field_is_named(http: httpx.Client, field: str, value: Any) -> None:
    answer = http.post("/v1/images/generations", json={"prompt": "a cat", field: value})
    error = refusal(answer, 400)
    assert error["param"] == field
    assert field in error["message"]


def test_what_the_model_lacks_is_refused_by_the_library(http: httpx.Client) -> None:
    body = {"prompt": "a cat", "negative_prompt": "a dog", "guidance_scale": 1}
    assert refusal(http.post("/v1/images/generations", json=body), 400)["param"] == "negative_prompt"
    # Also where the answer would be a stream.
    assert refusal(http.post("/v1/images/generations", json=body | {"stream": True}), 400)["param"] == "negative_prompt"


def test_a_clear_background_has_no_place_in_a_jpeg(http: httpx.Client) -> None:
    body = {"prompt": "a cat", "background": "transparent", "output_format": "jpeg"}
    assert refusal(http.post("/v1/images/generations", json=body), 400)["param"] == "background"


def test_a_stream_has_no_addresses(http: httpx.Client) -> None:
    body = {"prompt": "a cat", "stream": True, "response_format": "url"}
    assert refusal(http.post("/v1/images/generations", json=body), 400)["param"] == "response_format"


def test_a_missing_prompt_and_another_model(http: httpx.Client, client: openai.OpenAI) -> None:
    error = refusal(http.post("/v1/images/generations", json={}), 400)
    assert (error["param"], error["code"]) == ("prompt", "missing_required_parameter")
    with pytest.raises(openai.NotFoundError) as refused:
        client.images.generate(prompt="a cat", model="dall-e-9")
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")


def test_unknown_fields_are_ignored_with_a_warning(http: httpx.Client) -> None:
    body = {"prompt": "a cat", "size": "16x16", "sparkle\u00e9": 1, "n": None}
    answer = http.post("/v1/images/generations", json=body)
    assert answer.status_code == 200
    assert answer.headers["x-unclip-warning"] == "unknown fields were ignored: sparkle\\xe9"


def test_a_long_prompt_is_drawn_from_its_beginning_with_a_warning(http: httpx.Client) -> None:
    answer = http.post("/v1/images/generations", json={"prompt": "a red cat " * 30, "size": "16x16"})
    assert "its end was left out" in answer.headers["x-unclip-warning"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'"text"', b"[" * 100_000, b"\xff\xfe", b'{"prompt": ' + b"1" * 5000 + b"}"]
)
def test_a_body_that_is_no_object(http: httpx.Client, content: bytes) -> None:
    refusal(http.post("/v1/images/generations", content=content), 400)
    refusal(http.post("/v1/tasks/text_to_image", content=content), 400)


@pytest.mark.parametrize("text", ["\ud800", "a\x00b", "\u202e"])
def test_odd_texts_do_no_harm(http: httpx.Client, text: str) -> None:
    content = json.dumps({"size": "16x16", "prompt": text}).encode()
    assert http.post("/v1/images/generations", content=content).status_code in (200, 400)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"--wrong\r\n",
        b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n",
        b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n',
        b"--b\r\n\xff: \xff\r\n\r\n--b--",
    ],
)
# Starlette leaves the file of a form that breaks off to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_broken_form(http: httpx.Client, content: bytes) -> None:
    for kind in ("multipart/form-data; boundary=b", "multipart/form-data", "multipart/form-data; boundary="):
        refusal(http.post("/v1/images/edits", content=content, headers={"Content-Type": kind}), 400)


@pytest.mark.parametrize("content", [b"no picture", PICTURE[:60], b"%!PS-Adobe-3.0 EPSF-3.0\n", b""])
def test_what_is_no_picture(http: httpx.Client, content: bytes) -> None:
    answer = http.post("/v1/images/variations", files={"image": ("a.png", content)})
    assert refusal(answer, 400)["param"] == "image"


def test_a_bomb_is_not_decoded(http: httpx.Client) -> None:
    """A PNG of 30,000 x 30,000 pixels in a few bytes, and one that is above this server's bound alone."""
    for side in (30_000, 1025):
        header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
        chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")]
        content = b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )
        error = refusal(http.post("/v1/images/variations", files={"image": content}), 400)
        assert "pixels" in error["message"]


def test_a_large_body_is_not_read(http: httpx.Client) -> None:
    def pieces() -> Any:
        yield from [b" " * 2**18] * 5

    large = b" " * (2**20 + 1)
    assert refusal(http.post("/v1/images/generations", content=large), 413)["code"] == "too_large"
    # Of a body in pieces no length is known before.
    assert refusal(http.post("/v1/images/generations", content=pieces()), 413)["code"] == "too_large"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image", "https://example.org/a.png"),
        ("image", "file:///etc/hostname"),
        ("image", "no base64!"),
        ("image", 5),
        ("image", [ENCODED] * 17),
        ("images", [{"file_id": "file-1"}]),
        ("mask", base64.b64encode(png(Image.new("RGBA", (40, 20)))).decode()),
        ("mask", [ENCODED, ENCODED]),
        ("input_fidelity", "high"),
    ],
)
def test_a_refused_field_of_an_edit(http: httpx.Client, field: str, value: Any) -> None:
    answer = http.post("/v1/images/edits", json={"prompt": "a cat", "image": ENCODED, field: value})
    assert refusal(answer, 400)["param"] == field.replace("images", "image")


def test_an_edit_needs_a_picture_and_a_fitting_size(http: httpx.Client) -> None:
    assert refusal(http.post("/v1/images/edits", json={"prompt": "a cat"}), 400)["param"] == "image"
    holed = Image.new("RGBA", (20, 20))
    holed.paste("red", (0, 0, 10, 20))
    body = {"prompt": "a cat", "image": base64.b64encode(png(holed)).decode(), "size": "64x32"}
    assert refusal(http.post("/v1/images/edits", json=body), 400)["param"] == "size"
    body |= {"size": "auto", "negative_prompt": "a dog"}
    assert refusal(http.post("/v1/images/edits", json=body), 400)["param"] == "negative_prompt"


def test_results_belong_to_their_key(http: httpx.Client, address: str) -> None:
    (data,) = http.post("/v1/images/generations", json={"prompt": "a cat", "size": "16x16"}).json()["data"]
    assert http.get(data["url"]).status_code == 200
    other = {"Authorization": "Bearer another key"}
    assert refusal(httpx.get(data["url"], headers=other), 404)["code"] == "not_found"
    assert httpx.get(data["url"]).status_code == 401


@pytest.mark.parametrize("name", ["none.png", "..%2fhistory.sqlite", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", ".", "a" * 999])
def test_no_file_outside_the_results_is_sent(http: httpx.Client, name: str) -> None:
    assert http.get(f"/v1/results/{name}").status_code in (404, 405)


@pytest.mark.parametrize(("method", "path"), [("GET", "/none"), ("PUT", "/v1/models"), ("POST", "/v1/tasks/none")])
def test_routes_that_do_not_exist(http: httpx.Client, method: str, path: str) -> None:
    answer = http.request(method, path)
    refusal(answer, 404 if path == "/none" else 405)
