"""Check what a caller sets: prompts, seeds, and settings per stage."""

import math
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from operator import index
from typing import Any, SupportsIndex, TypeAlias, TypeVar

from PIL import ImageColor

from unclip.diffusion import get_sampler
from unclip.errors import InputError, did_you_mean
from unclip.images import WHITE, Background
from unclip.model.settings import StageSettings

T = TypeVar("T")
PerStage: TypeAlias = T | Mapping[str, T] | None

# torch.Generator takes no more.
MAX_SEED = 2**63


def resolve_settings(
    defaults: Mapping[str, StageSettings],
    *,
    num_steps: PerStage[int] = None,
    guidance_scale: PerStage[float] = None,
    sampler: PerStage[str] = None,
) -> dict[str, StageSettings]:
    """Return the settings of every stage in `defaults`, with the options that are set in place of the default.

    A single guidance scale goes to prior and decoder; naming an upsampler in a mapping is refused. Raises `InputError`
    for an unknown stage or sampler, for fewer than one step, and for a guidance scale that is negative, infinite or not
    a number.
    """
    changes: dict[str, dict[str, Any]] = {stage: {} for stage in defaults}
    check_scale = partial(check_number, least=0, meaning="1 is off")
    checks: tuple[tuple[str, PerStage[Any], Iterable[str], Callable[[str, Any], Any]], ...] = (
        ("num_steps", num_steps, defaults, check_count),
        ("guidance_scale", guidance_scale, [name for name in defaults if name in ("prior", "decoder")], check_scale),
        ("sampler", sampler, defaults, lambda _, name: get_sampler(name).name),
    )
    for option, values, stages, check in checks:
        by_stage = values if isinstance(values, Mapping) else {} if values is None else dict.fromkeys(stages, values)
        for stage, value in by_stage.items():
            if stage not in stages:
                hint = did_you_mean(str(stage), stages)
                raise InputError(f"{option}: there is no stage {stage!r} to set it for; {hint}")
            changes[stage][option] = check(f"{option} of {stage}", value)
    return {stage: default.replace(**changes[stage]) for stage, default in defaults.items()}


def check_prompts(prompts: str | Sequence[str]) -> list[str]:
    """Return one prompt or several as a list; raises `InputError` if there is none or one is empty."""
    if isinstance(prompts, bytes) or not isinstance(prompts, Iterable):
        raise InputError(f"prompts is a {type(prompts).__name__}; give a text, or a list of them.")
    texts = [prompts] if isinstance(prompts, str) else list(prompts)
    if not texts:
        raise InputError("no prompt was given; give at least one text.")
    for number, text in enumerate(texts):
        name = "the prompt" if len(texts) == 1 else f"prompt {number}"
        if not isinstance(text, str):
            raise InputError(f"{name} is a {type(text).__name__}; a prompt is a text.")
        if not text.strip():
            raise InputError(f"{name} is empty; say what to draw.")
        check_text(name, text)
    return texts


def check_text(name: str, text: str) -> None:
    """Raise `InputError` for an unpaired surrogate: bytes on a command line that are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{name} has {text[error.start]!r} in {text!a}, which is no character; give UTF-8.") from None


def image_seeds(seed: SupportsIndex | Sequence[int] | None, num_images: int) -> list[int]:
    """Return the seeds of a prompt's images: image k has `seed` + k; None takes a random seed below 2^32.

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
    """Return the seed of every picture, inputs first: those of a sequence, or `image_seeds` for each input.

    Raises `InputError` as that does, and for a sequence of another length than `num_inputs` * `num_images`.
    """
    if isinstance(seed, str) or not isinstance(seed, Sequence):
        return image_seeds(seed, num_images) * num_inputs
    wanted = num_inputs * check_count("num_images", num_images)
    if len(seed) != wanted:
        raise InputError(f"seed has {len(seed)} numbers for {wanted} pictures; give one for each picture.")
    return [image_seeds(one, 1)[0] for one in seed]


def read_background(text: object) -> Background:
    """Read "transparent", a name of a colour, "#ffcc00" or "255,204,0"; None is white. Raises `InputError`."""
    if text is None or text == "transparent":
        return WHITE if text is None else "transparent"
    try:
        numbers = str(text).split(",")
        if len(numbers) == 3 and all(number.strip().isdecimal() and int(number) < 256 for number in numbers):
            return int(numbers[0]), int(numbers[1]), int(numbers[2])
        red, green, blue, *alpha = ImageColor.getrgb(str(text))
        if alpha:
            raise ValueError
    except ValueError:
        raise InputError(
            f"background={text!r} is no background; give white, transparent, the name of a colour, #ffcc00 or "
            "255,204,0 (red, green and blue up to 255)."
        ) from None
    return red, green, blue


def show_background(background: Background) -> str:
    """Write a background as `read_background` reads it: white, transparent or #ffcc00."""
    if background in (WHITE, "transparent"):
        return "white" if background == WHITE else "transparent"
    return "#" + "".join(f"{int(value):02x}" for value in background)


def check_count(name: str, value: Any, *, least: int = 1) -> int:
    """Return `value`; raises `InputError`, naming the setting, unless it is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name}={value!r} is not possible; give a whole number of at least {least}.")
    return value


def check_number(
    name: str,
    value: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    meaning: str = "",
) -> float:
    """Return `value`; raises `InputError`, with what numbers mean, unless it is a finite number within the bounds."""
    low, high = -math.inf if least is None else least, math.inf if most is None else most
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and low <= value <= high and abs(value) != math.inf and (above is None or value > above):
        return float(value)
    start = f" from {least:g}" if least is not None else f" above {above:g} and up" if above is not None else ""
    end = f" to {most:g}" if most is not None else ""
    raise InputError(f"{name}={value!r} is not possible; give a number{start}{end}{meaning and f': {meaning}'}.")
