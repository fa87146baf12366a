"""The tiny networks that DALLE2-pytorch made: weights, inputs and outputs of each case, and its config."""

import copy
import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

GOLDEN = Path(__file__).parents[1] / "golden" / "dalle2_pytorch.safetensors"
with safe_open(GOLDEN, "pt") as file:
    CASES = json.loads(file.metadata()["cases"])
TENSORS = load_file(GOLDEN)


def group(case: str, name: str) -> dict[str, Tensor]:
    """Weights, inputs or outputs of a case; weights are stored in float8."""
    start = f"{case}/{name}/"
    found = {key.removeprefix(start): value for key, value in TENSORS.items() if key.startswith(start)}
    return {key: value.float() if value.is_floating_point() else value for key, value in found.items()}


def changed(case: str, place: str, **changes: Any) -> dict[str, Any]:
    """The config of a case with options of the section at a dotted place replaced."""
    config = copy.deepcopy(CASES[case]["config"])
    section = config
    for part in place.split("."):
        section = section[int(part) if part.isdigit() else part]
    section.update(changes)
    return config
