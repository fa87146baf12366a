"""Evaluating what a model draws of prompts. Knows a model, networks and metrics; no surface."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from unclip import __version__
from unclip.clip import clip_hash
from unclip.errors import InputError
from unclip.evaluate.drawing import NUM_SAMPLES, Drawing, sample_paths
from unclip.evaluate.features import Networks, share
from unclip.evaluate.figures import FeatureSet, figures_of
from unclip.evaluate.options import (
    EvaluateOptions,
    Setting,
    check_request,
    choose_metrics,
    model_hash,
    plan_points,
    write_request,
)
from unclip.evaluate.pages import save_evaluation
from unclip.evaluate.pictures import SetFeatures, compute_features
from unclip.evaluate.prompts import FEWEST, PictureSet, Prompts, choose_prompts, open_set, read_prompts
from unclip.evaluate.results import Evaluation, Point
from unclip.evaluate.suites import check_suite_names, check_suites, suites_of
from unclip.machine import describe_machine
from unclip.metrics import FeatureNetwork, Metric
from unclip.pipelines.features import cut_texts
from unclip.pipelines.model import Model
from unclip.pipelines.options import DrawOptions, Progress, silent
from unclip.pipelines.settings import image_seeds
from unclip.pipelines.unclip import UnClip


@dataclass(frozen=True, kw_only=True, eq=False)
class Work:
    """An evaluation that was planned and checked: what is drawn and what it is compared with."""

    drawing: Drawing
    points: Sequence[Setting]
    prompts: Prompts
    other: PictureSet | None
    metrics: Sequence[Metric]
    notes: tuple[str, ...]
    options: EvaluateOptions
    progress: Progress

    @property
    def request(self) -> dict[str, Any]:
        """All that the figures depend on but the choice of metrics, which may change from call to call."""
        return {**self.known, "reference": None if self.other is None else self.other.content_id}

    @cached_property
    def known(self) -> dict[str, Any]:
        """The request but for the reference, all of whose pictures have to be read."""
        return {
            "model": model_hash(self.drawing.model),
            "prompts": self.prompts.content_id,
            "size": self.drawing.size,
            "seed": self.options.seed,
            "images_per_prompt": self.options.images_per_prompt,
            "pictures_per_chunk": self.options.pictures_per_chunk,
            "num_candidates": self.drawing.model.num_candidates,
            "features": self.drawing.networks.fingerprints,
            "points": {point.label: point.described() for point in self.points},
        }

    def reference_features(self) -> SetFeatures | None:
        """Features of the reference, this process's share of them computed now."""
        if self.other is None:
            return None
        return compute_features(self.other, self.drawing.networks, self.options, self.drawing.size, self.progress)

    def draw(self) -> bool:
        """Draw this process's share of the chunks; whether all are there then."""
        stores = {point.folder: self.drawing.chunks(point) for point in self.points}
        missing = {(folder, number) for folder, chunks in stores.items() for number in chunks.missing()}
        every = [(point, number) for point in self.points for number in range(len(stores[point.folder]))]
        places = share(list(range(len(every))), self.options.node)
        mine = [every[place] for place in places if (every[place][0].folder, every[place][1]) in missing]
        for done, (point, number) in enumerate(mine, start=1):
            self.drawing.compute(point, number)
            self.progress("chunks of pictures", done, len(mine))
        return not any(chunks.missing() for chunks in stores.values())


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
    """Draw pictures of prompts, and compare them with those at `reference` and with the prompts.

    `prompts` are texts, or a file or source of captions as `read_prompts` takes it; `options` choose among them.
    Pictures are drawn at the model's smallest size that is no smaller than `options.size`, rounded to 8 bits as in a
    file, and cut to that size. Work is in chunks of files in `out`: the same call goes on where another one stopped,
    and processes that are told their `options.node` divide it, always to the same figures. None is returned where
    chunks of other processes are not there yet; whoever finds all of them writes the result.

    Raises `InputError` and `DataError` in one line, before anything is drawn or written where that can be known: also
    for an `out` that holds what another request made.
    """
    options = options or EvaluateOptions()
    work = _plan(pipe.model, prompts, reference, networks, Path(out), options, progress)
    check_request(work.drawing.out, work.known)
    request = work.request
    check_request(work.drawing.out, request)
    compared = work.reference_features()
    write_request(work.drawing.out, request)
    if not work.draw():
        return None
    if compared is not None and not compared.is_complete:
        # Processes on machines with a cache of their own each have a share: whoever finishes computes the rest.
        compared = compute_features(
            compared.pictures, work.drawing.networks, _whole(options), work.drawing.size, progress
        )
    evaluation = _evaluation(work, compared)
    save_evaluation(work.drawing.out, evaluation, options.command)
    return evaluation


