"""Embed texts and pictures, and draw pictures of image embeddings."""

from collections.abc import Sequence
from typing import Annotated, Any, TypeAlias, Unpack

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from unclip.clip import TextFeatures
from unclip.errors import InputError
from unclip.images import from_pil, to_pil
from unclip.model.family import Condition
from unclip.pictures import Picture, open_pictures
from unclip.pipelines.description import task
from unclip.pipelines.features import Features, encode, encode_pictures, encode_prompts
from unclip.pipelines.inputs import TextOrPicture, read_input
from unclip.pipelines.job import begin, check_negative
from unclip.pipelines.model import Model
from unclip.pipelines.options import DrawOptions, NegativePrompt, NumImages, Option
from unclip.pipelines.result import Result
from unclip.pipelines.settings import check_prompts
from unclip.shapes import Embeddings, Images

Vectors: TypeAlias = Tensor | np.ndarray
"""One embedding (dim,), or one a row (embeddings, dim)."""


@task()
def embed(
    model: Model,
    inputs: Annotated[
        TextOrPicture | Tensor | Sequence[TextOrPicture | Tensor],
        Option("Texts and pictures to embed.", "text or picture"),
    ],
    *,
    normalize: Annotated[bool, Option("Give embeddings the length 1.")] = False,
) -> Float[Tensor, "*inputs dim"]:
    """Embed texts and pictures with CLIP: (dim,) for one, (inputs, dim) for a sequence, float32 on the model's device.

    A PIL picture, a path, an array and a tensor (3, height, width) in [-1, 1] are pictures; so is a text that names a
    file which is there, and any other is a text. Both lie in one space, at CLIP's own scale, which is that of
    `Result.image_embeddings` and the one that `decode` reads; with `normalize` they have length 1, so that their
    products are cosines. A text's is not that of a picture of it: `prior.sample` draws those.

    Raises `InputError` for what is neither, for an empty text and for no input.
    """
    items, is_one = _as_list(inputs)
    if not items:
        raise InputError("there is nothing to embed; give at least one text or picture.")
    read = [read_input(to_pil(read_images(item))[0] if isinstance(item, Tensor) else item) for item in items]
    pictures = [one.picture for one in read if one.picture is not None]
    texts = [one.text for one in read if one.picture is None]
    of_pictures = iter(encode_pictures(model, pictures) if pictures else ())
    of_texts = iter(encode_prompts(model, texts)[0].embedding if texts else ())
    rows = torch.stack([next(of_texts if one.picture is None else of_pictures) for one in read])
    if "decoder" in model.stages:
        rows = model.need_decoder.from_clip(rows)
    rows = F.normalize(rows, dim=-1) if normalize else rows
    return rows[0] if is_one else rows


def _as_list(inputs: TextOrPicture | Tensor | Sequence[TextOrPicture | Tensor]) -> tuple[list[Any], bool]:
    """List the inputs, and say whether there is one alone; a tensor or array of four dimensions is a sequence."""
    if isinstance(inputs, Tensor | np.ndarray):
        return ([inputs], True) if inputs.ndim < 4 else (list(inputs), False)
    if isinstance(inputs, str) or not isinstance(inputs, Sequence):
        return [inputs], True
    return list(inputs), False


@task()
def decode(
    model: Model,
    image_embedding: Annotated[Vectors, Option("Image embeddings to draw, one a row.", "embedding")],
    num_images: NumImages = 1,
    *,
    prompt: Annotated[str | Sequence[str], Option("Texts for a decoder that reads them.")] = "",
    negative_prompt: NegativePrompt = "",
    **options: Unpack[DrawOptions],
) -> Result:
    """Draw `num_images` pictures of each image embedding, (dim,) or (embeddings, dim), by decoder and upsamplers.

    Embeddings are those of `embed`, of the prior or of a `Result`, or any numbers at their scale. A decoder that reads
    text gets `prompt`, one for all or one for each. Picture k of an embedding has the seed `seed` + k, and its
    generator begins with the decoder's noise. Raises `InputError` for another size of embedding, for numbers that are
    not finite, and as `text_to_image` does.
    """
    vectors = read_vectors(model, image_embedding)
    prompts = read_prompts(prompt, len(vectors))
    job = begin(model, options, num_inputs=len(vectors), num_images=num_images)
    check_negative(job, negative_prompt)
    features = decoder_features(model, prompts, negative_prompt)
    embeddings = [vectors[batch.rows] for batch in job.batches]
    images = job.draw(embeddings, features.condition)
    texts = {"negative_prompt": negative_prompt} if negative_prompt else {}
    return job.result(images, embeddings, features.cut, prompts, **texts)


