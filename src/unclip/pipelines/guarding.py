"""Run a task under the guard of its model: look at what is asked before it draws, and at what it drew."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from unclip.pipelines.inputs import texts_and_pictures
from unclip.pipelines.result import Result, convert
from unclip.safety import blur
from unclip.shapes import Embeddings

R = TypeVar("R")


def run_guarded(
    run: Callable[[Any], R], model: Any, kinds: Mapping[str, str | None], arguments: Mapping[str, Any]
) -> R:
    """Run a task that draws with a `Model`, a module that needs this one; `kinds` are those of the task's own options.

    Raises `SafetyError` for what the policy blocks: before anything is drawn for texts and pictures that were sent, and
    afterwards for pictures. Embeddings are looked at on the way, by `encode` and `Job.decode`.
    """
    if model.guard is None:
        return run(model)
    guard = model.guard.begin()
    texts, pictures = texts_and_pictures(kinds, arguments)
    guard.check_texts(texts)
    guard.check_pictures(pictures)
    if guard.gate is not None and pictures:
        from unclip.pipelines.features import encode_pictures  # needs models, whose options need this module

        seen = to_numpy(model.need_decoder.from_clip(encode_pictures(model, pictures)))
        guard.check_image_embeddings(seen, "a picture that was sent")
    outcome = run(replace(model, guard=guard))
    if not isinstance(outcome, Result):
        return outcome
    drawn, vectors = outcome.pictures(), outcome.image_embeddings
    reports = guard.review(outcome.prompts, None if vectors is None else to_numpy(vectors), drawn)
    images = list(outcome.images)
    for place, report in enumerate(reports):
        if report.is_blurred:
            (images[place],) = convert([blur(drawn[place])], arguments.get("output_type") or "pil")
    return replace(outcome, images=images, safety=reports, marker=guard.marker)


def to_numpy(embeddings: Embeddings) -> np.ndarray:
    """Return embeddings as float32 numbers in memory."""
    return embeddings.detach().float().cpu().numpy()
