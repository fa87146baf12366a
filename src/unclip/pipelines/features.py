"""What CLIP, and a decoder's own text encoder, make of prompts and pictures. Knows encoders; no stage's sampling."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import torch
from PIL import Image

from unclip.clip import TextFeatures, TextImageEncoder
from unclip.pipelines.conditioning import Condition
from unclip.pipelines.model import Encoder, Model
from unclip.pipelines.sampling import select_text
from unclip.shapes import Embeddings

T = TypeVar("T")

# Texts or pictures that go through an encoder together. One on a CPU, where bits in float32 depend on their number.
BATCH_SIZE = {"cpu": 1}
DEFAULT_BATCH_SIZE = 8


class Features(NamedTuple):
    """What stages are told of a task's prompts and pictures."""

    text: TextFeatures
    """Of each prompt."""
    null: TextFeatures
    """Of what guidance leads away from: the empty or the negative prompt."""
    pictures: Embeddings
    """(pictures, dim): CLIP's embedding of each, at the scale that the decoder reads."""
    condition: Condition
    """What the decoder is told of each prompt besides the image embedding."""
    cut: Mapping[str, str]
    """As `cut_texts`, of the prompts and the negative prompt."""


def encode(
    model: Model, prompts: Sequence[str], pictures: Sequence[Image.Image] = (), negative_prompt: str = ""
) -> Features:
    """Read prompts and pictures, a few at a time; each encoder is in memory only meanwhile."""
    clip, decoder = model.need_clip, model.need_decoder
    with model.resident(clip):
        text, null = _encode_prompts(model, clip, prompts), clip.encode_text([negative_prompt])
        embeddings = _encode_pictures(model, clip, pictures) if pictures else text.embedding[:0]
        empty = clip.encode_empty_image() if decoder.needs_null_image else None
    condition = _condition(model, prompts, negative_prompt, text, null, empty)
    return Features(text, null, decoder.from_clip(embeddings), condition, cut_texts(model, [*prompts, negative_prompt]))


def encode_prompts(model: Model, prompts: Sequence[str]) -> tuple[TextFeatures, TextFeatures]:
    """What CLIP makes of the prompts, and of the empty one; needs no decoder."""
    clip = model.need_clip
    with model.resident(clip):
        return _encode_prompts(model, clip, prompts), clip.encode_text([""])


def encode_pictures(model: Model, pictures: Sequence[Image.Image]) -> Embeddings:
    """CLIP's embedding (pictures, dim) of each at its own scale; needs no decoder, and raises `InputError` for none."""
    clip = model.need_clip
    with model.resident(clip):
        return _encode_pictures(model, clip, pictures)


def cut_texts(model: Model, texts: Sequence[str]) -> dict[str, str]:
    """The texts that are longer than an encoder of the model reads, each with its end, which had no part.

    Of two encoders it is the longer end.
    """
    encoders, unique = (model.clip, model.text_encoder), list(dict.fromkeys(texts))
    return join_cut(*(dict(zip(unique, part.cut_text(unique), strict=True)) for part in encoders if part is not None))


def join_cut(*parts: Mapping[str, str]) -> dict[str, str]:
    """What several readers cut, in one: the longest end of each text; texts of which nothing was cut are left out."""
    texts = dict.fromkeys(text for part in parts for text in part)
    ends = {text: max((part.get(text, "") for part in parts), key=len) for text in texts}
    return {text: end for text, end in ends.items() if end}


def chunk_size(model: Model) -> int:
    """How many pictures or prompts go through an encoder together."""
    return BATCH_SIZE.get(model.device.type, DEFAULT_BATCH_SIZE)


def _condition(
    model: Model,
    prompts: Sequence[str],
    negative_prompt: str,
    text: TextFeatures,
    null: TextFeatures,
    empty: Embeddings | None,
) -> Condition:
    """Texts in CLIP's words, or in those of the encoder that the decoder reads instead."""
    encoder = model.text_encoder
    if encoder is None:
        return Condition(text, null, empty)
    with model.resident(encoder):
        return Condition(_encode_prompts(model, encoder, prompts), encoder.encode_text([negative_prompt]), empty)


def _encode_prompts(model: Model, encoder: Encoder, prompts: Sequence[str]) -> TextFeatures:
    """Features of prompts; what stands there twice is read once."""
    unique = list(dict.fromkeys(prompts))
    parts = [encoder.encode_text(chunk) for chunk in _chunks(model, unique)]
    features = TextFeatures(*(torch.cat(values) for values in zip(*parts, strict=True)))
    return select_text(features, [unique.index(prompt) for prompt in prompts])


def _encode_pictures(model: Model, clip: TextImageEncoder, pictures: Sequence[Image.Image]) -> Embeddings:
    return torch.cat([clip.encode_pictures(chunk) for chunk in _chunks(model, pictures)])


def _chunks(model: Model, items: Sequence[T]) -> list[Sequence[T]]:
    size = chunk_size(model)
    return [items[first : first + size] for first in range(0, len(items), size)]
