"""Encode prompts and pictures: what the prior and the decoder are conditioned on."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import torch
from PIL import Image

from unclip.clip import TextFeatures, TextImageEncoder
from unclip.model.family import Condition, select_text
from unclip.pipelines.guarding import to_numpy
from unclip.pipelines.model import Encoder, Model
from unclip.shapes import Embeddings

T = TypeVar("T")


class Features(NamedTuple):
    """What the stages read of a task's prompts and pictures."""

    text: TextFeatures
    """CLIP's features of each prompt."""
    null: TextFeatures
    """CLIP's features of what guidance leads away from: the empty or the negative prompt."""
    pictures: Embeddings
    """(pictures, dim): CLIP's embedding of each, at the scale that the decoder reads."""
    condition: Condition
    """What the decoder reads of each prompt besides the image embedding."""
    cut: Mapping[str, str]
    """As `cut_texts`, of the prompts and the negative prompt."""


def encode(
    model: Model, prompts: Sequence[str], pictures: Sequence[Image.Image] = (), negative_prompt: str = ""
) -> Features:
    """Encode prompts and pictures, a few at a time; each encoder is in memory only meanwhile."""
    clip, decoder = model.need_clip, model.need_decoder
    with model.resident(clip):
        text, null = _encode_prompts(model, clip, prompts), clip.encode_text([negative_prompt])
        embeddings = _encode_pictures(model, clip, pictures) if pictures else text.embedding[:0]
        empty = clip.encode_empty_image() if decoder.needs_null_image else None
    if model.guard is not None:
        model.guard.check_text_embeddings(prompts, to_numpy(text.embedding))
    condition, encoder = Condition(text, null, empty), model.encoders.get("text_encoder")
    if encoder is not None:
        with model.resident(encoder):
            texts = _encode_prompts(model, encoder, prompts), encoder.encode_text([negative_prompt])
            condition = Condition(*texts, empty)
    return Features(text, null, decoder.from_clip(embeddings), condition, cut_texts(model, [*prompts, negative_prompt]))


def encode_prompts(model: Model, prompts: Sequence[str]) -> tuple[TextFeatures, TextFeatures]:
    """Return CLIP's features of the prompts, and of the empty one; needs no decoder."""
    clip = model.need_clip
    with model.resident(clip):
        return _encode_prompts(model, clip, prompts), clip.encode_text([""])


def encode_pictures(model: Model, pictures: Sequence[Image.Image]) -> Embeddings:
    """Return CLIP's embeddings (pictures, dim) at its own scale; needs no decoder, and raises `InputError` for none."""
    clip = model.need_clip
    with model.resident(clip):
        return _encode_pictures(model, clip, pictures)


def have_one_length(model: Model, texts: Sequence[str]) -> bool:
    """Return whether the decoder reads all texts as equally many tokens, so that none is padded; False for no text."""
    encoder = model.encoders.get("text_encoder") or model.need_clip
    return len(set(encoder.count_tokens(texts))) == 1 if texts else False


def cut_texts(model: Model, texts: Sequence[str]) -> dict[str, str]:
    """Return the texts that are longer than an encoder of the model reads, each with the end that was cut off.

    Of two encoders it is the longer end.
    """
    unique = list(dict.fromkeys(texts))
    return join_cut(*(dict(zip(unique, each.cut_text(unique), strict=True)) for each in model.encoders.values()))


def join_cut(*parts: Mapping[str, str]) -> dict[str, str]:
    """Return the longest end of each text that any reader cut; texts of which nothing was cut are left out."""
    texts = dict.fromkeys(text for part in parts for text in part)
    ends = {text: max((part.get(text, "") for part in parts), key=len) for text in texts}
    return {text: end for text, end in ends.items() if end}


def chunk_size(model: Model) -> int:
    """Return how many pictures or prompts go through an encoder together."""
    return 1 if model.device.type == "cpu" else 8  # there, bits in float32 depend on their number


def _encode_prompts(model: Model, encoder: Encoder, prompts: Sequence[str]) -> TextFeatures:
    """Encode prompts; a prompt that comes twice is encoded once."""
    unique = list(dict.fromkeys(prompts))
    parts = [encoder.encode_text(chunk) for chunk in _chunks(model, unique)]
    features = TextFeatures(*(torch.cat(values) for values in zip(*parts, strict=True)))
    return select_text(features, [unique.index(prompt) for prompt in prompts])


def _encode_pictures(model: Model, clip: TextImageEncoder, pictures: Sequence[Image.Image]) -> Embeddings:
    return torch.cat([clip.encode_pictures(chunk) for chunk in _chunks(model, pictures)])


def _chunks(model: Model, items: Sequence[T]) -> list[Sequence[T]]:
    size = chunk_size(model)
    return [items[first : first + size] for first in range(0, len(items), size)]
