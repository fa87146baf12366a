"""Whether the parts of a model agree on the sizes of what passes between them: for loading, training and plans."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from unclip.config import Config
from unclip.data import EmbeddingSet
from unclip.errors import CheckpointError
from unclip.model.basis import EmbeddingBasis
from unclip.model.families import family_of
from unclip.model.family import Size

Part: TypeAlias = Config | EmbeddingBasis | EmbeddingSet


def check_fit(parts: Mapping[str, Part]) -> None:
    """Raise `CheckpointError` where two parts disagree on the size of what passes between them.

    `parts` are configurations by the names of a model's files (`clip`, `prior`, `decoder`, `upsampler_256`, ...), and
    what else has sizes: an embedding basis, stored embeddings.
    """
    sizes = {name: {size.what: size.number for size in sizes_of(part)} for name, part in parts.items()}
    for what in dict.fromkeys(what for numbers in sizes.values() for what in numbers):
        numbers = {name: of_part[what] for name, of_part in sizes.items() if what in of_part}
        if len(set(numbers.values())) > 1:
            shown = ", ".join(f"{name} {number}" for name, number in numbers.items())
            raise CheckpointError(f"the stages disagree on the {what}: {shown}; use stages that were trained together.")
    sampled = [part for name in ("prior", "decoder") if isinstance(part := parts.get(name), Config)]
    if len({family_of(config).unit_embeddings for config in sampled}) > 1:
        raise CheckpointError(
            "prior and decoder disagree on the scale of image embeddings: DALLE2-pytorch's are unit vectors, others as "
            "CLIP gives them; use stages that were trained together."
        )
    configs: Mapping[str, Any] = parts
    _check_channels(configs)
    # Each stage enlarges pictures of the size that the one before makes.
    previous, picture_size = "decoder", None
    if "decoder" in configs:
        factor = configs["autoencoder"].downsampling if "autoencoder" in configs else 1
        picture_size = configs["decoder"].image_size * factor
    # The network of an upsampler's last step makes the same size once more.
    upsamplers = [name for name in configs if name.startswith("upsampler_") and not name.endswith("_last")]
    for config in sorted((configs[name] for name in upsamplers), key=lambda config: config.image_size):
        name = f"upsampler_{config.image_size}"
        if picture_size not in (None, config.low_res_size):
            raise CheckpointError(
                f"the {previous} makes {picture_size} px, but {name} enlarges {config.low_res_size} px; use stages "
                "that were made for each other."
            )
        picture_size, previous = config.image_size, name


def _check_channels(configs: Mapping[str, Any]) -> None:
    """Raise `CheckpointError` where stages disagree on the channels of pictures."""
    channels = {name: config.in_channels for name, config in configs.items() if name.startswith("upsampler_")}
    if "autoencoder" in configs:
        channels = {"autoencoder": configs["autoencoder"].in_channels, **channels}
    elif "decoder" in configs and not family_of(configs["decoder"]).draws_latents:
        channels = {"decoder": configs["decoder"].in_channels, **channels}
    if len(set(channels.values())) > 1:
        shown = ", ".join(f"{name} {number}" for name, number in channels.items())
        raise CheckpointError(
            f"the stages disagree on the channels of pictures (3, or 4 with alpha): {shown}; use stages that were "
            "trained together."
        )


def sizes_of(part: Part) -> list[Size]:
    """List the sizes of what a part reads or makes, without what it does not read."""
    sizes: Sequence[Size]
    if isinstance(part, EmbeddingSet):
        sizes = (
            Size("image embedding", part.embedding_dim, ""),
            Size("token width", part.text_dim, ""),
            Size("prompt length", part.text_length, ""),
        )
    elif isinstance(part, EmbeddingBasis):
        sizes = (Size("image embedding", part.embedding_dim, ""),)
    else:
        sizes = family_of(part).sizes(part)
    return [size for size in sizes if size.number]
