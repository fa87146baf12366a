"""What launchers ask for by variables is refused where recipes decide it, in any number of processes."""

from collections.abc import Mapping

import pytest

from unclip.errors import ConfigError
from unclip.training import init_cluster

PLAIN = {
    "ACCELERATE_MIXED_PRECISION": "no",
    "ACCELERATE_DYNAMO_BACKEND": "NO",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "1",
    "ACCELERATE_USE_FSDP": "false",
}


@pytest.mark.parametrize("size", ["1", "2"])
@pytest.mark.parametrize(
    ("name", "value", "setting"),
    [
        ("ACCELERATE_MIXED_PRECISION", "fp16", "precision"),
        ("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR", "compile"),
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4", "micro_batch_size"),
        ("ACCELERATE_USE_FSDP", "true", "strategy=fsdp"),
        ("ACCELERATE_USE_DEEPSPEED", "true", "strategy=fsdp"),
    ],
)
def test_what_recipes_decide_is_refused_with_their_setting(
    monkeypatch: pytest.MonkeyPatch, size: str, name: str, value: str, setting: str
) -> None:
    set_variables(monkeypatch, PLAIN | {"WORLD_SIZE": size, name: value})
    with pytest.raises(ConfigError, match=f"--set {setting}"), init_cluster("cpu"):
        pass


def test_processes_that_accelerate_does_not_start_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    set_variables(monkeypatch, PLAIN | {"ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1"})
    with pytest.raises(ConfigError, match="torchrun --nproc-per-node N"), init_cluster("cpu"):
        pass


def test_a_launcher_that_asks_for_nothing_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    set_variables(monkeypatch, PLAIN | {"ACCELERATE_USE_CPU": "True"})
    with init_cluster("cpu") as cluster:
        assert (cluster.rank, cluster.size, cluster.is_rank_zero) == (0, 1, True)


def set_variables(monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
