"""Suites of single stages within an evaluation, each computed once. Knows which need what; suites measure."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from unclip.errors import DataError, InputError, did_you_mean
from unclip.evaluation import diversity
from unclip.files import atomic_write
from unclip.pipelines.evaluate.chosen_suites import SUITES, run_suites
from unclip.pipelines.evaluate.chunks import Chunks
from unclip.pipelines.evaluate.drawing import Drawing
from unclip.pipelines.evaluate.networks import Networks
from unclip.pipelines.evaluate.options import EvaluateOptions
from unclip.pipelines.evaluate.pictures import FEWEST, PictureSet, read_picture
from unclip.pipelines.evaluate.sweep import Setting
from unclip.pipelines.model import Model
from unclip.pipelines.options import Progress
from unclip.runtime import seeded

__all__ = ["check_suite_names", "check_suites", "suites_of"]

DIVERSITY = "diversity"
Measures = dict[str, dict[str, float]]


def check_suite_names(names: Sequence[str], *, has_reference: bool) -> None:
    """Raise `InputError` for an unknown suite, and for one that looks at real pictures where there are none."""
    for name in names:
        if name not in (*SUITES, DIVERSITY):
            raise InputError(f"there is no suite {name!r}; {did_you_mean(name, (*SUITES, DIVERSITY))}")
        if name != DIVERSITY and not has_reference:
            raise InputError(f"the suite {name} looks at real pictures; give a reference, or leave it out.")


def check_suites(options: EvaluateOptions, model: Model, given: Networks, other: PictureSet | None) -> None:
    """Raise `InputError` for a suite that lacks something, naming it; `check_suite_names` came before."""
    if "prior" in options.suites and other is not None and not any(text.strip() for text in other.captions):
        raise InputError(f"the suite prior needs captions of real pictures, but {other.name} has none; leave it out.")
    if "upsampler" in options.suites:
        _ = model.need_upsampler  # raises where there is none
    if DIVERSITY in options.suites and (options.images_per_prompt < FEWEST or "clip" not in given.givers):
        raise InputError(
            f"the suite diversity needs images_per_prompt of at least {FEWEST} (found {options.images_per_prompt}) and "
            "a clip:MODEL among the features; give both, or leave it out."
        )


def suites_of(
    drawing: Drawing, point: Setting, other: PictureSet | None, options: EvaluateOptions, progress: Progress
) -> Measures:
    """The measures of the suites asked for; those that a file beside the features has are not computed again."""
    path = drawing.out / "suites" / f"{point.folder}.json"
    measures = _read(path, options.num_suite_pictures)
    missing = [name for name in options.suites if name not in measures and name != DIVERSITY]
    if missing and other is not None:
        captions, pictures = _pairs(other, options, needs_captions="prior" in missing)
        found = run_suites(
            drawing.model,
            captions,
            pictures,
            seed=options.seed,
            suites=missing,
            settings=point.settings,
            batch_size=options.batch_size,
            progress=progress,
        )
        measures |= found.figures
        atomic_write(path, json.dumps({"num_pictures": options.num_suite_pictures, "measures": measures}) + "\n")
    if DIVERSITY in options.suites:
        measures[DIVERSITY] = _diversity(drawing.chunks(point), options.images_per_prompt)
    return {name: measures[name] for name in options.suites}


def _diversity(chunks: Chunks, images_per_prompt: int) -> dict[str, float]:
    values = torch.cat([diversity(rows.unflatten(0, (-1, images_per_prompt))) for rows in chunks.each("clip")])
    return {"diversity": values.double().mean().item(), "least": values.min().item()}


def _read(path: Path, num_pictures: int) -> Measures:
    """What was computed before of as many pictures."""
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); remove it, it is made again.") from None
    return dict(content["measures"]) if content["num_pictures"] == num_pictures else {}


def _pairs(
    other: PictureSet, options: EvaluateOptions, *, needs_captions: bool
) -> tuple[Sequence[str], list[Image.Image]]:
    """Real pictures with their captions, chosen by seed; damaged ones are passed over."""
    order = torch.randperm(len(other), generator=seeded(options.seed)).tolist()
    captions, pictures = list[str](), list[Image.Image]()
    for index in order:
        if len(pictures) == options.num_suite_pictures:
            break
        if needs_captions and not other.captions[index].strip():
            continue
        try:
            pictures.append(read_picture(other, index))
        except DataError:
            continue
        captions.append(other.captions[index])
    return captions, pictures
