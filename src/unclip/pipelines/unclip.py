"""The face of the package: a loaded model and one method per task. Knows tasks; the work is done in their files."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, Self, TypeVar

import torch

from unclip.checkpoint import Storage
from unclip.clip import TextImageEncoder
from unclip.errors import InputError
from unclip.pipelines.bound_stages import BoundDecoder, BoundPrior, BoundUpsampler
from unclip.pipelines.model import Model, Stage, swap
from unclip.pipelines.sampling import describe_network, describe_stage
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

P = ParamSpec("P")
R = TypeVar("R")


def _task(function: Callable[Concatenate[Model, P], R]) -> "Callable[Concatenate[UnClip, P], R]":
    """A task as a method: its model is that of the `UnClip`."""

    @wraps(function)
    def method(self: "UnClip", /, *args: P.args, **kwargs: P.kwargs) -> R:
        return function(self.model, *args, **kwargs)

    return method


class UnClip:
    """A text-to-image model, ready to draw.

    Calling it is `text_to_image`.

    >>> pipe = UnClip.load("emoji")
    >>> result = pipe("a cat with sunglasses", num_images=4, seed=7)
    >>> result.save("cats/")
    """

    def __init__(self, model: Model) -> None:
        self.model = model

    @classmethod
    def load(
        cls,
        name_or_folder: str | Path,
        device: torch.device | str = "auto",
        dtype: torch.dtype | None = None,
        *,
        low_memory: bool = False,
        revision: str | None = None,
    ) -> Self:
        """Load a model: a shipped one by name, a folder, or a hub repository (`owner/name`).

        Folders and repositories are ours or of a layout that is known, such as diffusers' unCLIP; `revision` is a
        repository's branch, tag or commit, and what is cached needs no network. `device` is auto, cpu, cuda or mps.
        `dtype` is the number format of the weights, by default bfloat16 where the device multiplies it natively, else
        float32; weights that a CPU can use as they are stored stay in their files, mapped. With `low_memory` one stage
        at a time is in memory, read anew for each task.

        Raises `InputError` for an unknown name (with the nearest one), `CheckpointError` for files that are missing,
        damaged, something else, or do not fit each other, and `ConfigError` for networks that we have no equal of.
        """
        return cls(Model.load(name_or_folder, device, dtype, low_memory=low_memory, revision=revision))

    def save(self, folder: str | Path, storage: Storage | None = None) -> None:
        """Write a model folder that `load` reads.

        `storage` is float32, bfloat16 or int8 (per output channel); None writes every tensor as it was stored, bit for
        bit, whatever number format it is used in. What was changed in memory is written as it is there.
        """
        self.model.save(folder, storage)

    def replace(
        self,
        *,
        clip: "UnClip | None" = None,
        prior: "UnClip | BoundPrior | None" = None,
        decoder: "UnClip | BoundDecoder | None" = None,
        upsamplers: "UnClip | Mapping[int, BoundUpsampler] | None" = None,
    ) -> "UnClip":
        """A model with stages of others in the place of its own; nothing is copied, and this one stays.

        `decoder=other` and `decoder=other.decoder` are the same. A decoder brings the text encoder that it reads, CLIP
        the basis of its embeddings. Raises `CheckpointError` where sizes do not fit, naming both, and `InputError` for
        a model that lacks the stage or is on another device.
        """
        donors = {"clip": clip, "prior": prior, "decoder": decoder, "upsamplers": upsamplers}
        return UnClip(swap(self.model, **{part: _donor(part, one) for part, one in donors.items() if one is not None}))

    def __repr__(self) -> str:
        model = self.model
        sizes = f": {', '.join(map(str, model.image_sizes))} px" if model.decoder else ""
        lines = [f"<UnClip {model.name!r} on {model.device}{sizes}"]
        lines += [f"clip: {describe_network(model.clip.clip)}"] if model.clip else []
        lines += [f"text_encoder: {describe_network(model.text_encoder.network)}"] if model.text_encoder else []
        stages: dict[str, Stage | None] = {"prior": model.prior, "decoder": model.decoder}
        stages |= {f"upsamplers[{size}]": stage for size, stage in model.upsamplers.items()}
        lines += [f"{name}: {describe_stage(stage.network, stage.defaults)}" for name, stage in stages.items() if stage]
        return "\n  ".join(lines) + ">"

    @property
    def name(self) -> str:
        """What the model is called."""
        return self.model.name

    @property
    def clip(self) -> TextImageEncoder:
        """CLIP with its tokenizer."""
        return self.model.need_clip

    @property
    def prior(self) -> BoundPrior:
        """Texts to image embeddings; raises `InputError` where the model has none."""
        return BoundPrior(self.model, self.model.need_prior)

    @property
    def decoder(self) -> BoundDecoder:
        """Image embeddings to small pictures; raises `InputError` where the model has none."""
        return BoundDecoder(self.model, self.model.need_decoder)

    @property
    def upsamplers(self) -> Mapping[int, BoundUpsampler]:
        """Small pictures to larger ones, by the size that they make."""
        return {size: BoundUpsampler(self.model, stage) for size, stage in self.model.upsamplers.items()}

    __call__ = _task(text_to_image)
    text_to_image = _task(text_to_image)
    embed = _task(embed)
    decode = _task(decode)
    draft = _task(draft)
    advance = _task(advance)
    finish = _task(finish)
    image_variations = _task(image_variations)
    image_to_image = _task(image_to_image)
    text_diff = _task(text_diff)
    upscale = _task(upscale)
    interpolate = _task(interpolate)
    mix = _task(mix)
    probe = _task(probe)
    fit_basis = _task(fit_basis)
    inpaint = _task(inpaint)
    outpaint = _task(outpaint)
    unconditional = _task(unconditional)


def _donor(part: str, donor: "UnClip | BoundPrior | BoundDecoder | Mapping[int, BoundUpsampler]") -> Model:
    """The model that gives `part`; raises `InputError` for what is neither a model nor that part of one."""
    match donor:
        case UnClip():
            return donor.model
        case BoundPrior() if part == "prior":
            return donor.model
        case BoundDecoder() if part == "decoder":
            return donor.model
        case Mapping() if part == "upsamplers" and len({id(upsampler.model) for upsampler in donor.values()}) == 1:
            stages = {upsampler.image_size: upsampler.stage for upsampler in donor.values()}
            return dataclasses.replace(next(iter(donor.values())).model, upsamplers=stages)
    raise InputError(f"{part}={donor!r} gives no {part}; write {part}=other or {part}=other.{part} of another UnClip.")