def _plan(
    model: Model,
    prompts: str | Path | Sequence[str],
    reference: str | Path | None,
    networks: Sequence[FeatureNetwork],
    out: Path,
    options: EvaluateOptions,
    progress: Progress,
) -> Work:
    """Everything that can be checked before pictures are drawn."""
    draw: DrawOptions = {
        "num_steps": options.num_steps,
        "guidance_scale": options.guidance_scale,
        "sampler": options.sampler,
    }
    points = plan_points(model, options.size, draw, options.sweep)
    size = options.size or points[0].image_size
    chosen = choose_prompts(read_prompts(prompts), options.num_prompts, options.seed)
    num_images = len(chosen.texts) * options.images_per_prompt
    if num_images < FEWEST:
        raise InputError(f"{num_images} picture is drawn; a figure needs at least {FEWEST}: give more prompts.")
    image_seeds(options.seed, num_images)
    given = Networks.of(networks)
    metrics, notes = choose_metrics(
        options.metrics,
        given.givers,
        compares=reference is not None,
        texts=None if given.clip is None else chosen.texts,
        num_images=num_images,
    )
    check_suite_names(options.suites, has_reference=reference is not None)
    other = None
    if reference is not None:
        other = open_set(reference, with_captions="prior" in options.suites, progress=partial(progress, "reading"))
    check_suites(options, model, given, other)
    used = given.only(metrics, ["clip"] if "diversity" in options.suites else [])
    drawing = Drawing(
        model=model,
        prompts=chosen.texts,
        networks=used,
        out=out,
        size=size,
        seed=options.seed,
        images_per_prompt=options.images_per_prompt,
        batch_size=options.batch_size,
        feature_batch=options.feature_batch,
        prompts_per_chunk=max(options.pictures_per_chunk // options.images_per_prompt, 1),
        num_kept=num_images if options.keep_pictures else NUM_SAMPLES,
    )
    return Work(
        drawing=drawing,
        points=points,
        prompts=chosen,
        other=other,
        metrics=metrics,
        notes=(*notes, *_notes(model, chosen, used, (size, points[0].image_size))),
        options=options,
        progress=progress,
    )


def _notes(model: Model, prompts: Prompts, networks: Networks, sizes: tuple[int, int]) -> list[str]:
    """What a reader of the figures must know; `sizes` are those that are compared and drawn."""
    notes, (size, drawn_size) = [], sizes
    cut = cut_texts(model, prompts.texts)
    if cut:
        notes.append(f"{len(cut)} prompts are longer than the model reads; their ends had no part in the drawing.")
    judge = networks.clip
    has_clip = "clip" in model.encoders
    if judge is not None and has_clip and clip_hash(judge.encoder) == clip_hash(model.need_clip):
        notes.append(
            f"The judge {judge.name} is the model's own CLIP: figures by it are circular, and flatter the model."
        )
    if drawn_size != size:
        notes.append(f"Pictures are drawn at {drawn_size} px and compared at {size} px.")
    return notes


def _whole(options: EvaluateOptions) -> EvaluateOptions:
    return replace(options, node=(0, 1))


def _evaluation(work: Work, compared: SetFeatures | None) -> Evaluation:
    """The result, once all chunks are there."""
    reference = None if compared is None else compared.joined()
    drawing, networks = work.drawing, work.drawing.networks
    return Evaluation(
        subject=drawing.model.name,
        reference=None if compared is None else compared.pictures.name,
        image_size=drawing.size,
        num_images=len(drawing.prompts) * drawing.images_per_prompt,
        num_reference=0 if compared is None else compared.num_rows,
        seed=drawing.seed,
        features={metric.name: networks.giver(metric) for metric in work.metrics},
        notes=(*work.notes, *(() if compared is None else compared.notes)),
        points=tuple(_point(work, point, reference) for point in work.points),
        machine=describe_machine(drawing.model.device),
        version=__version__,
    )


def _point(work: Work, point: Setting, reference: FeatureSet | None) -> Point:
    drawing, options = work.drawing, work.options
    chunks, count = drawing.chunks(point), drawing.images_per_prompt
    drawn = FeatureSet(dict.fromkeys(chunks.kinds(), chunks))
    num_images = len(drawing.prompts) * count
    samples = sample_paths(point, num_images)
    return Point(
        label=point.label,
        settings=point.described(),
        figures=figures_of(work.metrics, drawn, reference, bootstrap=options.bootstrap, seed=options.seed),
        suites=suites_of(drawing, point, work.other, options, work.progress),
        seconds_per_image=chunks.seconds() / num_images,
        samples=samples,
        prompts=tuple(drawing.prompts[place // count] for place in range(len(samples))),
        seeds=tuple(drawing.seed + place for place in range(len(samples))),
    )
