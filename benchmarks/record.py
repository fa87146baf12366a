"""Where a result is kept, with what it was measured on. Knows files; no benchmark."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import unclip
from unclip.files import atomic_write
from unclip.machine import describe_machine

__all__ = ["write_result"]


def write_result(path: Path, result: Mapping[str, Any], device: torch.device | str = "cpu") -> dict[str, Any]:
    """Write `result` as JSON with hardware, versions, commit and date; returns all of it."""
    machine = describe_machine(device)
    whole = {
        **result,
        "processor": machine.processor,
        "cores": machine.cores,
        "gpu": machine.gpu,
        "versions": {"unclip": unclip.__version__, "torch": machine.torch, "python": machine.python},
        "commit": machine.commit,
        "date": machine.date,
    }
    atomic_write(path, json.dumps(whole, indent=2) + "\n")
    return whole
