"""A PostgreSQL server of its own, in a folder that is removed."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from optional import require

SECONDS = 60.0


@contextmanager
def postgresql() -> Iterator[str]:
    """Yield the URL of a server that listens at a socket in its folder alone; skips like `require`."""
    psycopg = require("psycopg")
    found = shutil.which("initdb") or next(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), None)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("PostgreSQL is not installed; run make system-deps")
        pytest.skip("PostgreSQL is not installed")
    # It refuses to run as root; and the folders of tests are their user's alone.
    user: dict[str, Any] = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.getuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        if user:
            shutil.chown(folder, user["user"], user["group"])
        data, options = f"{folder}/data", {"cwd": folder, "stdout": subprocess.DEVNULL, **user}
        initdb = [found, "-D", data, "-U", "unclip", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"]
        subprocess.run(initdb, check=True, **options)
        server = [str(Path(found).with_name("postgres")), "-D", data, "-k", folder, "-h", "", "-F"]
        with subprocess.Popen(server, stderr=subprocess.DEVNULL, **options) as process:
            try:
                deadline = time.monotonic() + SECONDS
                while True:
                    try:
                        psycopg.connect(host=folder, user="unclip", dbname="postgres").close()
                        break
                    except psycopg.OperationalError:
                        assert process.poll() is None, "PostgreSQL ended"
                        assert time.monotonic() < deadline, "PostgreSQL does not answer"
                        time.sleep(0.05)
                yield f"postgresql+psycopg://unclip@/postgres?host={folder}"
            finally:
                # It closes its connections and stops.
                process.send_signal(signal.SIGINT)
                process.wait(SECONDS)
