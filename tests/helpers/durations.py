"""A pytest plugin: files that take longest start first, by the seconds in tests/durations.json.

`make durations` runs all tests and writes that file anew. Two workers that share the files by length end together; a
file that is not in the table counts as short.
"""

import json
from collections import Counter
from pathlib import Path

import pytest

TABLE = Path(__file__).parents[1] / "durations.json"


class Recorder:
    """Adds up the seconds of each file, set-up of its fixtures included, as the workers report them."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid.partition("::")[0]] += report.duration

    def pytest_sessionfinish(self) -> None:
        before = json.loads(TABLE.read_text()) if TABLE.exists() else {}
        table = before | {name: round(seconds, 1) for name, seconds in self.seconds.items() if seconds >= 0.5}
        present = {name: table[name] for name in sorted(table) if (TABLE.parents[1] / name).exists()}
        TABLE.write_text(json.dumps(present, indent=1) + "\n")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-durations", action="store_true", help=f"write {TABLE.name}")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--record-durations") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    seconds = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    # Stable: a file's tests keep their order.
    items.sort(key=lambda item: -seconds.get(item.nodeid.partition("::")[0], 0.0))
