"""Folders of diffusers that the tests of importers read, and copies that they may damage."""

import shutil
from pathlib import Path

import pytest
from diffusers import UnCLIPScheduler

from unclip.runtime import forked_random_state
from unclip_pipelines import Size, unclip_pipeline


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each kind, as diffusers saves it."""
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in ("text", "variation")}
    size = Size(size=8, super_res=16, channels=(32, 64), attention=(False, True), layers=1)
    with forked_random_state(0):
        for kind, folder in folders.items():
            unclip_pipeline(folder / "tokenizer", size, variation=kind == "variation").save_pretrained(folder)
    unbounded = UnCLIPScheduler(prediction_type="sample", clip_sample=False)
    unbounded.save_pretrained(folders["text"] / "prior_scheduler")
    return folders


@pytest.fixture
def folder(sources: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the text-to-image folder, to be changed."""
    return Path(shutil.copytree(sources["text"], tmp_path / "source"))
