"""Draw pictures of several texts and pictures at once, each with its weight."""

from collections.abc import Sequence
from typing import Annotated, Unpack

from unclip.diffusion import weighted_mean
from unclip.errors import InputError
from unclip.pipelines.inputs import TextOrPicture, read_input
from unclip.pipelines.job import begin, count_candidates
from unclip.pipelines.model import Model
from unclip.pipelines.options import DrawOptions, NumCandidates, NumImages, Option, task
from unclip.pipelines.result import Result
from unclip.pipelines.settings import check_number
from unclip.pipelines.tasks.embeddings import embed_inputs


@task()
def mix(
    model: Model,
    parts: Annotated[
        Sequence[tuple[TextOrPicture, float]], Option("Texts and pictures, each with its weight.", "weighted parts")
    ],
    num_images: NumImages = 1,
    *,
    num_candidates: NumCandidates = None,
    **options: Unpack[DrawOptions],
) -> Result:
    """Draw `num_images` pictures of texts and pictures at once: `[("a cat", 0.7), ("dog.png", 0.3)]`.

    The image embeddings of the parts are averaged as directions; weights may have any sum, and one below 0 leads
    away from its part. What is a picture is as for `interpolate`. Seeds and noise are as for `text_to_image`, each
    text's embedding being sampled from the noise that it would have alone: one part by itself gives what
    `text_to_image` or `image_variations` gives. A decoder that reads text gets that of the heaviest text.

    Raises `InputError` as `interpolate` does, for weights that are not finite or all 0, and where parts cancel.
    """
    if not parts:
        raise InputError("there is nothing to mix; give at least one text or picture with its weight.")
    if not all(isinstance(part, tuple | list) and len(part) == 2 for part in parts):
        raise InputError('a part is a text or a picture with its weight, such as ("a cat", 0.7).')
    for name, weight in parts:
        check_number(f"the weight of {name}", weight, meaning="below 0 leads away")
    if not any(weight for _, weight in parts):
        raise InputError("all weights are 0; give one part another.")
    inputs, weights = [read_input(part) for part, _ in parts], [float(weight) for _, weight in parts]
    job = begin(model, options, num_images=num_images, uses_prior=any(one.text for one in inputs))
    candidates = count_candidates(model, num_candidates)

    of_inputs, features = embed_inputs(job, inputs, candidates)
    embeddings = [weighted_mean(vectors, weights) for vectors in of_inputs]
    heaviest = max(range(len(inputs)), key=lambda row: (bool(inputs[row].text), weights[row]))
    condition = features.condition.select([heaviest])
    images = job.draw(embeddings, condition)
    names = [[one.name, weight] for one, weight in zip(inputs, weights, strict=True)]
    prompts = [inputs[heaviest].text]
    return job.result(images, embeddings, features.cut, prompts, parts=names, num_candidates=candidates)
