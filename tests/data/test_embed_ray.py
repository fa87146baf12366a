"""`embed` on a real Ray of two processes, one of which is killed in the middle of a shard."""

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from picture_shards import DAMAGED, contents, write_picture_shards
from unclip.clip import TextImageEncoder
from unclip.data import embed, embed_on_ray
from unclip.errors import DataError, InputError
from unclip.model import open_clip

SOURCE, TESTS = (str(Path(__file__).parents[2] / folder) for folder in ("src", "tests/helpers"))
# Ray warns of its own settings, and leaves sockets to the collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::FutureWarning", "ignore::UserWarning"
)
SETTINGS = {"hidden": True, "batch_size": 2}


@pytest.fixture(scope="module")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Two processors, no dashboard, no report of use."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray

        environment = {"env_vars": {"PYTHONPATH": f"{SOURCE}:{TESTS}"}}
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=environment)
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    write_picture_shards(folder)
    return folder


def mortal(folder: Path, sentinel: Path) -> "partial[TextImageEncoder]":
    """`open_clip`, but the first worker to see its second batch is killed."""

    class Mortal(TextImageEncoder):
        num_batches = 0

        def encode_image(self, images: torch.Tensor) -> torch.Tensor:
            self.num_batches += 1
            if self.num_batches == 2 and not sentinel.exists():
                sentinel.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return super().encode_image(images)

    def opened(device: str) -> TextImageEncoder:
        clip = open_clip(folder, device)
        return Mortal(clip.clip, clip.tokenizer)

    return partial(opened)


@pytest.mark.usefixtures("ray")
def test_a_killed_worker_leaves_the_bytes_of_an_undisturbed_run(
    shards: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    embed(shards, open_clip(tiny_folder, "cpu"), tmp_path / "one", num_workers=0, **SETTINGS)
    calls: list[tuple[int, int]] = []
    report = embed_on_ray(
        shards,
        mortal(tiny_folder, tmp_path / "killed"),
        tmp_path / "many",
        num_actors=2,
        progress=lambda *call: calls.append(call),
        **SETTINGS,
    )
    assert (tmp_path / "killed").exists()
    assert contents(tmp_path / "many") == contents(tmp_path / "one")
    assert (report.num_samples, report.num_shards, report.finished, list(report.damaged)) == (13, 3, True, [DAMAGED])
    assert sorted(calls)[-1] == (13, 13)
    again = embed_on_ray(shards, partial(open_clip, tiny_folder), tmp_path / "many", **SETTINGS)
    assert again.num_shards == 0


@pytest.mark.usefixtures("ray")
def test_a_workers_error_is_one_line(shards: Path, tiny_folder: Path, tmp_path: Path) -> None:
    def another(device: str) -> TextImageEncoder:
        """This machine's CLIP is not that of the workers."""
        clip = open_clip(tiny_folder, device)
        if os.getpid() != driver:
            torch.nn.init.zeros_(clip.clip.logit_scale)
        return clip

    driver = os.getpid()
    with pytest.raises(DataError, match=r"^a worker found another CLIP than this machine; [^\n]*$"):
        embed_on_ray(shards, another, tmp_path / "out", **SETTINGS)
    assert not list(tmp_path.iterdir())


def test_no_worker_is_refused(shards: Path, tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="num_actors=0"):
        embed_on_ray(shards, partial(open_clip, tiny_folder), tmp_path / "out", num_actors=0)
