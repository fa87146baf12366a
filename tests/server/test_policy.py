"""A policy is asked before anything is drawn and before anything is sent."""

import base64
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest
from PIL import Image

from live_server import events_of, opened, png, running
from unclip.pipelines import Result, UnClip
from unclip.server import PolicyError


class NoApples:
    """Refuses apples by word, and red pictures; turns what was drawn to grey, and refuses seed 13."""

    def check_request(self, texts: Sequence[str], pictures: Sequence[Image.Image]) -> None:
        if any("apple" in text for text in texts):
            raise PolicyError("apples are not drawn here.")
        if any(picture.convert("RGB").getpixel((0, 0)) == (255, 0, 0) for picture in pictures):
            raise PolicyError("red pictures are not read here.")

    def check_result(self, result: Result) -> Result:
        if 13 in result.seeds:
            raise PolicyError("this picture is not shown.")
        result.images[:] = [image.convert("L").convert("RGB") for image in result.images]
        return result


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("images/generations", {"prompt": "a red apple"}),
        ("images/generations", {"prompt": "a cat", "negative_prompt": "apple"}),
        ("tasks/text_to_image", {"prompts": ["a cat", "an apple"]}),
        ("tasks/interpolate", {"a": {"text": "a cat"}, "b": {"text": "an apple"}}),
        ("tasks/mix", {"parts": [{"text": "a cat"}, {"picture": "red"}]}),
        ("images/variations", {"image": "red"}),
    ],
)
def test_what_is_refused_is_not_drawn(clear_pipe: UnClip, tmp_path: Path, route: str, body: dict[str, object]) -> None:
    red = base64.b64encode(png(Image.new("RGB", (8, 8), "red"))).decode()
    body = {name: red if value == "red" else value for name, value in body.items()}
    if "parts" in body:
        body["parts"] = [{"text": "a cat"}, {"picture": red}]
    with running(clear_pipe, tmp_path, NoApples()) as url:
        answer = httpx.post(f"{url}/v1/{route}", json=body, timeout=60)
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "content_policy_violation"
        assert "unclip_images_total 0.0" in httpx.get(f"{url}/metrics").text


def test_results_are_changed_or_kept_back(clear_pipe: UnClip, tmp_path: Path) -> None:
    with running(clear_pipe, tmp_path, NoApples()) as url:
        body = {"prompt": "a cat", "seed": 3, "response_format": "b64_json"}
        sent = httpx.post(f"{url}/v1/images/generations", json=body, timeout=60).json()["data"][0]["b64_json"]
        drawn = clear_pipe.text_to_image("a cat", seed=3).images[0].convert("L").convert("RGB")
        assert opened(base64.b64decode(sent)).tobytes() == drawn.tobytes()
        answer = httpx.post(f"{url}/v1/images/generations", json=body | {"seed": 13}, timeout=60)
        assert answer.json()["error"]["message"] == "this picture is not shown."
        place = httpx.post(f"{url}/v1/tasks/text_to_image", json={"prompts": "a cat", "seed": 13}).headers["location"]
        with httpx.stream("GET", f"{url}{place}/events", timeout=60) as response:
            kind, last = list(events_of(response))[-1]
        assert (kind, last["error"]["code"]) == ("failed", "content_policy_violation")
