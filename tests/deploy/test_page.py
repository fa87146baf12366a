"""What the page on serving says of images, compose files and the service is what the files hold."""

import re
import shlex

import pytest

from deploy_files import ROOT, dockerfile, of_stage, serve_options, serve_variables, unit
from unclip.server.run import GRACE_SECONDS

PAGE = (ROOT / "docs" / "serve.md").read_text()
SECTION = PAGE.partition("\n## Containers and services\n")[2]


def test_files_exist() -> None:
    files = re.findall(r"-f (\S+\.yaml)", SECTION)
    assert set(files) == {"compose.yaml", *(f"deploy/{path.name}" for path in (ROOT / "deploy").glob("*.yaml"))}
    assert all((ROOT / name).is_file() for name in files)
    assert "sudo install -m 0644 deploy/unclip.service " in SECTION
    assert " /etc/unclip/environment\n" in SECTION
    assert unit()["Service"]["EnvironmentFile"] == ["/etc/unclip/environment"]
    assert unit()["Service"]["ExecStart"][0].startswith("/opt/unclip/bin/unclip ")
    assert "$ sudo /opt/unclip/bin/pip install " in SECTION


def test_arguments_of_a_build_exist() -> None:
    known = {one.rest.partition("=")[0] for one in dockerfile() if one.word == "ARG"}
    shown = set(re.findall(r"--build-arg (\w+)=", SECTION))
    assert {"DEVICE", "PACKAGES"} <= shown <= known
    (driver,) = set(re.findall(r"psycopg\[binary\]==[\d.]+", SECTION))
    assert driver in (ROOT / "deploy" / "compose.postgres.yaml").read_text()


@pytest.mark.parametrize("command", re.findall(r"^\$ (docker run .*)$", SECTION, re.MULTILINE))
def test_docker_runs_the_image_as_it_is(command: str) -> None:
    words = shlex.split(command)
    port, volume, variable = (words[words.index(flag) + 1] for flag in ("-p", "-v", "-e"))
    assert port.rpartition(":")[2] == of_stage("server", "EXPOSE")[0].rest
    assert volume.partition(":")[2] == of_stage("server", "VOLUME")[0].rest
    assert variable.partition("=")[0] in serve_variables()
    assert int(words[words.index("--stop-timeout") + 1]) > GRACE_SECONDS
    assert f"an open connection {GRACE_SECONDS} seconds" in SECTION


def test_the_proxy_waits_longer_than_the_server() -> None:
    seconds = re.search(r"proxy_read_timeout (\d+)s;", SECTION)
    assert seconds is not None
    assert int(seconds[1]) > serve_options([])["timeout"]
