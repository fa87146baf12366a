"""What one stage hands to the next, and whether both agree on its size. Knows configurations; no tensors."""

from collections.abc import Mapping, Sequence

from unclip.clip import ClipConfig
from unclip.config import Config
from unclip.errors import CheckpointError
from unclip.models import AutoencoderConfig, DecoderConfig, KandinskyDecoderConfig, PriorConfig, UpsamplerConfig
from unclip.models.dalle2_pytorch import Dalle2PriorConfig, Dalle2UNetConfig
from unclip.pipelines.embedding_basis import EmbeddingBasis

__all__ = ["check_fit", "check_sizes"]

DALLE2 = (Dalle2PriorConfig, Dalle2UNetConfig)


def check_fit(
    clip: ClipConfig | None, prior: Config | None, decoder: Config | None, basis: EmbeddingBasis | None = None
) -> None:
    """Raise `CheckpointError` where two stages disagree on the size of what passes between them."""
    stages = {"clip": clip, "prior": prior, "decoder": decoder}
    reads = {name: _reads(config) for name, config in stages.items() if config is not None}
    if basis is not None:
        reads["embedding basis"] = _sizes(basis.embedding_dim)
    for what in ("image embedding", "token width", "prompt length"):
        found = {name: sizes[what] for name, sizes in reads.items() if sizes.get(what)}
        if len(set(found.values())) > 1:
            shown = ", ".join(f"{stage} {size}" for stage, size in found.items())
            raise CheckpointError(f"the stages disagree on the {what}: {shown}; use stages that were trained together.")
    stages_of_dalle2 = [isinstance(config, DALLE2) for config in (prior, decoder) if config is not None]
    if len(set(stages_of_dalle2)) > 1:
        raise CheckpointError(
            "prior and decoder disagree on the scale of image embeddings: DALLE2-pytorch's are unit vectors, others as "
            "CLIP gives them; use stages that were trained together."
        )


def check_sizes(decoder: Config | None, autoencoder: Config | None, upsamplers: Sequence[Config]) -> None:
    """Raise `CheckpointError` where an upsampler was made for pictures of another size than the stage before makes."""
    assert isinstance(decoder, DecoderConfig | KandinskyDecoderConfig | Dalle2UNetConfig | None), decoder
    assert isinstance(autoencoder, AutoencoderConfig | None), autoencoder
    made = None if decoder is None else decoder.image_size * (autoencoder.downsampling if autoencoder else 1)
    before = "decoder"
    for config in upsamplers:
        assert isinstance(config, UpsamplerConfig), config
        name = f"upsampler_{config.image_size}"
        if made not in (None, config.low_res_size):
            raise CheckpointError(
                f"the {before} makes {made} px, but {name} enlarges {config.low_res_size} px; use stages that were "
                "made for each other."
            )
        made, before = config.image_size, name


def _reads(config: Config) -> Mapping[str, int]:
    """Sizes of what a network reads or writes; 0 where it does not."""
    match config:
        case ClipConfig():
            return _sizes(config.embedding_dim, config.text_width, config.context_length)
        case PriorConfig():
            width = config.text_dim or config.embedding_dim
            return _sizes(config.embedding_dim, width if config.num_text_tokens else 0, config.num_text_tokens)
        case Dalle2PriorConfig(reads_text_hidden=reads):
            return _sizes(config.embedding_dim, config.embedding_dim * reads)
        case DecoderConfig():
            own = config.text_transformer
            return _sizes(config.embedding_dim, config.text_dim, own.num_text_tokens if own else 0)
        case KandinskyDecoderConfig():
            # Its text comes from an encoder of its own.
            return _sizes(config.embedding_dim)
        case Dalle2UNetConfig():
            return _sizes(config.embedding_dim, config.text_dim)
    raise AssertionError(f"nobody said what {type(config).__name__} reads")


def _sizes(embedding: int, tokens: int = 0, length: int = 0) -> dict[str, int]:
    return {"image embedding": embedding, "token width": tokens, "prompt length": length}
