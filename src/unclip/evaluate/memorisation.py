"""Measure how near the pictures that a model draws lie to those that it was trained on, by kind of prompt."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float64, Int64
from PIL import Image
from torch import Tensor, nn

from unclip import __version__
from unclip.checkpoint import networks_hash
from unclip.config import Config
from unclip.errors import InputError
from unclip.evaluate.chunks import check_request, write_request
from unclip.evaluate.drawing import DrawnPictures, draw_share
from unclip.evaluate.features import networks_by_kind
from unclip.evaluate.options import EvaluateOptions, sweep_settings
from unclip.evaluate.pictures import ComparedFeatures, compute_features, open_compared
from unclip.evaluate.prompts import choose_prompts, read_prompts, texts_id
from unclip.files import atomic_write
from unclip.images import crop_square, grid, save_png
from unclip.machine import Machine, describe_machine
from unclip.metrics import FeatureNetwork, ModuleFeatures
from unclip.metrics.features import BLOCK, Rows, squared_distances
from unclip.pictures import open_picture
from unclip.pipelines.options import Progress, silent
from unclip.pipelines.unclip import UnClip
from unclip.report import Cell, Report

HELD_OUT = "held-out"
"""The kind of real pictures that were not trained on."""
PIXELS, PIXELS_SIDE = "pixels", 32
NUM_PAIRS, PAIRS_IN_ROW, CELL = 16, 4, 96
NUM_SPREAD = 4000
"""Training pictures, spread evenly, whose nearest other one, and all pairs of which, are measured."""
DIGITS = 6
"""Of distances: equal pictures are 0 apart, not the dust of float64."""
READINGS = {
    "nearest_p1": "the 1st percentile of the distances of training pictures to their nearest other one",
    "nearest_p50": "the median of these distances: as near as half of the training pictures are to another",
    "nearest_p99": "the 99th percentile of these distances",
    "pairs_p99": "the 99th percentile of the distances of all pairs of training pictures",
}
"""Thresholds, of which the share of pictures that are nearer to a training picture is reported."""


class Closeness(Config):
    """Distances to the nearest training picture, of the pictures of one kind."""

    kind: str
    num_images: int
    closer: Mapping[str, float]
    """Share of pictures that are strictly nearer than each threshold."""
    least: float
    median: float


class Pair(Config):
    """A drawn picture and the nearest training picture."""

    kind: str
    prompt: str
    seed: int
    training_picture: str
    distance: float


class Measure(Config):
    """Closeness by one distance."""

    name: str
    """The feature network of 1 - cosine, or "pixels", of their root mean square."""
    thresholds: Mapping[str, float]
    kinds: tuple[Closeness, ...]
    pairs: tuple[Pair, ...]
    """The nearest of all kinds, the nearest first."""
    sheet: Path
    """Their pictures, relative to the folder: each drawn one to the left of its training picture."""


class Memorisation(Config):
    """Report of `evaluate_memorisation`."""

    subject: str
    train: str
    num_train: int
    image_size: int
    seed: int
    readings: Mapping[str, str] = READINGS
    """What each threshold is."""
    measures: tuple[Measure, ...]
    notes: tuple[str, ...] = ()
    machine: Machine
    version: str


def evaluate_memorisation(
    pipe: UnClip,
    train: str | Path,
    prompts: Mapping[str, str | Path | Sequence[str]],
    networks: Sequence[FeatureNetwork],
    out: str | Path,
    *,
    held_out: str | Path | None = None,
    options: EvaluateOptions | None = None,
    progress: Progress = silent,
) -> Memorisation:
    """Draw pictures of each kind of prompts, and find the nearest of the pictures at `train` for each.

    Distances are 1 - cosine of each network's features, and the root mean square of pixels in [0, 1] at 32 px. Real
    pictures at `held_out` are one more kind: a model memorises if what it draws is nearer than they are. `prompts` are
    by kind, as `read_prompts` takes them, `options.num_images` of each, or all where there are fewer. The folder gets
    every picture, memorisation.json, .html and .md, and a sheet of the nearest pairs by each distance; the same call
    goes on where it was interrupted, and features of `train` are kept in the cache. Raises `InputError` and `DataError`
    in one line, also for an `out` that holds another evaluation.
    """
    options = replace(options or EvaluateOptions(), keep_pictures=True, pictures_per_chunk=16)
    model, out, networks = pipe.model, Path(out), [*networks, ModuleFeatures(nn.Flatten(), PIXELS, PIXELS, PIXELS_SIDE)]
    networks_by_kind(networks)
    least = options.size or model.image_size or model.image_sizes[-1]
    image_size = next((side for side in model.image_sizes if side >= least), model.image_sizes[-1])
    settings, notes, drawn = sweep_settings(model, image_size, options)[""], list[str](), list[DrawnPictures]()
    if not prompts:
        raise InputError("no prompts were given; name at least one kind, such as train=captions.txt.")
    for kind, location in prompts.items():
        if not kind.replace("-", "").replace("_", "").isalnum() or kind == HELD_OUT:
            raise InputError(f"{kind!r} names no kind of prompts; use letters, digits, - and _, and not {HELD_OUT!r}.")
        available = read_prompts(location)
        count = min(options.num_images or len(available.texts), len(available.texts))
        if options.num_images is not None and count < options.num_images:
            notes.append(f"{kind} has {count} prompts, fewer than {options.num_images}.")
        texts = choose_prompts(available, count, options.seed).texts
        drawn.append(
            DrawnPictures(
                model=model, prompts=texts, networks=networks, out=out, label=kind, settings=settings,
                image_size=image_size, size=least, options=options,
            )
        )  # fmt: skip
    real = open_compared(train, partial(progress, "reading"))
    others = None if held_out is None else open_compared(held_out, partial(progress, "reading"))
    request: dict[str, object] = {
        "model": networks_hash(model.source().networks),
        "prompts": {one.label: texts_id(one.prompts) for one in drawn},
        "size": least,
        "seed": options.seed,
        "images_per_prompt": options.images_per_prompt,
        "features": {network.name: network.fingerprint for network in networks},
        "settings": drawn[0].described(),
    }
    check_request(out, request)  # before every training picture is read
    request["train"] = real.content_id
    check_request(out, request)
    known = compute_features(real, networks, options, least, progress)
    unseen = None if others is None else compute_features(others, networks, options, least, progress)
    write_request(out, request)
    draw_share(drawn, options, progress)
    measure = partial(_measure, drawn=drawn, known=known, held_out=unseen, out=out)
    report = Memorisation(
        subject=model.name,
        train=real.name,
        num_train=known.num_rows,
        image_size=least,
        seed=options.seed,
        measures=tuple(measure(network, kind) for network in networks for kind in network.kinds),
        notes=(*notes, *known.notes, *(() if unseen is None else unseen.notes)),
        machine=describe_machine(model.device),
        version=__version__,
    )
    _save(report, out)
    return report


def _measure(
    network: FeatureNetwork,
    kind: str,
    drawn: Sequence[DrawnPictures],
    known: ComparedFeatures,
    held_out: ComparedFeatures | None,
    out: Path,
) -> Measure:
    """Compute all figures of one kind of features, and write the sheet of the nearest pairs."""
    targets = torch.cat(list(known.rows(kind)))
    spread = torch.arange(0, len(targets), -(-len(targets) // NUM_SPREAD))
    to_others, _ = nearest(targets[spread], targets, kind, own=spread)
    first, second = torch.triu_indices(len(spread), len(spread), 1)
    of_pairs = _distances(targets[spread], targets[spread], kind)[first, second]
    thresholds = {f"nearest_p{percent}": float(np.percentile(to_others, percent)) for percent in (1, 50, 99)}
    thresholds["pairs_p99"] = float(np.percentile(of_pairs, 99))
    kinds, pairs, images = list[Closeness](), list[Pair](), list[Image.Image]()
    sets = {one.label: list(one.chunks.each(kind)) for one in drawn}
    sets |= {} if held_out is None else {HELD_OUT: list(held_out.rows(kind))}
    found = {name: nearest(torch.cat(rows), targets, kind) for name, rows in sets.items()}
    for name, (distances, _) in found.items():
        closer = {reading: float((distances < limit).double().mean()) for reading, limit in thresholds.items()}
        least, median = float(distances.min()), float(np.median(distances))
        kinds.append(Closeness(kind=name, num_images=len(distances), closer=closer, least=least, median=median))
    ranked = sorted(
        (float(distance), number, place)
        for number, one in enumerate(drawn)
        for place, distance in enumerate(found[one.label][0])
    )
    sources = known.of_readable(known.pictures.source.names)
    for distance, number, place in ranked[:NUM_PAIRS]:
        one, name = drawn[number], sources[int(found[drawn[number].label][1][place])]
        training_picture = known.pictures.read(known.pictures.source.names.index(name))
        both = [open_picture(out / one.sample_path(place)), crop_square(training_picture, one.size)]
        images.append(grid([picture.resize((CELL, CELL), Image.Resampling.BICUBIC) for picture in both], 2))
        prompt, seed = one.prompts[place // one.options.images_per_prompt], one.options.seed + place
        pairs.append(Pair(kind=one.label, prompt=prompt, seed=seed, training_picture=name, distance=distance))
    sheet = Path(f"nearest-{kind}.png")
    save_png(grid(images, PAIRS_IN_ROW, gap=12), out / sheet)
    return Measure(name=network.name, thresholds=thresholds, kinds=tuple(kinds), pairs=tuple(pairs), sheet=sheet)


def nearest(
    rows: Rows, targets: Rows, kind: str, *, own: Int64[Tensor, " rows"] | None = None
) -> tuple[Float64[Tensor, " rows"], Int64[Tensor, " rows"]]:
    """Return the distance of each row to the nearest target, and its place; `own` is the place of one to leave out."""
    values, places = list[Tensor](), list[Tensor]()
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        distances = torch.cat([_distances(block, others, kind) for others in targets.split(BLOCK)], dim=1)
        if own is not None:
            distances[torch.arange(len(block)), own[start : start + BLOCK]] = torch.inf
        least, place = distances.min(dim=1)
        values.append(least)
        places.append(place)
    return torch.cat(values), torch.cat(places)


def _distances(rows: Rows, targets: Rows, kind: str) -> Float64[Tensor, "rows targets"]:
    """Compute 1 - cosine, or of pixels in [-1, 1] the root mean square on the scale of [0, 1]."""
    if kind == PIXELS:
        distances = (squared_distances(rows.double(), targets.double()) / rows.shape[1]).sqrt() / 2
    else:
        distances = 1 - F.normalize(rows.double(), dim=1) @ F.normalize(targets.double(), dim=1).T
    return distances.clamp(min=0).round(decimals=DIGITS)


def _save(report: Memorisation, out: Path) -> None:
    """Write the report as JSON and as pages."""
    page = Report(f"Memorisation of {report.subject}")
    page.text(
        f"Each picture, of {report.image_size} px, is compared with the {report.num_train:,} of {report.train}. Shares "
        f"are of those nearer to one than a threshold: {'; '.join(map(': '.join, READINGS.items()))}."
    )
    for measure in report.measures:
        page.heading(f"{measure.name}: {'root mean square at 32 px' if measure.name == PIXELS else '1 - cosine'}")
        page.table(*table(measure))
        page.pictures([open_picture(out / measure.sheet)], ["The nearest pairs: drawn, and from the training set."])
        columns = ("distance", "kind", "prompt", "seed", "training picture")
        page.table(columns, [(p.distance, p.kind, p.prompt, p.seed, p.training_picture) for p in measure.pairs])
    for note in [*report.notes, f"unclip {report.version}; {report.machine}"]:
        page.text(note)
    atomic_write(out / "memorisation.json", report.model_dump_json(indent=1) + "\n")
    page.save(out, "memorisation")


def table(measure: Measure) -> tuple[list[str], list[list[Cell]]]:
    """Return the columns and rows of a measure: a row of thresholds, and of each kind its shares in percent."""
    rows: list[list[Cell]] = [["threshold", "", *measure.thresholds.values(), "", ""]]
    for one in measure.kinds:
        shares = [f"{100 * share:.1f} %" for share in one.closer.values()]
        rows.append([one.kind, one.num_images, *shares, one.least, one.median])
    return ["kind", "pictures", *(f"< {name}" for name in measure.thresholds), "least", "median"], rows
