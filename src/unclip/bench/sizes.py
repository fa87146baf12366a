"""What size each stage works at for pictures of a wanted size. Knows stages on meta; measures nothing."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from unclip.bench.subject import Subject
from unclip.errors import InputError
from unclip.model import StageSettings
from unclip.model.families import build_on_meta
from unclip.model.family import LATENT_SIZE
from unclip.model.folder import upsampler_names
from unclip.models import AutoencoderConfig
from unclip.pipelines import DecoderStage, ImageSize, Model, PriorStage, UpsamplerStage
from unclip.pipelines.chain import chain_to, show_size

# Nothing is sampled here.
ANY = StageSettings(num_steps=1, sampler="ddpm")


class StageSizes(NamedTuple):
    """Which stages take part, and at what size."""

    of: Mapping[str, tuple[int, int] | None]
    """(height, width) of what the stage's network makes; None for a stage that makes no picture."""
    image_size: int | None
    """Side of the pictures in the end, of the width where they are not square."""


def stage_sizes(subject: Subject, image_size: ImageSize | None = None) -> StageSizes:
    """The stages of `subject` that pictures of `image_size` (None: its own) go through.

    Raises `CheckpointError` where stages do not fit each other, and `InputError` for a size that they do not draw.
    """
    networks = {name: build_on_meta(config) for name, config in subject.networks.items()}
    sizes: dict[str, tuple[int, int] | None] = dict.fromkeys(subject.stages)
    if "decoder" not in networks:
        return _without_decoder(sizes, networks, image_size)
    upsamplers = [UpsamplerStage(networks[name], ANY) for name in upsampler_names(networks)]
    prior = [PriorStage(networks["prior"], ANY)] if "prior" in networks else []
    decoder = DecoderStage(networks["decoder"], ANY, networks.get("autoencoder"))
    model = Model(
        name=subject.name,
        encoders={},
        stages={stage.name: stage for stage in (*prior, decoder, *upsamplers)},
        image_size=subject.image_size if upsamplers or "autoencoder" in networks else None,
    )
    chain = chain_to(model, image_size)
    height, width = chain.sizes[0]
    factor = model.need_decoder.downsampling
    sizes["decoder"] = (height // factor, width // factor)
    if "autoencoder" in sizes:
        sizes["autoencoder"] = sizes["decoder"]
    drawn = {stage.name: size for stage, size in zip(chain.upsamplers, chain.sizes[1:], strict=True)}
    used = {name: size for name, size in sizes.items() if not name.startswith("upsampler_")} | drawn
    return StageSizes(used, chain.size[1])


def _without_decoder(
    sizes: dict[str, tuple[int, int] | None], networks: Mapping[str, Any], image_size: ImageSize | None
) -> StageSizes:
    made = None
    for name in sizes:
        config = networks[name].config
        if name.startswith("upsampler_"):
            made = sizes[name] = _square_or_pair(image_size, config.image_size)
            factor, multiple = config.image_size // config.low_res_size, config.size_multiple
            if any(side % multiple or side % factor for side in made):
                raise InputError(f"--size {show_size(made[::-1])}: {name} needs sides divisible by {multiple}.")
        elif isinstance(config, AutoencoderConfig):
            pixels = _square_or_pair(image_size, LATENT_SIZE * config.downsampling)
            made, sizes[name] = pixels, (pixels[0] // config.downsampling, pixels[1] // config.downsampling)
    return StageSizes(sizes, None if made is None else made[1])


def _square_or_pair(image_size: ImageSize | None, own: int) -> tuple[int, int]:
    """(height, width) of a size as users write it, (width, height)."""
    if image_size is None:
        return own, own
    return (image_size, image_size) if isinstance(image_size, int) else (image_size[1], image_size[0])
