"""Evaluate a model: draw pictures of prompts, compare them with real pictures and with the prompts."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from unclip import __version__
from unclip.checkpoint import networks_hash
from unclip.clip import clip_hash
from unclip.errors import InputError
from unclip.evaluate.chunks import check_request, write_request
from unclip.evaluate.drawing import DrawnPictures, draw_share
from unclip.evaluate.features import (
    RowSource,
    clip_of,
    compute_figures,
    kind_of,
    networks_by_kind,
)
from unclip.evaluate.options import EvaluateOptions, choose_metrics, count_different, sweep_settings
from unclip.evaluate.pages import save_evaluation
from unclip.evaluate.pictures import MIN_PICTURES, ComparedPictures, compute_features, open_compared
from unclip.evaluate.prompts import choose_prompts, read_prompts, texts_id
from unclip.evaluate.results import Evaluation, Point
from unclip.evaluate.suites import check_suites, stage_suites
from unclip.machine import describe_machine
from unclip.metrics import FeatureNetwork, Metric
from unclip.pipelines.features import cut_texts
from unclip.pipelines.model import Model
from unclip.pipelines.options import Progress, silent
from unclip.pipelines.settings import image_seeds
from unclip.pipelines.unclip import UnClip


def evaluate_model(
    pipe: UnClip,
    prompts: str | Path | Sequence[str],
    reference: str | Path | None,
    networks: Sequence[FeatureNetwork],
    out: str | Path,
    *,
    options: EvaluateOptions | None = None,
    progress: Progress = silent,
) -> Evaluation | None:
    """Draw pictures of prompts, and compare them with the pictures at `reference` and with the prompts.

    `prompts` are texts, or a file or source of captions as `read_prompts` takes it; `options` choose among them.
    Pictures are drawn at the model's smallest size that is no smaller than `options.size`, rounded to 8 bits as in a
    file, and cut to that size. A sweep is one evaluation after the other, each with a `Point` of the result. Work is in
    chunks of files in `out`: the same call resumes an interrupted one, and processes with an `options.node` divide it,
    always with the same figures. Returns None where chunks of other processes are missing; the process that finds all
    of them writes the result.

    Raises `InputError` and `DataError` in one line, where possible before anything is drawn or written: also for an
    `out` that holds the work of another request.
    """
    options, out, by_kind = options or EvaluateOptions(), Path(out), networks_by_kind(networks)
    settings, metrics, notes = _plan(pipe.model, prompts, reference is not None, networks, out, options)
    first, real = settings[0], None
    if reference is not None:
        real = open_compared(reference, partial(progress, "reading"), with_captions="prior" in options.suites)
    # All that figures depend on but the reference, all of whose pictures have to be read, and the metrics, which may
    # change from call to call.
    request: dict[str, object] = {
        "model": networks_hash(pipe.model.source().networks),
        "prompts": texts_id(first.prompts),
        "size": first.size,
        "seed": options.seed,
        "images_per_prompt": options.images_per_prompt,
        "pictures_per_chunk": options.pictures_per_chunk,
        "num_candidates": pipe.model.num_candidates,
        "features": {network.name: network.fingerprint for network in first.networks},
        "points": {drawn.label: drawn.described() for drawn in settings},
    }
    check_request(out, request)
    if real is not None and "prior" in options.suites and not any(text.strip() for text in real.captions):
        raise InputError(f"the suite prior needs captions of real pictures, but {real.name} has none; leave it out.")
    request["reference"] = None if real is None else real.content_id
    check_request(out, request)

    compared = None if real is None else compute_features(real, first.networks, options, first.size, progress)
    write_request(out, request)
    if not draw_share(settings, options, progress):
        return None
    if real is not None and compared is not None and not compared.is_complete:
        # Processes on machines with a cache of their own each have a share: the last one computes the rest.
        whole = replace(options, node=(0, 1))
        compared = compute_features(real, first.networks, whole, first.size, progress)

    rows = None if compared is None else compared.rows
    evaluation = Evaluation(
        subject=pipe.model.name,
        reference=None if real is None else real.name,
        image_size=first.size,
        num_images=first.num_images,
        num_reference=0 if compared is None else compared.num_rows,
        seed=options.seed,
        features={metric.name: by_kind[kind_of(metric)].name for metric in metrics},
        notes=(*notes, *(() if compared is None else compared.notes)),
        points=tuple(_evaluate(drawn, metrics, real, rows, progress) for drawn in settings),
        machine=describe_machine(pipe.model.device),
        version=__version__,
    )
    save_evaluation(out, evaluation, options.command)
    return evaluation


def _plan(
    model: Model,
    prompts: str | Path | Sequence[str],
    compares: bool,
    networks: Sequence[FeatureNetwork],
    out: Path,
    options: EvaluateOptions,
) -> tuple[list[DrawnPictures], list[Metric], list[str]]:
    """Return the pictures to draw with each setting, the metrics, and notes; check all that needs no real picture."""
    sizes = model.image_sizes
    least = options.size or model.image_size or sizes[-1]
    image_size = next((side for side in sizes if side >= least), sizes[-1])
    settings = sweep_settings(model, image_size, options)
    num_prompts = None if options.num_images is None else options.num_images // options.images_per_prompt
    chosen = choose_prompts(read_prompts(prompts), num_prompts, options.seed)
    num_images = len(chosen.texts) * options.images_per_prompt
    if num_images < MIN_PICTURES:
        raise InputError(f"{num_images} picture is drawn; a figure needs at least {MIN_PICTURES}: give more prompts.")
    image_seeds(options.seed, num_images)
    judge, kinds = clip_of(networks), [kind for network in networks for kind in network.kinds]
    metrics, left_out = choose_metrics(
        options.metrics,
        kinds,
        compares=compares,
        num_images=num_images,
        num_texts=None if judge is None else count_different(chosen.texts),
    )
    check_suites(options, model, has_reference=compares, has_clip="clip" in kinds)
    needed = {*map(kind_of, metrics), *(["clip"] if "diversity" in options.suites else [])}
    used = [network for network in networks if needed.intersection(network.kinds)]
    size, notes, judge = options.size or image_size, list(left_out), clip_of(used)
    num_cut = len(cut_texts(model, chosen.texts))
    if num_cut:
        notes.append(f"{num_cut} prompts are longer than the model reads; their ends had no part in the drawing.")
    if judge and "clip" in model.encoders and clip_hash(judge.encoder) == clip_hash(model.need_clip):
        notes.append(
            f"The judge {judge.name} is the model's own CLIP: figures by it are circular, and flatter the model."
        )
    if image_size != size:
        notes.append(f"Pictures are drawn at {image_size} px and compared at {size} px.")
    draw = partial(
        DrawnPictures,
        model=model,
        prompts=chosen.texts,
        networks=used,
        out=out,
        image_size=image_size,
        size=size,
        options=options,
    )
    return [draw(label=label, settings=stages) for label, stages in settings.items()], metrics, notes


def _evaluate(
    drawn: DrawnPictures,
    metrics: Sequence[Metric],
    real: ComparedPictures | None,
    reference: RowSource | None,
    progress: Progress,
) -> Point:
    """Compute the result of one setting, all of whose chunks exist."""
    options, chunks, places = drawn.options, drawn.chunks, drawn.samples
    return Point(
        label=drawn.label,
        settings=drawn.described(),
        figures=compute_figures(metrics, chunks.each, reference, bootstrap=options.bootstrap, seed=options.seed),
        suites=stage_suites(drawn, real, progress),
        seconds_per_image=chunks.seconds() / drawn.num_images,
        samples=tuple(map(drawn.sample_path, places)),
        prompts=tuple(drawn.prompts[place // options.images_per_prompt] for place in places),
        seeds=tuple(options.seed + place for place in places),
    )
