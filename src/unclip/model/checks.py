"""Whether the parts of a model agree on the sizes of what passes between them. Loading, training and plans ask here."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeAlias

from unclip.clip import ClipConfig, MultilingualConfig
from unclip.config import Config
from unclip.data import EmbeddingSet
from unclip.errors import CheckpointError
from unclip.model.basis import EmbeddingBasis
from unclip.models import AutoencoderConfig, DecoderConfig, KandinskyDecoderConfig, PriorConfig, UpsamplerConfig
from unclip.models.dalle2_pytorch import Dalle2PriorConfig, Dalle2UNetConfig

Part: TypeAlias = Config | EmbeddingBasis | EmbeddingSet
DALLE2 = (Dalle2PriorConfig, Dalle2UNetConfig)


class Size(NamedTuple):
    """A size of something that passes between parts."""

    what: str
    number: int
    field: str
    """The setting of the part that says it."""


def check_fit(parts: Mapping[str, Part]) -> None:
    """Raise `CheckpointError` where two parts disagree on the size of what passes between them.

    `parts` are configurations by the names of a model's files (`clip`, `prior`, `decoder`, `upsampler_256`, ...), and
    what else has sizes: an embedding basis, stored embeddings.
    """
    sizes = {name: {size.what: size.number for size in sizes_of(part)} for name, part in parts.items()}
    for what in dict.fromkeys(what for read in sizes.values() for what in read):
        numbers = {name: read[what] for name, read in sizes.items() if what in read}
        if len(set(numbers.values())) > 1:
            shown = ", ".join(f"{name} {number}" for name, number in numbers.items())
            raise CheckpointError(f"the stages disagree on the {what}: {shown}; use stages that were trained together.")
    if len({isinstance(parts[name], DALLE2) for name in ("prior", "decoder") if name in parts}) > 1:
        raise CheckpointError(
            "prior and decoder disagree on the scale of image embeddings: DALLE2-pytorch's are unit vectors, others as "
            "CLIP gives them; use stages that were trained together."
        )
    _check_pictures(parts)


def _check_pictures(parts: Mapping[str, Part]) -> None:
    """Each stage enlarges pictures of the size that the one before makes."""
    decoder, autoencoder = parts.get("decoder"), parts.get("autoencoder")
    made, before = None, "decoder"
    if isinstance(decoder, DecoderConfig | KandinskyDecoderConfig | Dalle2UNetConfig):
        made = decoder.image_size * (autoencoder.downsampling if isinstance(autoencoder, AutoencoderConfig) else 1)
    # The network of an upsampler's last step makes the same size once more.
    configs = [part for name, part in parts.items() if not name.endswith("_last")]
    upsamplers = [config for config in configs if isinstance(config, UpsamplerConfig)]
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
    return [size for size in _table(part) if size.number]


def _table(part: Part) -> Iterator[Size]:
    image, text, tokens, length = "image embedding", "text embedding", "token width", "prompt length"
    match part:
        case ClipConfig():
            yield Size(image, part.embedding_dim, "embedding_dim")
            yield Size(text, part.embedding_dim, "embedding_dim")
            yield Size(tokens, part.text_width, "text_width")
            yield Size(length, part.context_length, "context_length")
        case PriorConfig():
            reads = bool(part.num_text_tokens)
            yield Size(image, part.embedding_dim, "embedding_dim")
            yield Size(text, part.text_embedding_dim or part.embedding_dim, "text_embedding_dim")
            yield Size(tokens, reads * (part.text_dim or part.embedding_dim), "text_dim")
            yield Size(length, part.num_text_tokens, "num_text_tokens")
        case DecoderConfig():
            own = part.text_transformer
            yield Size(image, part.embedding_dim, "embedding_dim")
            yield Size(tokens, part.text_dim, "text_dim")
            yield Size(length, own.num_text_tokens if own else 0, "text_transformer.num_text_tokens")
        case Dalle2PriorConfig():
            yield Size(image, part.embedding_dim, "embedding_dim")
            yield Size(tokens, part.embedding_dim * part.reads_text_hidden, "embedding_dim")
        case Dalle2UNetConfig():
            yield Size(image, part.embedding_dim, "embedding_dim")
            yield Size(tokens, part.text_dim, "text_dim")
        case KandinskyDecoderConfig():
            reads = bool(part.text_dim)
            yield Size(image, part.embedding_dim, "embedding_dim")
            # Its text comes from an encoder of its own.
            yield Size(
                "second text embedding", reads * (part.text_embedding_dim or part.embedding_dim), "text_embedding_dim"
            )
            yield Size("second token width", part.text_dim, "text_dim")
            yield Size("number of latent channels", part.in_channels, "in_channels")
        case MultilingualConfig():
            yield Size("second text embedding", part.embedding_dim, "embedding_dim")
            yield Size("second token width", part.width, "width")
        case AutoencoderConfig():
            yield Size("number of latent channels", part.latent_channels, "latent_channels")
        case EmbeddingSet():
            yield Size(image, part.embedding_dim, "")
            yield Size(tokens, part.text_dim, "")
            yield Size(length, part.text_length, "")
        case EmbeddingBasis():
            yield Size(image, part.embedding_dim, "")
        case UpsamplerConfig():
            pass  # Pictures alone, whose sizes are a chain.
        case _:
            raise AssertionError(f"no sizes are defined for {type(part).__name__}")
