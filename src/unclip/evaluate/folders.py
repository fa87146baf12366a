"""Evaluating a folder of pictures against another. Knows sets of pictures, networks and metrics; draws nothing."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from unclip import __version__
from unclip.errors import InputError
from unclip.evaluate.features import Networks
from unclip.evaluate.figures import figures_of
from unclip.evaluate.options import (
    NO_TEXTS,
    EvaluateOptions,
    check_metrics,
    check_request,
    choose_metrics,
    write_request,
)
from unclip.evaluate.pages import save_evaluation
from unclip.evaluate.pictures import compute_features
from unclip.evaluate.prompts import PictureSet, open_set, read_prompts, texts_id
from unclip.evaluate.results import Evaluation, Point
from unclip.machine import describe_machine
from unclip.metrics import METRICS, FeatureNetwork
from unclip.pipelines.options import Progress, silent

# The size of published figures on COCO.
SIZE = 256
SHOWN = 3


def evaluate_folders(
    images: str | Path,
    reference: str | Path | None,
    networks: Sequence[FeatureNetwork],
    out: str | Path | None = None,
    *,
    options: EvaluateOptions | None = None,
    captions: str | Path | Sequence[str] | None = None,
    progress: Progress = silent,
) -> Evaluation | None:
    """Compare the pictures at `images` with those at `reference`, and with their captions.

    Both are anything that `unclip.data.open_source` reads; pictures are cut to the middle square of `options.size`,
    antialiased. `captions`, as many as pictures and in their order, are for CLIP scores; without them those of
    `images` serve, where every picture has one. Metrics that are left out stand in the notes, with the reason. Features
    are kept by content in the cache, so that no picture goes through a network twice. The result is also written to
    `out`, where one is given. None is returned where features of other processes (`options.node`) are not there yet.

    Raises `InputError` and `DataError` in one line for sets that are empty, of fewer than two pictures or damaged, for
    captions of another number, and for metrics that cannot be.
    """
    options, folder = options or EvaluateOptions(), None if out is None else Path(out)
    options.refuse_drawing()
    size = options.size or SIZE
    given = Networks.of(networks)
    check_metrics(options.metrics, given.givers, compares=reference is not None, has_texts=given.clip is not None)
    needs_texts = given.clip is not None and any(
        metric.feature == "clip_pair" for metric in METRICS.values() if metric.name in (options.metrics or METRICS)
    )
    drawn = open_set(images, with_captions=needs_texts and captions is None, progress=_reading(progress))
    other = None if reference is None else open_set(reference, progress=_reading(progress))
    if folder is not None:
        # What can be known before every picture is read: that takes minutes where they are many.
        check_request(folder, {"size": size})
    texts, no_texts = _texts(drawn, captions) if needs_texts else (None, NO_TEXTS)
    metrics, notes = choose_metrics(
        options.metrics,
        given.givers,
        compares=other is not None,
        texts=texts,
        num_images=len(drawn),
        no_texts=no_texts,
    )
    used = given.only(metrics)
    request = _request(drawn, other, texts, size, used)
    if folder is not None:
        check_request(folder, request)
    sets = [compute_features(one, used, options, size, progress) for one in (drawn, other) if one is not None]
    if not all(one.is_complete for one in sets):
        return None
    first, second = sets[0].joined(), sets[1].joined() if other else None
    if used.clip is not None and texts is not None:
        first = first._replace(texts=used.text_rows(sets[0].kept(texts), options.feature_batch))
    figures = figures_of(metrics, first, second, bootstrap=options.bootstrap, seed=options.seed)
    evaluation = Evaluation(
        subject=drawn.name,
        reference=None if other is None else other.name,
        image_size=size,
        num_images=sets[0].num_rows,
        num_reference=sets[1].num_rows if other else 0,
        seed=options.seed,
        features={metric.name: given.giver(metric) for metric in metrics},
        notes=(*notes, *(note for one in sets for note in one.notes)),
        points=(Point(label="", settings={}, figures=figures),),
        machine=describe_machine(used.networks[0].device),
        version=__version__,
    )
    if folder is not None:
        write_request(folder, request)
        save_evaluation(folder, evaluation, options.command)
    return evaluation


def _reading(progress: Progress) -> partial[None]:
    return partial(progress, "reading")


def _texts(drawn: PictureSet, captions: str | Path | Sequence[str] | None) -> tuple[Sequence[str] | None, str]:
    """A caption for each picture; else None, and what is missing. Raises `InputError` for another number."""
    if captions is None:
        missing = drawn.uncaptioned
        if not missing:
            return drawn.captions, ""
        shown = ", ".join(missing[:SHOWN]) + (", ..." if len(missing) > SHOWN else "")
        return None, (
            f"a caption for each picture, but {len(missing)} of the {len(drawn)} pictures of {drawn.name} have none "
            f"({shown})"
        )
    prompts = read_prompts(captions)
    if len(prompts.texts) != len(drawn):
        raise InputError(
            f"{prompts.name} has {len(prompts.texts)} captions, but {drawn.name} holds {len(drawn)} pictures; give one "
            "caption for each picture, in their order."
        )
    return prompts.texts, ""


def _request(
    drawn: PictureSet, other: PictureSet | None, texts: Sequence[str] | None, size: int, used: Networks
) -> dict[str, Any]:
    return {
        "images": drawn.content_id,
        "reference": None if other is None else other.content_id,
        "captions": None if texts is None else texts_id(texts),
        "size": size,
        "features": used.fingerprints,
    }
