"""What one stage hands to the next, and whether both agree on its size. Knows configurations; no tensors."""

from collections.abc import Mapping

from unclip.clip import ClipConfig
from unclip.errors import CheckpointError
from unclip.models import DecoderConfig, PriorConfig

__all__ = ["check_fit"]


def check_fit(clip: ClipConfig | None, prior: PriorConfig | None, decoder: DecoderConfig | None) -> None:
    """Raise `CheckpointError` where two stages disagree on the size of what passes between them."""
    stages = {"clip": clip, "prior": prior, "decoder": decoder}
    _check("image embedding", {name: stage.embedding_dim for name, stage in stages.items() if stage is not None})
    if clip is not None and prior is not None and prior.num_text_tokens:
        _check("token width", {"clip": clip.text_width, "prior": prior.text_dim or prior.embedding_dim})
        _check("prompt length", {"clip": clip.context_length, "prior": prior.num_text_tokens})
    if clip is not None and decoder is not None and decoder.text_dim:
        _check("token width", {"clip": clip.text_width, "decoder": decoder.text_dim})
    if clip is not None and decoder is not None and decoder.text_transformer is not None:
        _check("prompt length", {"clip": clip.context_length, "decoder": decoder.text_transformer.num_text_tokens})


def _check(what: str, sizes: Mapping[str, int]) -> None:
    if len(set(sizes.values())) > 1:
        found = ", ".join(f"{stage} {size}" for stage, size in sizes.items())
        raise CheckpointError(f"the stages disagree on the {what}: {found}; use stages that were trained together.")
