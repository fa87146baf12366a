"""Whether the parts of a model agree on the sizes of what passes between them: for loading, training and plans."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from unclip.config import Config
from unclip.data import EmbeddingSet
from unclip.errors import CheckpointError
from unclip.model.basis import EmbeddingBasis
from unclip.model.families import family_of
from unclip.model.family import Size
from unclip.models import AutoencoderConfig

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
    _check_pictures(parts)


def _check_pictures(parts: Mapping[str, Any]) -> None:
    """Raise `CheckpointError` unless each stage enlarges pictures of the size that the one before makes."""
    autoencoder, made, before = parts.get("autoencoder"), None, "decoder"
    if "decoder" in parts:
        factor = autoencoder.downsampling if isinstance(autoencoder, AutoencoderConfig) else 1
        made = parts["decoder"].image_size * factor
    # The network of an upsampler's last step makes the same size once more.
    upsamplers = [part for name, part in parts.items() if name.startswith("upsampler_") and not name.endswith("_last")]
    for config in sorted(upsamplers, key=lambda config: config.image_size):
        name = f"upsampler_{config.image_size}"
        if made not in (None, config.low_res_size):
            raise CheckpointError(
                f"the {before} makes {made} px, but {name} enlarges {config.low_res_size} px; use stages that were "
                "made for each other."
            )
        made, before = config.image_size, name


def sizes_of(part: Part) -> list[Size]:
    """The sizes of what a part reads or makes, without what it does not read."""
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
