"""Stages of several models joined in memory. Knows models and their parts; nothing is drawn or read."""

from collections.abc import Mapping
from dataclasses import replace

from unclip.errors import InputError
from unclip.pipelines.model import Model

__all__ = ["swap"]


def swap(
    model: Model,
    *,
    clip: Model | None = None,
    prior: Model | None = None,
    decoder: Model | None = None,
    upsamplers: Model | None = None,
) -> Model:
    """Join `model` with parts of others; see `UnClip.replace` for the arguments."""
    given = {"clip": clip, "prior": prior, "decoder": decoder, "upsamplers": upsamplers}
    donors = {part: donor for part, donor in given.items() if donor is not None}
    for part, donor in donors.items():
        if donor.device != model.device:
            raise InputError(
                f"{model.name!r} is on {model.device} and {donor.name!r}, which gives its {part}, on {donor.device}; "
                "load both on one device."
            )
    swapped = replace(
        model,
        name=_name(model, donors),
        clip=model.clip if clip is None else clip.need_clip,
        basis=(clip or model).basis,
        prior=model.prior if prior is None else prior.need_prior,
        num_candidates=(prior or model).num_candidates,
        decoder=model.decoder if decoder is None else decoder.need_decoder,
        text_encoder=(decoder or model).text_encoder,
        upsamplers=(upsamplers or model).upsamplers,
        residences={key: home for part in (model, *donors.values()) for key, home in part.residences.items()},
    )
    return swapped if swapped.image_size in swapped.image_sizes else replace(swapped, image_size=None)


def _name(model: Model, donors: Mapping[str, Model]) -> str:
    """What the model is called from now on: `emoji (decoder of mine)`."""
    parts = ", ".join(f"{part} of {donor.name}" for part, donor in donors.items())
    return f"{model.name} ({parts})" if parts else model.name
