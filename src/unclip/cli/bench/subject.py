"""Which networks a benchmark is of, from what was typed. Knows options; the shapes are known elsewhere."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from unclip.cli.train import parse_change
from unclip.errors import InputError

if TYPE_CHECKING:
    from unclip.bench import Subject


def chosen_subject(
    preset: str | None, model: str | None, stage: str | None, changes: Sequence[str], text_tokens: int | None
) -> "Subject":
    """The preset, changed, or the model as it is; raises `InputError` for options that do not go together."""
    from unclip.bench import change_networks, model_subject, preset_subject, with_text_tokens

    if text_tokens is not None and text_tokens < 0:
        raise InputError(f"--text-tokens {text_tokens} is no length; give 0 for no text, or more.")
    if preset is None:
        if changes or text_tokens is not None:
            raise InputError("--set and --text-tokens change a shape, but a model has its weights; give a --preset.")
        return model_subject(model or "emoji").only(stage)
    if model is not None:
        raise InputError(f"--preset {preset} and --model {model} are two things to measure; give one of them.")
    subject = change_networks(preset_subject(preset, stage), dict(parse_change(change) for change in changes))
    if text_tokens is None:
        return subject
    networks = {name: with_text_tokens(config, text_tokens) for name, config in subject.networks.items()}
    return replace(subject, networks=networks)


def parse_batches(text: str) -> list[int]:
    """`1` or `1,4,16`; raises `InputError` for text that is neither."""
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) for part in parts):
        raise InputError(f"--batch {text!r} cannot be read; write 1, or several as 1,4,16.")
    return list(dict.fromkeys(int(part) for part in parts))
