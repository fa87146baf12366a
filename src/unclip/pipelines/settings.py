"""Check what a caller sets: prompts, seeds, and settings per stage."""

import math
import secrets
from collections.abc import Iterable, Mapping, Sequence
from operator import index
from typing import Any, SupportsIndex, TypeAlias, TypeVar

from unclip.diffusion import get_sampler
from unclip.errors import InputError, did_you_mean
from unclip.model.settings import StageSettings

T = TypeVar("T")
PerStage: TypeAlias = T | Mapping[str, T] | None

# torch.Generator takes no more.
MAX_SEED = 2**63


def resolve_settings(
    defaults: Mapping[str, StageSettings],
    unguided: Sequence[str] = (),
    *,
    num_steps: PerStage[int] = None,
    guidance_scale: PerStage[float] = None,
    sampler: PerStage[str] = None,
) -> dict[str, StageSettings]:
    """The settings of every stage in `defaults`: the options that are given, else the default.

    A single guidance scale goes to the stages that are not in `unguided`; naming one of those in a mapping is refused.
    Raises `InputError` for an unknown stage or sampler, for fewer than one step, and for a guidance scale that is
    negative, infinite or not a number.
    """
    guided = [stage for stage in defaults if stage not in unguided]
    changes: dict[str, dict[str, Any]] = {stage: {} for stage in defaults}
    for stage, steps in _by_stage("num_steps", num_steps, defaults):
        changes[stage]["num_steps"] = check_count("num_steps", steps, stage)
    for stage, scale in _by_stage("guidance_scale", guidance_scale, guided):
        changes[stage]["guidance_scale"] = _check_scale(scale, stage)
    for stage, name in _by_stage("sampler", sampler, defaults):
        changes[stage]["sampler"] = get_sampler(name).name
    return {stage: default.replace(**changes[stage]) for stage, default in defaults.items()}


def check_prompts(prompts: str | Sequence[str]) -> list[str]:
    """One prompt or several as a list; raises `InputError` if there is none or one is empty."""
    if isinstance(prompts, bytes) or not isinstance(prompts, Iterable):
        raise InputError(f"prompts is a {type(prompts).__name__}; give a text, or a list of them.")
    texts = [prompts] if isinstance(prompts, str) else list(prompts)
    if not texts:
        raise InputError("no prompt was given; give at least one text.")
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"prompt {number} is a {type(text).__name__}; a prompt is a text.")
        if not text.strip():
            raise InputError(f"prompt {number} is empty; say what to draw.")
        check_text(f"prompt {number}", text)
    return texts


def check_text(name: str, text: str) -> str:
    """Return `text`; raises `InputError` for half a surrogate: bytes on a command line that are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{name} has {text[error.start]!r} in {text!a}, which is no character; give UTF-8.") from None
    return text


def image_seeds(seed: SupportsIndex | Sequence[int] | None, num_images: int) -> list[int]:
    """Seeds of the images of a prompt: image k has `seed` + k, without a seed from a random one below 2^32.

    Raises `InputError` for fewer than one image and for a seed that a generator does not take; a sequence is none.
    """
    check_count("num_images", num_images)
    if seed is None:
        seed = secrets.randbelow(2**32)
    first = index(seed) if isinstance(seed, SupportsIndex) and not isinstance(seed, bool) else -1
    if not 0 <= first <= MAX_SEED - num_images:
        raise InputError(f"seed={seed!r} cannot be used; give a whole number from 0 to 2^63 - num_images.")
    return [first + number for number in range(num_images)]


def picture_seeds(seed: SupportsIndex | Sequence[int] | None, num_inputs: int, num_images: int) -> list[int]:
    """The seed of every picture, inputs first: those given, or those of `image_seeds` again for each input.

    Raises `InputError` as that does, and for a sequence of another length than `num_inputs` * `num_images`.
    """
    if isinstance(seed, str) or not isinstance(seed, Sequence):
        return image_seeds(seed, num_images) * num_inputs
    wanted = num_inputs * check_count("num_images", num_images)
    if len(seed) != wanted:
        raise InputError(f"seed has {len(seed)} numbers, but {wanted} pictures are to be drawn; give one for each.")
    return [image_seeds(one, 1)[0] for one in seed]


def check_count(name: str, value: Any, stage: str | None = None, *, least: int = 1) -> int:
    """`value` when it is a whole number of at least `least`; raises `InputError` naming the setting and the stage."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{_label(name, stage)}={value!r} is not possible; give a whole number of at least {least}.")
    return value


def check_fraction(name: str, value: Any, meaning: str) -> float:
    """`value` when it is a number from 0 to 1; raises `InputError` with the setting and what its ends mean."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
        raise InputError(f"{name}={value!r} is not possible; give a number from 0 to 1: {meaning}.")
    return float(value)


def _check_scale(value: Any, stage: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise InputError(
            f"{_label('guidance_scale', stage)}={value!r} is not possible; give a number from 0 up (1 = off)."
        )
    return float(value)


def _by_stage(name: str, value: PerStage[T], stages: Mapping[str, Any] | Sequence[str]) -> list[tuple[str, T]]:
    """The value for each stage that has one."""
    if value is None:
        return []
    if not isinstance(value, Mapping):
        return [(stage, value) for stage in stages]
    for stage in value:
        if stage not in stages:
            raise InputError(f"{name}: there is no stage {stage!r} to set it for; {did_you_mean(str(stage), stages)}")
    return list(value.items())


def _label(name: str, stage: str | None) -> str:
    return name if stage is None else f"{name} of {stage}"
