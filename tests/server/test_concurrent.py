"""Several clients at once: no request is lost, and every picture is the one of its prompt, seed and settings."""

import base64
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from live_server import opened, running
from unclip.pipelines import UnClip

REQUESTS: list[dict[str, Any]] = [
    {"prompt": prompt, "seed": seed, "n": count, "size": size, **more}
    for seed, (prompt, count, size, more) in enumerate(
        [
            ("a cat", 1, "16x16", {}),
            ("a house", 2, "16x16", {}),
            ("a cat", 1, "16x16", {}),
            ("a red apple", 1, "32x32", {}),
            ("a cat", 1, "16x16", {"negative_prompt": "a dog"}),
            ("an apple", 1, "16x16", {"background": "transparent"}),
            ("a heart", 3, "16x16", {}),
            ("a cat", 1, "32x32", {"num_inference_steps": 4}),
        ]
        * 3
    )
]


def test_every_client_gets_its_own_pictures(clear_pipe: UnClip, tmp_path: Path) -> None:
    with running(clear_pipe, tmp_path, max_batch=4) as url, httpx.Client(base_url=url, timeout=120) as http:

        def ask(body: dict[str, Any]) -> list[str]:
            answer = http.post("/v1/images/generations", json=body | {"response_format": "b64_json"})
            return [one["b64_json"] for one in answer.json()["data"]]

        with ThreadPoolExecutor(8) as clients:
            answers = list(clients.map(ask, REQUESTS))
    for body, pictures in zip(REQUESTS, answers, strict=True):
        steps, background = body.get("num_inference_steps"), body.get("background")
        drawn = clear_pipe.text_to_image(
            body["prompt"],
            body["n"],
            seed=body["seed"],
            image_size=int(body["size"].partition("x")[0]),
            negative_prompt=body.get("negative_prompt", ""),
            num_steps=None if steps is None else {"prior": steps, "decoder": steps},
            background=background,
        )
        assert [opened(base64.b64decode(one)).tobytes() for one in pictures] == [image.tobytes() for image in drawn]
