"""Mixing: pictures of several texts and pictures at once, each with its weight. Knows the stages of a model."""

import math
from collections.abc import Sequence
from typing import Unpack

import torch

from unclip.diffusion import weighted_mean
from unclip.errors import InputError
from unclip.pipelines.inputs import (
    Input,
    TextOrPicture,
    embed_inputs,
    encode_inputs,
    read_input,
)
from unclip.pipelines.job import begin, count_candidates
from unclip.pipelines.model import Model
from unclip.pipelines.options import DrawOptions
from unclip.pipelines.result import Result
from unclip.pipelines.sampling import select_text


@torch.no_grad()
def mix(
    model: Model,
    parts: Sequence[tuple[TextOrPicture, float]],
    num_images: int = 1,
    *,
    num_candidates: int | None = None,
    **options: Unpack[DrawOptions],
) -> Result:
    """Draw `num_images` pictures of texts and pictures at once: `[("a cat", 0.7), ("dog.png", 0.3)]`.

    The image embeddings of the parts are averaged as directions; weights may have any sum, and one below 0 leads
    away from its part. What is a picture is as for `interpolate`. Seeds and noise are as for `text_to_image`, each
    text being imagined from the noise that it would be alone with: one part by itself gives what `text_to_image` or
    `image_variations` gives. A decoder that reads text is told that of the heaviest text.

    Raises `InputError` as `interpolate` does, for weights that are not finite or all 0, and where parts cancel.
    """
    inputs, weights = _read(parts)
    has_text = any(one.text for one in inputs)
    job = begin(model, options, num_images=num_images, uses_prior=has_text)
    candidates = count_candidates(model, num_candidates)
    features = encode_inputs(model, inputs)
    found = embed_inputs(job, features, inputs, candidates)
    embeddings = [weighted_mean(vectors, weights) for vectors in found]
    # A decoder that reads text is told one: that of the heaviest part which has one.
    told = max(range(len(weights)), key=lambda row: (bool(inputs[row].text), weights[row]))
    condition = features.condition._replace(text=select_text(features.condition.text, [told]))
    images = job.draw(embeddings, condition)
    names = [[one.name, weight] for one, weight in zip(inputs, weights, strict=True)]
    return job.result(images, embeddings, features.cut, [inputs[told].text], parts=names, num_candidates=candidates)


def _read(parts: Sequence[tuple[TextOrPicture, float]]) -> tuple[list[Input], list[float]]:
    if not parts:
        raise InputError("there is nothing to mix; give at least one text or picture with its weight.")
    if not all(isinstance(part, tuple | list) and len(part) == 2 for part in parts):
        raise InputError('a part is a text or a picture with its weight, such as ("a cat", 0.7).')
    for name, weight in parts:
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
            raise InputError(f"the weight {weight!r} of {name} is not possible; give a number, below 0 to lead away.")
    weights = [float(weight) for _, weight in parts]
    if not any(weights):
        raise InputError("all weights are 0; give one part another.")
    return [read_input(given) for given, _ in parts], weights
