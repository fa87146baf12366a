"""`unclip plan`: options reach the plan, and wrong ones are one line."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from unclip.cli.plan import duration

Program = Callable[..., Any]


def test_options_reach_the_plan(unclip: Program) -> None:
    done = unclip(
        "plan", "emoji/upsampler_256", "--gpus", "4", "--gpu", "l40s", "--price", "1.5", "--utilisation", "0.25",
        "--strategy", "fsdp", "--pictures", "500", "--set", "batch_size=32", "--set", "activation_checkpointing=true",
        "--json",
    )  # fmt: skip
    assert done.code == 0
    plan = json.loads(done.out)
    assert (plan["num_gpus"], plan["gpu"]["name"], plan["price"], plan["utilisation"]) == (4, "l40s", 1.5, 0.25)
    assert (plan["strategy"], plan["num_pictures"], plan["micro_batch_size"]) == ("fsdp", 500, 8)
    assert plan["flops_per_image"] == 4 * plan["forward_flops"]
    assert set(plan["memory"]) == {"ddp", "fsdp", "fsdp_zero2"}


def test_the_table_says_what_does_not_fit_and_what_would(unclip: Program) -> None:
    done = unclip("plan", "emoji/decoder", "--gpus", "1", "--gpu", "rtx4090", "--set", "batch_size=32768")
    [fits] = [line for line in done.out.splitlines() if line.startswith("  fits ")]
    assert fits.startswith("  fits            not in 24.00 GB: --set micro_batch_size=")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["karlo/decodr"], "did you mean 'karlo/decoder'?"),
        (["emoji/clip", "--gpu", "h10"], "did you mean 'h100'?"),
        (["emoji/clip", "--strategy", "zero"], "strategy"),
        (["emoji/clip", "--set", "batchsize=3"], "did you mean 'batch_size'?"),
        (["emoji/clip", "--gpus", "999"], "999 GPUs cannot share a batch of 128"),
    ],
)
def test_wrong_input_is_one_line(unclip: Program, arguments: list[str], message: str) -> None:
    done = unclip("plan", *arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err


@pytest.mark.parametrize(
    ("days", "text"), [(0.01, "14.4 minutes"), (0.5, "12.0 hours"), (1.5, "36.0 hours"), (1234.56, "1,234.6 days")]
)
def test_durations_are_as_a_reader_wants_them(days: float, text: str) -> None:
    assert duration(days) == text
