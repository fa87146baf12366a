"""What every task keeps: seeds, independence of the batch, progress, stopping half way, low memory, foreign models."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from task_calls import EVERY, TASKS
from unclip.errors import InputError
from unclip.pipelines import UnClip


def drawn(pipe: UnClip, task: str, **options: Any) -> list[np.ndarray]:
    return TASKS[task](pipe, **{"seed": 7, "output_type": "np", **options}).images


@pytest.mark.parametrize("task", EVERY)
def test_the_seed_is_the_picture(pipe: UnClip, task: str) -> None:
    first, again, other = drawn(pipe, task), drawn(pipe, task), drawn(pipe, task, seed=8)
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    assert any(np.abs(one - two).max() > 1e-3 for one, two in zip(first, other, strict=True))


@pytest.mark.parametrize("task", EVERY)
def test_batches_change_no_more_than_rounding(pipe: UnClip, task: str) -> None:
    alone, together = drawn(pipe, task, batch_size=1), drawn(pipe, task, batch_size=3)
    for one, two in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, two, atol=2e-3)


@pytest.mark.parametrize("task", EVERY)
def test_progress_counts_each_stage_to_its_end(pipe: UnClip, task: str) -> None:
    seen: list[tuple[str, int, int]] = []
    drawn(pipe, task, progress=lambda *step: seen.append(step))
    assert seen
    for stage in {stage for stage, _, _ in seen}:
        counts = [(done, total) for name, done, total in seen if name == stage]
        total = counts[0][1]
        assert counts == [(done, total) for done in range(1, total + 1)], stage


@pytest.mark.parametrize("task", EVERY)
def test_stopping_half_way_leaves_nothing_behind(pipe: UnClip, task: str) -> None:
    steps: list[int] = []

    def stop(stage: str, done: int, total: int) -> None:
        steps.append(done)
        if len(steps) == 2:
            raise KeyboardInterrupt

    expected = drawn(pipe, task)
    with pytest.raises(KeyboardInterrupt):
        drawn(pipe, task, progress=stop)
    assert len(steps) == 2
    assert all(np.array_equal(one, two) for one, two in zip(expected, drawn(pipe, task), strict=True))


@pytest.mark.parametrize("task", EVERY)
def test_what_a_task_hands_back_trains_a_layer(pipe: UnClip, task: str) -> None:
    """Tensors of inference mode cannot be saved for a backward pass."""
    result = TASKS[task](pipe, seed=7, output_type="pt")
    outputs = [torch.stack(result.images)]
    outputs += [] if result.image_embeddings is None else [result.image_embeddings]
    for output in outputs:
        layer = nn.Linear(output.shape[-1], 1)
        layer(output).square().sum().backward()
        assert layer.weight.grad is not None
        assert layer.weight.grad.abs().sum() > 0
        output.mul_(2.0)
        assert not output.requires_grad


@pytest.mark.parametrize("task", EVERY)
def test_progress_can_be_shown_or_not(pipe: UnClip, task: str, capfd: pytest.CaptureFixture[str]) -> None:
    quiet, shown = drawn(pipe, task, progress=False), drawn(pipe, task, progress=True)
    assert all(np.array_equal(one, two) for one, two in zip(quiet, shown, strict=True))
    captured = capfd.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert lines
    assert all(re.fullmatch(r"\w+: \d+ steps", line) for line in lines)


@pytest.mark.parametrize("task", EVERY)
def test_low_memory_draws_the_same_and_holds_nothing_after(tiny_folder: Path, task: str) -> None:
    held, light = (UnClip.load(tiny_folder, "cpu", torch.float32, low_memory=low) for low in (False, True))
    for one, two in zip(drawn(held, task), drawn(light, task), strict=True):
        assert np.array_equal(one, two)
    networks = light.residences
    assert networks
    assert all(parameter.device.type == "meta" for network in networks for parameter in network.parameters())


@pytest.mark.parametrize("task", EVERY)
def test_every_task_names_a_keyword_that_it_does_not_have(pipe: UnClip, task: str) -> None:
    with pytest.raises(InputError, match="there is no option 'sede'; did you mean 'seed'"):
        TASKS[task](pipe, sede=7)
