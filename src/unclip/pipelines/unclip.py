"""The face of the package: a loaded model with one method per task."""

import dataclasses
from collections.abc import Mapping
from typing import Self

from unclip.clip import TextImageEncoder
from unclip.errors import InputError
from unclip.pipelines.bound_stages import BoundDecoder, BoundPrior, BoundUpsampler
from unclip.pipelines.model import Model
from unclip.pipelines.tasks.drafts import advance, draft, finish
from unclip.pipelines.tasks.embeddings import decode, embed
from unclip.pipelines.tasks.image_to_image import image_to_image
from unclip.pipelines.tasks.inpaint import inpaint
from unclip.pipelines.tasks.interpolate import interpolate
from unclip.pipelines.tasks.mix import mix
from unclip.pipelines.tasks.outpaint import outpaint
from unclip.pipelines.tasks.probe import fit_basis, probe
from unclip.pipelines.tasks.text_diff import text_diff
from unclip.pipelines.tasks.text_to_image import text_to_image
from unclip.pipelines.tasks.unconditional import unconditional
from unclip.pipelines.tasks.upscale import upscale
from unclip.pipelines.tasks.variations import image_variations


class UnClip(Model):
    """A text-to-image model, ready to draw.

    Calling it is `text_to_image`. Each task is a function of a model, and a method here.

    >>> pipe = UnClip.load("emoji")
    >>> result = pipe("a cat with sunglasses", num_images=4, seed=7)
    >>> result.save("cats/")
    """

    __call__ = text_to_image
    text_to_image = text_to_image
    embed = embed
    decode = decode
    draft = draft
    advance = advance
    finish = finish
    image_variations = image_variations
    image_to_image = image_to_image
    text_diff = text_diff
    upscale = upscale
    interpolate = interpolate
    mix = mix
    probe = probe
    fit_basis = fit_basis
    inpaint = inpaint
    outpaint = outpaint
    unconditional = unconditional

    @property
    def model(self) -> Self:
        """The model itself, for programs written for version 0.1."""
        return self

    @property
    def clip(self) -> TextImageEncoder:
        """CLIP with its tokenizer; raises `InputError` where the model has none."""
        return self.need_clip

    @property
    def prior(self) -> BoundPrior:
        """Texts to image embeddings; raises `InputError` where the model has none."""
        return BoundPrior(self, self.need_prior)

    @property
    def decoder(self) -> BoundDecoder:
        """Image embeddings to small pictures; raises `InputError` where the model has none."""
        return BoundDecoder(self, self.need_decoder)

    @property
    def upsamplers(self) -> Mapping[int, BoundUpsampler]:
        """Small pictures to larger ones, by the size that they make."""
        return {size: BoundUpsampler(self, stage) for size, stage in self.upsampler_stages.items()}

    def replace(
        self,
        *,
        clip: "UnClip | None" = None,
        prior: "UnClip | BoundPrior | None" = None,
        decoder: "UnClip | BoundDecoder | None" = None,
        upsamplers: "UnClip | Mapping[int, BoundUpsampler] | None" = None,
    ) -> Self:
        """A model in which some stages are those of others; nothing is copied, and this model stays as it is.

        `decoder=other` and `decoder=other.decoder` are the same. A decoder brings the text encoder that it reads, CLIP
        the basis of its embeddings. Raises `CheckpointError` where sizes do not fit, naming both, and `InputError` for
        a model that lacks the stage or is on another device.
        """
        options = {"clip": clip, "prior": prior, "decoder": decoder, "upsamplers": upsamplers}
        donors = {part: _donor(part, donor) for part, donor in options.items() if donor is not None}
        for part, donor in donors.items():
            if donor.device != self.device:
                raise InputError(
                    f"{self.name!r} is on {self.device} and {donor.name!r}, which gives its {part}, on {donor.device}; "
                    "load both on one device."
                )
        homes: dict[str, Model] = {part: donors.get(part, self) for part in options}
        encoders = {"clip": homes["clip"].encoders.get("clip")}
        encoders["text_encoder"] = homes["decoder"].encoders.get("text_encoder")
        stages = {part: homes[part].stages.get(part) for part in ("prior", "decoder")}
        stages |= {stage.name: stage for stage in homes["upsamplers"].upsampler_stages.values()}
        parts = ", ".join(f"{part} of {donor.name}" for part, donor in donors.items())
        models: list[Model] = [self, *donors.values()]
        joined = dataclasses.replace(
            self,
            name=f"{self.name} ({parts})" if parts else self.name,
            encoders={name: encoder for name, encoder in encoders.items() if encoder is not None},
            stages={name: stage for name, stage in stages.items() if stage is not None},
            image_size=None,
            num_candidates=homes["prior"].num_candidates,
            basis=homes["clip"].basis,
            residences={network: home for model in models for network, home in model.residences.items()},
        )
        keeps_size = self.image_size is not None and self.image_size in joined.image_sizes
        return dataclasses.replace(joined, image_size=self.image_size) if keeps_size else joined


def _donor(part: str, donor: object) -> Model:
    """The model that gives `part`; raises `InputError` for what is neither a model that has it nor that part of one."""
    match donor:
        case Model():
            if part != "upsamplers":
                getattr(donor, f"need_{part}")
            return donor
        case BoundPrior() if part == "prior":
            return donor.model
        case BoundDecoder() if part == "decoder":
            return donor.model
        case Mapping() if part == "upsamplers" and len({id(upsampler.model) for upsampler in donor.values()}) == 1:
            stages = {upsampler.name: upsampler.stage for upsampler in donor.values()}
            return dataclasses.replace(next(iter(donor.values())).model, encoders={}, stages=stages)
    raise InputError(f"{part}={donor!r} gives no {part}; write {part}=other or {part}=other.{part} of another UnClip.")
