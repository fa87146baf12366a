"""What priors and decoders of DALLE2-pytorch say alike: schedules and versions. Knows no network."""

import re
from typing import Any

from unclip.errors import CheckpointError, ConfigError

__all__ = ["schedule_options", "version_number"]

_SCHEDULES = ("cosine", "linear")


def schedule_options(name: str, num_timesteps: int, place: str) -> dict[str, Any]:
    """The fields `schedule` and `num_timesteps`; raises `ConfigError` for tables that we have no equal of."""
    if name not in _SCHEDULES:
        raise ConfigError(f"{place}.beta_schedule={name!r} is not supported; only {' and '.join(_SCHEDULES)} are.")
    if name == "linear" and num_timesteps != 1000:
        raise ConfigError(f"{place}: a linear schedule of {num_timesteps} steps is not supported; only of 1000.")
    return {"schedule": name, "num_timesteps": num_timesteps}


def version_number(version: str) -> tuple[int, ...]:
    """ "1.15.6" as (1, 15, 6); raises `CheckpointError` for text that is no version."""
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", version)
    if found is None:
        raise CheckpointError(f"version={version!r} is no version of DALLE2-pytorch; it looks like '1.15.6'.")
    return tuple(int(part or 0) for part in found.groups())
