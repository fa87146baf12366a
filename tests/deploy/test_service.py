"""The unit of systemd: systemd itself finds nothing wrong in it, and its command is one of the command line."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from deploy_files import ROOT, serve_options, serve_variables, unit
from optional import require_program
from unclip.server.config import ServerConfig
from unclip.server.run import GRACE_SECONDS, LOOPBACK

UNIT = ROOT / "deploy" / "unclip.service"
MOST_EXPOSED = 15
"""Tenths of the exposure that `systemd-analyze security` counts, of 100; an unit without any protection has 96."""


def verify(text: str, folder: Path) -> str:
    """What systemd finds wrong in a unit, whose program is replaced by one that exists."""
    path = folder / "unclip.service"
    path.write_text(text.replace("/opt/unclip/bin/unclip", sys.executable))
    command = [require_program("systemd-analyze"), "verify", "--man=no", str(path)]
    return subprocess.run(command, capture_output=True, text=True).stderr


def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    assert verify(UNIT.read_text(), tmp_path) == ""


@pytest.mark.parametrize(
    "mistake", [("ProtectHome", "ProtectHom"), ("TimeoutStopSec=60", "TimeoutStopSec=long"), ("@resources", "@none")]
)
def test_systemd_would_find_mistakes(tmp_path: Path, mistake: tuple[str, str]) -> None:
    assert mistake[1].rpartition("=")[2] in verify(UNIT.read_text().replace(*mistake), tmp_path)


def test_the_service_can_do_little() -> None:
    command = [require_program("systemd-analyze"), "security", "--offline=yes", "--no-pager"]
    run = subprocess.run([*command, f"--threshold={MOST_EXPOSED}", str(UNIT)], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-200:]


def test_the_command_is_one_of_the_command_line() -> None:
    service = unit()["Service"]
    (start,) = service["ExecStart"]
    program, name, *words = shlex.split(start)
    assert (Path(program).name, name) == ("unclip", "serve")
    options = serve_options(words)
    assert options["host"] in LOOPBACK
    assert [options["store"]] == [f"%S/{folder}" for folder in service["StateDirectory"]] == service["WorkingDirectory"]
    assert ServerConfig(store=Path(options["store"])).api_keys == ()
    comment = UNIT.read_text().partition("EnvironmentFile=")[0].splitlines()[-1]
    assert serve_variables() == {"UNCLIP_API_KEY"}
    assert "UNCLIP_API_KEY=" in comment


def test_the_service_may_end_its_work() -> None:
    service = unit()["Service"]
    assert [int(seconds) > GRACE_SECONDS for seconds in service["TimeoutStopSec"]] == [True]
    assert service["Restart"] == ["on-failure"]


@pytest.mark.parametrize("setting", ["MemoryDenyWriteExecute", "ProcSubset"])
def test_what_torch_needs_is_not_taken_away(setting: str) -> None:
    # Under either, measured, the first picture fails: oneDNN writes machine code, and kernels read /proc/cpuinfo.
    assert setting not in unit()["Service"]
