"""The compose files are read by docker-compose itself, alone and joined, and agree with the image and the server."""

import itertools
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
import uvicorn

from deploy_files import ROOT, dockerfile, of_stage, serve_options, serve_variables
from optional import require_program
from unclip.server.run import GRACE_SECONDS

OVERRIDES = ("deploy/compose.cuda.yaml", "deploy/compose.postgres.yaml")
JOINS = [list(names) for count in range(3) for names in itertools.combinations(OVERRIDES, count)]
SECRETS = {"UNCLIP_API_KEY": "a-key", "POSTGRES_PASSWORD": "a-password"}
DURATION = re.compile(r"(?:(?P<minutes>\d+)m)?(?P<seconds>\d+)s")
"""As docker-compose spells it."""


def compose(*files: str | Path, **secrets: str) -> subprocess.CompletedProcess[str]:
    """What docker-compose makes of files that are joined."""
    words = [word for file in files for word in ("-f", str(file))]
    clean = {name: value for name, value in os.environ.items() if name not in SECRETS}
    command = [require_program("docker-compose"), "--env-file", os.devnull, *words, "config", "--format", "json"]
    return subprocess.run(command, cwd=ROOT, env=clean | secrets, capture_output=True, text=True)


def resolved(overrides: list[str]) -> dict[str, Any]:
    run = compose("compose.yaml", *overrides, **SECRETS)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    project: dict[str, Any] = json.loads(run.stdout)
    return project


@pytest.mark.parametrize("overrides", JOINS, ids=lambda names: "+".join(Path(name).stem for name in names) or "alone")
def test_the_server_is_the_image(overrides: list[str]) -> None:
    project = resolved(overrides)
    server = project["services"]["unclip"]
    arguments = {one.rest.partition("=")[0] for one in dockerfile() if one.word == "ARG"}
    assert server["build"]["args"].keys() <= arguments
    assert server["build"]["args"]["DEVICE"] == ("cuda" if OVERRIDES[0] in overrides else "cpu")
    (port,) = server["ports"]
    assert (port["host_ip"], str(port["target"])) == ("127.0.0.1", of_stage("server", "EXPOSE")[0].rest)
    (volume,) = server["volumes"]
    assert volume["source"] in project["volumes"]
    options = serve_options([*of_stage("server", "ENTRYPOINT")[0].words[2:], *(server["command"] or [])])
    assert options["store"] == volume["target"]
    assert server["environment"]["UNCLIP_API_KEY"] == SECRETS["UNCLIP_API_KEY"]
    assert server["environment"].keys() <= serve_variables() | {"FORWARDED_ALLOW_IPS", "PGPASSWORD"}
    for service in project["services"].values():
        assert service["restart"] == "unless-stopped"
        assert int(service["deploy"]["resources"]["limits"]["memory"]) > 0
        duration = DURATION.fullmatch(service["stop_grace_period"])
        assert duration is not None
        assert 60 * int(duration["minutes"] or 0) + int(duration["seconds"]) > GRACE_SECONDS
        assert "no-new-privileges:true" in service["security_opt"]
    assert server["read_only"] is True
    assert server["cap_drop"] == ["ALL"]
    assert [place.partition(":")[0] for place in server["tmpfs"]] == ["/tmp"]
    devices = server["deploy"]["resources"].get("reservations", {}).get("devices", [])
    assert [device["capabilities"] for device in devices] == ([["gpu"]] if OVERRIDES[0] in overrides else [])


def test_the_history_is_in_the_database_that_is_started() -> None:
    project = resolved([OVERRIDES[1]])
    server, database = project["services"]["unclip"], project["services"]["postgres"]
    url = sqlalchemy.make_url(serve_options(server["command"])["database"])
    assert url.drivername == "postgresql+psycopg"
    assert server["build"]["args"]["PACKAGES"].startswith("psycopg[binary]==")
    assert url.host in project["services"]
    # PostgreSQL names the database after its user.
    assert url.username == url.database == database["environment"]["POSTGRES_USER"]
    # No list of processes shows it.
    assert url.password is None
    assert server["environment"]["PGPASSWORD"] == database["environment"]["POSTGRES_PASSWORD"]
    assert server["depends_on"]["postgres"]["condition"] == "service_healthy"
    assert "ports" not in database


@pytest.mark.parametrize("missing", SECRETS)
def test_a_missing_secret_is_named(missing: str) -> None:
    run = compose("compose.yaml", OVERRIDES[1], **{name: value for name, value in SECRETS.items() if name != missing})
    assert run.returncode != 0
    assert f"write {missing}=... into the file .env" in run.stderr


def test_docker_compose_would_find_mistakes(tmp_path: Path) -> None:
    wrong = tmp_path / "compose.yaml"
    wrong.write_text((ROOT / "compose.yaml").read_text().replace("stop_grace_period", "grace"))
    assert compose(wrong, **SECRETS).returncode != 0


def test_the_proxy_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    value = resolved([])["services"]["unclip"]["environment"]["FORWARDED_ALLOW_IPS"]
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", value)
    assert uvicorn.Config("app").forwarded_allow_ips == "*"