def read_vectors(model: Model, values: Vectors) -> Embeddings:
    """Embeddings in float32 where the model is, one a row; raises `InputError` where the decoder cannot read them."""
    if not isinstance(values, Tensor | np.ndarray):
        raise InputError(f"an image embedding is a tensor or an array; found a {type(values).__name__}.")
    vectors = torch.as_tensor(values).detach()
    wanted = model.need_decoder.network.config.embedding_dim
    if vectors.ndim not in (1, 2) or vectors.shape[-1] != wanted or not len(vectors):
        raise InputError(
            f"image embeddings have the shape {tuple(vectors.shape)}, but the decoder of {model.name!r} reads "
            f"({wanted},) or (embeddings, {wanted}); use those of a model with the same CLIP."
        )
    vectors = torch.atleast_2d(vectors).to(device=model.device, dtype=torch.float32)
    if not vectors.isfinite().all():
        raise InputError("image embeddings hold numbers that are not finite; leave those rows out.")
    return vectors


def read_prompts(prompt: str | Sequence[str], count: int) -> list[str]:
    """One text for each of `count` rows; raises `InputError` for another number of texts."""
    if isinstance(prompt, str):
        return [prompt] * count
    prompts = check_prompts(prompt)
    if len(prompts) != count:
        raise InputError(f"prompt has {len(prompts)} texts for {count} embeddings; give one for all, or one for each.")
    return prompts


def read_images(images: Picture | Sequence[Picture] | Tensor) -> Images:
    """A batch in [-1, 1] of a tensor, (3, height, width) or (batch, 3, height, width), or of pictures of one size."""
    if not isinstance(images, Tensor):
        return from_pil(open_pictures(images))
    if images.ndim not in (3, 4) or images.shape[-3] != 3:
        raise InputError(
            f"a tensor of pictures has the shape (batch, 3, height, width) or (3, height, width); found "
            f"{tuple(images.shape)}."
        )
    return _check_range(images if images.ndim == 4 else images[None])


def _check_range(images: Tensor) -> Images:
    """Pictures in [-1, 1]; raises `InputError` for other numbers, which would give wrong pictures silently."""
    if not images.is_floating_point() or not images.detach().abs().amax() <= 1.001:
        raise InputError(
            f"a tensor of pictures holds float numbers in [-1, 1]; found {images.dtype} from {images.min():g} to "
            f"{images.max():g}; numbers up to 255 become those by images / 127.5 - 1."
        )
    return images.detach().float().clamp(-1.0, 1.0)


def decoder_features(model: Model, prompts: Sequence[str], negative_prompt: str = "") -> Features:
    """The decoder's conditioning besides image embeddings; where it reads none, no CLIP is needed."""
    config = model.need_decoder.network.config
    if any(prompts) or config.text_dim or model.need_decoder.needs_null_image:
        return encode(model, prompts, negative_prompt=negative_prompt)

    def unread(rows: int) -> TextFeatures:
        mask = torch.ones(rows, 1, dtype=torch.bool, device=model.device)
        zeros = torch.zeros(rows, 1, config.embedding_dim, device=model.device)
        return TextFeatures(zeros[:, 0], zeros, mask)

    text, null = unread(len(prompts)), unread(1)
    return Features(text, null, text.embedding[:0], Condition(text, null), {})
