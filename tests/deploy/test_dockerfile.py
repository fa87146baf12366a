"""The Dockerfile agrees with the package and the command line; its commands do what it needs of them."""

import json
import os
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from deploy_files import ROOT, dockerfile, is_ignored, of_stage, serve_options
from live_server import running
from optional import require_program
from unclip.pipelines import UnClip
from unclip.server.gate import OPEN_ROUTES

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RULES = (ROOT / ".dockerignore").read_text()
PORT = "8000"


def lint(path: Path) -> list[str]:
    """The rules of hadolint that a Dockerfile breaks."""
    command = [require_program("hadolint"), "--no-color", "--format", "json", str(path)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.stderr == ""
    return [finding["code"] for finding in json.loads(run.stdout)]


def test_the_linter_finds_nothing() -> None:
    assert lint(ROOT / "Dockerfile") == []


def test_the_linter_would_find_mistakes(tmp_path: Path) -> None:
    wrong = tmp_path / "Dockerfile"
    entry = of_stage("server", "ENTRYPOINT")[0]
    wrong.write_text((ROOT / "Dockerfile").read_text().replace(entry.rest, " ".join(entry.words)))
    assert lint(wrong) == ["DL3025"]


def copied() -> list[str]:
    """What the Dockerfile copies from the working tree."""
    instructions = [one for one in dockerfile() if one.word == "COPY" and not one.flags]
    return [source for one in instructions for source in one.words[:-1]]


def test_what_is_copied_exists_and_reaches_the_build() -> None:
    sources = copied()
    assert "src" in sources
    assert [source for source in sources if not (ROOT / source).exists() or is_ignored(source, RULES)] == []
    # All that the package is built of.
    assert {PROJECT["readme"], *PROJECT["license-files"], "pyproject.toml", "src"} <= set(sources)
    assert not is_ignored("src/unclip/weights/emoji/prior.safetensors", RULES)


@pytest.mark.parametrize(
    "path",
    [".env", ".git/config", ".venv/bin/python", "runs/mine/log.jsonl", "tests/conftest.py", "unclip-server/results/a",
     "src/unclip/__pycache__/images.pyc", "src/unclip.egg-info/PKG-INFO"],
)  # fmt: skip
def test_nothing_else_reaches_the_build(path: str) -> None:
    assert is_ignored(path, RULES)


def test_the_last_stage_is_a_server_without_rights() -> None:
    assert dockerfile()[-1].stage == "server"
    (user,), (stop,) = of_stage("server", "USER"), of_stage("server", "STOPSIGNAL")
    number = user.rest.partition(":")[0]
    # By number: Kubernetes cannot know that a name is not root's.
    assert number.isdigit()
    assert int(number) != 0
    assert f"--uid {number} " in of_stage("server", "RUN")[0].rest
    assert stop.rest == "SIGTERM"
    assert [one.rest for one in of_stage("server", "RUN") if "apt" in one.rest or "gcc" in one.rest] == []


def test_entry_point_is_a_command_that_listens_where_it_says() -> None:
    (entry,), (command,) = of_stage("server", "ENTRYPOINT"), of_stage("server", "CMD")
    program, name, *words = [*entry.words, *command.words]
    assert (program, name) == ("unclip", "serve")
    options = serve_options(words)
    assert options["host"] == "0.0.0.0"
    assert str(options["port"]) == PORT == of_stage("server", "EXPOSE")[0].rest
    assert options["store"] == of_stage("server", "VOLUME")[0].rest
    assert options["model"] == "emoji"
    # What is typed after the image's name comes later, and wins.
    assert serve_options([*entry.words[2:], "--queue", "3", "--store", "/other"])["store"] == "/other"


def check_health(url: str, **environment: str) -> int:
    """The exit code of the image's check, asked of another port."""
    (check,) = of_stage("server", "HEALTHCHECK")
    kind, _, command = check.rest.partition(" ")
    assert kind == "CMD"
    assert command.count(PORT) == 1
    assert f"'{OPEN_ROUTES[1]}'" in command
    python, *words = json.loads(command.replace(PORT, url.rpartition(":")[2]))
    assert python == "python"
    run = subprocess.run([sys.executable, *words], env=os.environ | environment, capture_output=True, timeout=60)
    return run.returncode


def test_health_is_that_of_the_server(pipe: UnClip, tmp_path: Path) -> None:
    with running(pipe, tmp_path, api_keys=("a key",)) as url:
        assert check_health(url) == 0
        # A proxy of the environment is not asked.
        assert check_health(url, http_proxy="http://127.0.0.1:9", HTTP_PROXY="http://127.0.0.1:9") == 0
    assert check_health(url) != 0


def test_a_server_that_stops_is_not_healthy() -> None:
    class Stopping(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(503)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Stopping) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        code = check_health(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
        thread.join()
    assert code == 1


def run_step(text: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a step of the Dockerfile by the shell, with this Python and the programs of `folder` before all others."""
    path = os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]])
    command = ["sh", "-c", text]
    return subprocess.run(
        command, cwd=folder, env=os.environ | {"PATH": path} | environment, capture_output=True, text=True
    )


def test_packages_are_those_of_the_project(tmp_path: Path) -> None:
    (step,) = [one for one in of_stage("dependencies", "RUN") if "tomllib" in one.rest]
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    run = run_step(step.rest, tmp_path, PACKAGES="one[extra]==1 two")
    assert run.returncode == 0, run.stderr
    # `serve` brings `safety` along, which no index has under the name of this project.
    extras = [*PROJECT["optional-dependencies"]["serve"], *PROJECT["optional-dependencies"]["safety"]]
    extras.remove("unclip[safety]")
    wanted = [*PROJECT["dependencies"], *extras, "one[extra]==1", "two"]
    assert (tmp_path / "requirements.txt").read_text().splitlines() == wanted


@pytest.mark.parametrize(
    ("device", "index"), [("cpu", ["--extra-index-url", "https://download.pytorch.org/whl/cpu"]), ("cuda", [])]
)
def test_torch_is_the_build_of_the_device(tmp_path: Path, device: str, index: list[str]) -> None:
    (step,) = [one for one in of_stage("dependencies", "RUN") if "${DEVICE}" in one.rest]
    pip = tmp_path / "pip"
    pip.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    pip.chmod(0o755)
    defaults = dict(one.rest.split("=", 1) for one in of_stage("dependencies", "ARG"))
    run = run_step(step.rest, tmp_path, **defaults | {"DEVICE": device})
    assert run.returncode == 0, run.stderr
    assert run.stdout.split()[2:] == ["install", "-c", "constraints.txt", *index, "torch"]
    assert defaults["DEVICE"] == "cpu"
    wrong = run_step(step.rest, tmp_path, **defaults | {"DEVICE": "gpu"})
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr == "DEVICE=gpu is unknown; use cpu or cuda.\n"


def test_every_install_is_pinned() -> None:
    installs = [one.rest for one in dockerfile() if one.word == "RUN" and " install " in one.rest and "pip" in one.rest]
    assert len(installs) == 3
    assert [one for one in installs if "-c constraints.txt" not in one and "--no-index" not in one] == []
