"""Evaluate a folder of pictures: compare it with another folder, and with captions."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from unclip import __version__
from unclip.errors import InputError
from unclip.evaluate.chunks import check_request, write_request
from unclip.evaluate.features import (
    clip_of,
    compute_figures,
    kind_of,
    networks_by_kind,
    text_rows,
)
from unclip.evaluate.options import NO_TEXTS, EvaluateOptions, choose_metrics, count_different
from unclip.evaluate.pages import save_evaluation
from unclip.evaluate.pictures import ComparedPictures, compute_features, open_compared
from unclip.evaluate.prompts import read_prompts, texts_id
from unclip.evaluate.results import Evaluation, Point
from unclip.machine import describe_machine
from unclip.metrics import METRICS, FeatureNetwork
from unclip.pipelines.options import Progress, silent

# The size of published figures on COCO.
SIZE = 256
NUM_SHOWN = 3


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
    """Compare the pictures at `images` with the pictures at `reference`, and with their captions.

    Both are anything that `unclip.data.open_source` reads; pictures are cut to the middle square of `options.size`,
    antialiased. `captions`, as many as pictures and in their order, are for CLIP scores; without them the captions of
    `images` are used, if every picture has one. Metrics that are left out are named in the notes, with the reason.
    Features are kept by content in the cache, so that no picture goes through a network twice. The result is also
    written to `out`, if given. Returns None where features of other processes (`options.node`) are missing.

    Raises `InputError` and `DataError` in one line for sets that are empty, of fewer than two pictures or damaged, for
    captions of another number, and for metrics that cannot be computed.
    """
    options, folder = options or EvaluateOptions(), None if out is None else Path(out)
    options.refuse_sampling()
    size, by_kind = options.size or SIZE, networks_by_kind(networks)
    clip = clip_of(networks)
    choose = partial(choose_metrics, options.metrics, by_kind, compares=reference is not None)
    # Refused before any picture is opened: metrics that no set of pictures would do for.
    choose(num_images=sys.maxsize, num_texts=None if clip is None else sys.maxsize)
    needs_texts = clip is not None and any(
        metric.feature == "clip_pair" for metric in METRICS.values() if metric.name in (options.metrics or METRICS)
    )
    reading = partial(progress, "reading")
    drawn = open_compared(images, reading, with_captions=needs_texts and captions is None)
    real = None if reference is None else open_compared(reference, reading)
    if folder is not None:  # known before every picture is read, which takes minutes for large sets
        check_request(folder, {"size": size})
    texts, no_texts = _texts(drawn, captions) if needs_texts else (None, NO_TEXTS)
    num_texts = None if texts is None else count_different(texts)
    metrics, notes = choose(num_images=len(drawn), num_texts=num_texts, no_texts=no_texts)
    kinds = set(map(kind_of, metrics))
    used = [network for network in networks if kinds.intersection(network.kinds)]
    request = {
        "images": drawn.content_id,
        "reference": None if real is None else real.content_id,
        "captions": None if texts is None else texts_id(texts),
        "size": size,
        "features": {network.name: network.fingerprint for network in used},
    }
    if folder is not None:
        check_request(folder, request)

    first = compute_features(drawn, used, options, size, progress)
    second = None if real is None else compute_features(real, used, options, size, progress)
    if not first.is_complete or (second is not None and not second.is_complete):
        return None
    text_features = []
    if clip is not None and texts is not None and clip in used:
        text_features = [text_rows(clip, first.of_readable(texts), options.feature_batch)]
    figures = compute_figures(
        metrics,
        lambda kind: text_features if kind == "clip_text" else first.rows(kind),
        None if second is None else second.rows,
        bootstrap=options.bootstrap,
        seed=options.seed,
    )
    evaluation = Evaluation(
        subject=drawn.name,
        reference=None if real is None else real.name,
        image_size=size,
        num_images=first.num_rows,
        num_reference=0 if second is None else second.num_rows,
        seed=options.seed,
        features={metric.name: by_kind[kind_of(metric)].name for metric in metrics},
        notes=(*notes, *first.notes, *(() if second is None else second.notes)),
        points=(Point(label="", settings={}, figures=figures),),
        machine=describe_machine(used[0].device),
        version=__version__,
    )
    if folder is not None:
        write_request(folder, request)
        save_evaluation(folder, evaluation, options.command)
    return evaluation


def _texts(drawn: ComparedPictures, captions: str | Path | Sequence[str] | None) -> tuple[Sequence[str] | None, str]:
    """Return a caption for each picture, or None with what is missing; raises `InputError` for another number."""
    if captions is None:
        missing = drawn.uncaptioned
        if not missing:
            return drawn.captions, ""
        shown = ", ".join(missing[:NUM_SHOWN]) + (", ..." if len(missing) > NUM_SHOWN else "")
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
