"""Embed texts and pictures, and draw pictures of image embeddings."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, TypeAlias, Unpack

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from unclip.clip import TextFeatures
from unclip.errors import InputError
from unclip.images import from_pil, to_pil
from unclip.model.family import Condition, select_text
from unclip.pictures import Picture, open_pictures
from unclip.pipelines.features import Features, encode, encode_pictures, encode_prompts
from unclip.pipelines.inputs import Input, TextOrPicture, read_input
from unclip.pipelines.job import Job, PictureBatch, begin
from unclip.pipelines.model import Model
from unclip.pipelines.options import DrawOptions, NegativePrompt, NumImages, Option, task
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
    file which is there, and any other is a text. Transparency lies on white. Both lie in one space, at CLIP's own
    scale, which is that of `Result.image_embeddings` and the one that `decode` reads; with `normalize` they have length
    1, so that their products are cosines. A text's is not that of a picture of it: `prior.sample` draws those.

    Raises `InputError` for what is neither, for an empty text and for no input.
    """
    if isinstance(inputs, Tensor | np.ndarray):
        is_one = inputs.ndim < 4
    else:
        is_one = isinstance(inputs, str) or not isinstance(inputs, Sequence)
    values: Any = inputs
    items = [values] if is_one else list(values)
    if not items:
        raise InputError("there is nothing to embed; give at least one text or picture.")
    read = [
        read_input(to_pil(read_images(item, model.channels))[0] if isinstance(item, Tensor) else item) for item in items
    ]
    pictures = [one.picture for one in read if one.picture is not None]
    texts = [one.text for one in read if one.picture is None]
    of_pictures = iter(encode_pictures(model, pictures) if pictures else ())
    of_texts = iter(encode_prompts(model, texts)[0].embedding if texts else ())
    rows = torch.stack([next(of_texts if one.picture is None else of_pictures) for one in read])
    if "decoder" in model.stages:
        rows = model.need_decoder.from_clip(rows)
    rows = F.normalize(rows, dim=-1) if normalize else rows
    return rows[0] if is_one else rows


def embed_inputs(
    job: Job, inputs: Sequence[Input], num_candidates: int
) -> tuple[list[Float[Tensor, "inputs _batch dim"]], Features]:
    """Return, for each batch, the image embedding of every input: CLIP's of a picture, the prior's of a text.

    Also returns all features: a row of text for each input, empty for pictures, and an embedding for each picture. The
    prior starts each text from the same noise, and the batch's own noise goes on after the last of them: so no
    embedding depends on the other inputs.
    """
    pictures = [each.picture for each in inputs if each.picture is not None]
    features = encode(job.model, [each.text for each in inputs], pictures)
    texts = [row for row, each in enumerate(inputs) if each.text]
    batches = [
        PictureBatch([row] * len(batch.rows), batch.seeds, batch.noise if row == texts[-1] else batch.noise.copy())
        for batch in job.batches
        for row in texts
    ]
    of_texts = iter(replace(job, batches=batches).sample_prior(features, num_candidates) if texts else [])

    embeddings = []
    for batch in job.batches:
        of_pictures = (picture.expand(len(batch.rows), -1) for picture in features.pictures)
        embeddings.append(torch.stack([next(of_texts if each.text else of_pictures) for each in inputs]))
    return embeddings, features


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
    vectors, prompts = read_vectors(model, image_embedding, prompt)
    job = begin(model, options, num_inputs=len(vectors), num_images=num_images, negative_prompt=negative_prompt)
    features = decoder_features(model, prompts, negative_prompt)
    embeddings = [vectors[batch.rows] for batch in job.batches]
    images = job.draw(embeddings, features.condition)
    texts = {"negative_prompt": negative_prompt} if negative_prompt else {}
    return job.result(images, embeddings, features.cut, prompts, **texts)


def read_vectors(model: Model, values: Vectors, prompt: str | Sequence[str]) -> tuple[Embeddings, list[str]]:
    """Read embeddings as float32 on the model's device, one a row, and a text for each row.

    Raises `InputError` for embeddings that the decoder cannot read, and for another number of texts than one or theirs.
    """
    if not isinstance(values, Tensor | np.ndarray):
        raise InputError(f"an image embedding is a tensor or an array; found a {type(values).__name__}.")
    vectors = torch.as_tensor(values).detach()
    wanted = model.need_decoder.config.embedding_dim
    if vectors.ndim not in (1, 2) or vectors.shape[-1] != wanted or not len(vectors):
        raise InputError(
            f"image embeddings have the shape {tuple(vectors.shape)}, but the decoder of {model.name!r} reads "
            f"({wanted},) or (embeddings, {wanted}); use those of a model with the same CLIP."
        )
    vectors = torch.atleast_2d(vectors).to(device=model.device, dtype=torch.float32)
    if not vectors.isfinite().all():
        raise InputError("image embeddings hold numbers that are not finite; leave those rows out.")
    count, prompts = len(vectors), [prompt] * len(vectors) if isinstance(prompt, str) else check_prompts(prompt)
    if len(prompts) != count:
        raise InputError(f"prompt has {len(prompts)} texts for {count} embeddings; give one for all, or one for each.")
    return vectors, prompts


def read_images(images: Picture | Sequence[Picture] | Tensor, channels: int = 3) -> Images:
    """Read a batch in [-1, 1]: a tensor, (batch, channels, height, width) or of one picture, or pictures of one size.

    Where 4 channels are read, a picture without alpha, and a tensor of 3 channels, is opaque.
    """
    if not isinstance(images, Tensor):
        return from_pil(open_pictures(images), channels)
    if images.ndim not in (3, 4) or images.shape[-3] not in (3, channels):
        shape, more = tuple(images.shape), " (or 4 channels: RGB on white and its coverage)" * (channels == 4)
        raise InputError(
            f"a tensor of pictures is (batch, 3, height, width) or (3, height, width){more}; found {shape}."
        )
    # Other numbers would give wrong pictures silently.
    if not images.is_floating_point() or not images.detach().abs().amax() <= 1.001:
        raise InputError(
            f"a tensor of pictures holds float numbers in [-1, 1]; found {images.dtype} from {images.min():g} to "
            f"{images.max():g}; numbers up to 255 become those by images / 127.5 - 1."
        )
    batch = (images if images.ndim == 4 else images[None]).detach().float().clamp(-1.0, 1.0)
    return batch if batch.shape[1] == channels else torch.cat([batch, torch.ones_like(batch[:, :1])], dim=1)


def decoder_features(model: Model, prompts: Sequence[str], negative_prompt: str = "") -> Features:
    """Return the decoder's conditioning besides image embeddings; where it reads none, no CLIP is needed."""
    config = model.need_decoder.config
    if any(prompts) or config.text_dim or model.need_decoder.needs_null_image:
        return encode(model, prompts, negative_prompt=negative_prompt)
    zeros = torch.zeros(len(prompts), 1, config.embedding_dim, device=model.device)
    text = TextFeatures(zeros[:, 0], zeros, torch.ones(len(prompts), 1, dtype=torch.bool, device=model.device))
    null = select_text(text, [0])
    return Features(text, null, text.embedding[:0], Condition(text, null), {})
