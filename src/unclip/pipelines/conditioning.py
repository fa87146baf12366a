"""What each kind of network is told besides x_t and t. Knows networks and CLIP's features; no sampler.

Guidance leads away from a null: the empty prompt where a network never learned another, else what it learned.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from unclip.clip import TextFeatures
from unclip.diffusion import Denoiser, NoiseSchedule, self_condition
from unclip.models import Decoder, KandinskyDecoder, Prior
from unclip.models.dalle2_pytorch import Dalle2Prior, Dalle2UNet
from unclip.pipelines.sampling import expand_text, trim_texts
from unclip.shapes import Embeddings

AnyPrior: TypeAlias = Prior | Dalle2Prior
AnyDecoder: TypeAlias = Decoder | KandinskyDecoder | Dalle2UNet
Conditioning: TypeAlias = Mapping[str, Tensor | None]


class Condition(NamedTuple):
    """What a decoder is told besides the image embedding, and what stands for the absence of both."""

    text: TextFeatures
    """Features of the prompts, a row each."""
    null: TextFeatures
    """Features of the empty or the negative prompt."""
    null_image: Embeddings | None = None
    """The embedding of an empty image, for decoders that learned no null of their own."""
    is_conditional: bool = True
    """False where nothing is told: the nulls stand in the guided pass too."""


def leads_from_text(network: AnyPrior | AnyDecoder) -> bool:
    """Whether guidance leads away from a text, which may be a negative prompt, and not from a null that was learned."""
    match network:
        case Prior():
            return True
        case Decoder() | KandinskyDecoder():
            return network.config.text_dim > 0
        case Dalle2Prior() | Dalle2UNet():
            return False


def with_own_x0(
    network: AnyPrior | AnyDecoder, schedule: NoiseSchedule, denoiser_of: Callable[[Conditioning], Denoiser]
) -> Denoiser:
    """The denoiser of one trajectory; `denoiser_of` is given what the network is told of its own last x0.

    That is nothing unless it was trained with self-conditioning.
    """
    if isinstance(network, KandinskyDecoder) or not network.config.self_conditioning:
        return denoiser_of({})
    return self_condition(lambda x0: denoiser_of({"self_condition": x0}), schedule)


def prior_conditioning(network: AnyPrior, text: TextFeatures, null: TextFeatures, rows: int) -> list[Conditioning]:
    """For the guided and the unguided pass; each row of `text` stands for rows / len(text) neighbouring ones."""
    match network:
        case Prior():
            return [_cached(network, found, rows // len(found.embedding)) for found in trim_texts(text, null)]
        case Dalle2Prior():
            config, repeats = network.config, rows // len(text.embedding)
            told: dict[str, Tensor] = {"text_embedding": F.normalize(text.embedding, dim=-1)}
            told |= _tokens(text, config.num_text_tokens) if config.reads_text_hidden else {}
            told = {name: value.repeat_interleave(repeats, dim=0) for name, value in told.items()}
            present = torch.ones(rows, dtype=torch.bool, device=text.embedding.device)
            flags = (present if config.learned_nulls else None, ~present)
            return [{**told, "text_present": there} for there in flags]


def decoder_conditioning(network: AnyDecoder, image_embedding: Embeddings, condition: Condition) -> list[Conditioning]:
    """For the guided and the unguided pass; texts have a row for each embedding."""
    rows = len(image_embedding)
    absent = torch.zeros(rows, dtype=torch.bool, device=image_embedding.device)
    present = ~absent if condition.is_conditional else absent
    match network:
        case Decoder():
            texts = trim_texts(condition.text, condition.null)
            texts_told = [_text(found, rows) if network.config.text_dim else {} for found in texts]
            return [
                {"image_embedding": image_embedding, "image_present": there, **words}
                for there, words in zip((present, absent), texts_told, strict=True)
            ]
        case KandinskyDecoder():
            assert condition.null_image is not None, "this decoder leads away from an empty image"
            null_image = condition.null_image.expand(rows, -1)
            images = (image_embedding if condition.is_conditional else null_image, null_image)
            # It was trained, and is drawn from, looking at the padding.
            told = [
                _text(found, rows) | {"text_mask": None} if network.config.text_dim else {}
                for found in (condition.text, condition.null)
            ]
            return [{"image_embedding": image, **words} for image, words in zip(images, told, strict=True)]
        case Dalle2UNet():
            reads_text = network.config.text_dim > 0
            words = _tokens(condition.text, network.config.num_text_tokens) if reads_text else {}
            flags = ["image_present", "text_present"] if reads_text else ["image_present"]
            told_image = {"image_embedding": image_embedding} if network.config.embedding_dim else {}
            return [{**told_image, **words, **dict.fromkeys(flags, there)} for there in (present, absent)]


def _cached(network: Prior, text: TextFeatures, repeats: int) -> Conditioning:
    reads_tokens = network.config.num_text_tokens > 0
    hidden, mask = (text.hidden, text.mask) if reads_tokens else (None, None)
    # Keys and values of the text do not depend on the time: computed once, not once per step and candidate.
    cache = network.text_cache(text.embedding, hidden, mask)
    return {
        "cache": cache.repeat_interleave(repeats, dim=0),
        "text_mask": None if mask is None else mask.repeat_interleave(repeats, dim=0),
    }


def _text(text: TextFeatures, rows: int) -> dict[str, Tensor | None]:
    found = text if len(text.embedding) == rows else expand_text(text, rows)
    return {"text_embedding": found.embedding, "text_hidden": found.hidden, "text_mask": found.mask}


# DALLE2-pytorch leaves out what its networks have no room for.
def _tokens(text: TextFeatures, length: int) -> dict[str, Tensor]:
    return {"text_hidden": text.hidden[:, :length], "text_mask": text.mask[:, :length]}
