"""One server of the tiny model with alpha for most tests, and the `openai` client of it."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from live_server import running
from unclip.pipelines import UnClip
from unclip.testing import tiny_pipeline

KEY, OTHER_KEY = "a key", "another key"


@pytest.fixture(scope="session")
def clear_pipe() -> UnClip:
    """The tiny model that draws alpha."""
    return tiny_pipeline(channels=4)


@pytest.fixture(scope="session")
def address(clear_pipe: UnClip, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    store = tmp_path_factory.mktemp("server")
    with running(clear_pipe, Path(store), api_keys=(KEY, OTHER_KEY), max_body_bytes=2**20, max_pixels=2**20) as url:
        yield url


@pytest.fixture
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0) as one:
        yield one


@pytest.fixture
def http(address: str) -> Iterator[httpx.Client]:
    """What any program may send."""
    with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {KEY}"}, timeout=60) as one:
        yield one
