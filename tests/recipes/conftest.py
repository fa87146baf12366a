"""Runs of recipes draw small previews."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def _quick_runs(few_previews: None) -> None:
    del few_previews
