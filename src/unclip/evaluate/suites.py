"""Measures of single stages: the prior, the decoder's round trip, the upsamplers, and the diversity of pictures."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from unclip.clip import TextImageEncoder
from unclip.errors import DataError, InputError, did_you_mean
from unclip.evaluate.drawing import DrawnPictures
from unclip.evaluate.options import EvaluateOptions
from unclip.evaluate.pictures import ComparedPictures
from unclip.files import atomic_write
from unclip.images import cover_all, crop_square, resize, to_pil
from unclip.metrics import COSINE_FIGURES, cosine_figures, diversity, psnr, recall_at_1
from unclip.model.family import select_text
from unclip.model.settings import StageSettings
from unclip.pictures import Picture, on_white, open_pictures
from unclip.pipelines.features import chunk_size, encode, encode_pictures, encode_prompts
from unclip.pipelines.job import PictureBatch, count_candidates, each_result
from unclip.pipelines.model import Model
from unclip.pipelines.options import Progress, silent
from unclip.pipelines.settings import check_count, image_seeds
from unclip.runtime import NoiseSource, seeded
from unclip.shapes import Images

Measures = dict[str, dict[str, float]]
"""Measures by name, by suite."""

SUITES = ("prior", "round_trip", "upsampler")
"""The suites that measure a model on real pictures."""
DIVERSITY = "diversity"
DESCRIPTIONS = {
    "prior": "The prior: cosines in the model's own CLIP, which the prior was trained to please.",
    "round_trip": "The decoder's round trip: z is CLIP's embedding of a real picture, compared with that of decode(z).",
    "upsampler": "The upsamplers: PSNR in dB of their pictures, shrunk again, against their input.",
    "diversity": "Diversity: how far pictures of one prompt are apart, as the mean over pairs of 1 - cosine.",
}
MEANINGS: Mapping[str, Mapping[str, str]] = {
    "prior": COSINE_FIGURES,
    "round_trip": {
        "cosine_mean": "z and its decoded picture, mean",
        "cosine_median": "z and its decoded picture, median",
        "recall_at_1": "share of decoded pictures whose nearest z is their own",
        "floor_mean": "the z of another picture and the decoded picture, mean: a decoder that ignores z",
        "floor_median": "the z of another picture and the decoded picture, median",
        "shrunk_mean": "z and the real picture at the decoder's size: the cost of the size alone",
    },
    "diversity": {
        "diversity": "mean over prompts",
        "least": "of the prompt whose pictures are most alike",
    },
}
MIN_PICTURES = 2
BEST_DB = 100.0
"""PSNR of a picture that comes back exactly, far above what 8-bit colours show: one flat picture would make every mean
infinite."""


@torch.inference_mode()
def prior_suite(
    model: Model,
    captions: Sequence[str],
    pictures: Sequence[Picture],
    *,
    seed: int,
    settings: StageSettings | None = None,
    num_candidates: int | None = None,
    batch_size: int | None = None,
    progress: Progress = silent,
) -> dict[str, float]:
    """Compute `cosine_figures` of one embedding that the prior samples per caption, the caption and its picture.

    Settings and number of candidates are the model's own unless given. All cosines are in the model's own CLIP, which
    its prior was trained to please. Raises `InputError` for a model without CLIP or prior, for fewer than 2 pairs, and
    for captions and pictures of different numbers.
    """
    prior, images = model.need_prior, _open(pictures)
    if len(captions) != len(images):
        raise InputError(f"{len(captions)} captions and {len(images)} pictures; give one caption for each picture.")
    candidates = count_candidates(model, num_candidates)
    batches = _batches(model, len(images), seed, batch_size)
    (text, null), image_embeddings = encode_prompts(model, captions), encode_pictures(model, images)
    texts = [select_text(text, batch.rows) for batch in batches]
    with model.resident(prior):
        steps = (
            prior.steps(batch_text, null, batch.noise, settings or prior.defaults, candidates)
            for batch_text, batch in zip(texts, batches, strict=True)
        )
        samples = each_result("prior", steps, len(batches), progress)
        predicted = [prior.finish(x0, batch_text) for x0, batch_text in zip(samples, texts, strict=True)]
    return cosine_figures(text.embedding.float(), image_embeddings.float(), torch.cat(predicted).float())


@torch.inference_mode()
def round_trip(
    model: Model,
    pictures: Sequence[Picture],
    *,
    seed: int,
    settings: StageSettings | None = None,
    batch_size: int | None = None,
    progress: Progress = silent,
) -> dict[str, float]:
    """Measure how well the decoder keeps z, the CLIP embedding of a real picture: cosines of z and of decode(z).

    `cosine_mean` and `cosine_median` compare decode(z) with z; `floor_mean` and `floor_median` decode(z) with the z of
    the next picture, a baseline without information; `shrunk_mean` z with the real picture at the decoder's size, which
    the small size alone costs. `recall_at_1` is how often the z nearest to decode(z) is its own. The decoder gets no
    text; upsamplers are not used. Raises `InputError` for a model without CLIP or decoder, and for fewer than 2
    pictures.
    """
    decoder, clip, images = model.need_decoder, model.need_clip, _open(pictures)
    batches = _batches(model, len(images), seed, batch_size)
    features = encode(model, [""], images)
    with model.resident(decoder):
        steps = (
            decoder.steps(
                features.pictures[batch.rows],
                features.condition.without_text(len(batch.rows)),
                batch.noise,
                settings or decoder.defaults,
            )
            for batch in batches
        )
        results = each_result("decoder", steps, len(batches), progress)
        decoded = [picture for x0 in results for picture in to_pil(decoder.finish(x0))]
    # The real pictures at the decoder's size, made square as CLIP itself does it.
    side, is_cropped = decoder.image_size, clip.clip.config.resize == "crop"
    small = [
        crop_square(image, side) if is_cropped else image.resize((side, side), Image.Resampling.BICUBIC)
        for image in images
    ]
    z, z_decoded, z_shrunk = features.pictures, encode_pictures(model, decoded), encode_pictures(model, small)
    cosines, floor = _cosines(z_decoded, z), _cosines(z_decoded, z.roll(-1, 0))
    return {
        "cosine_mean": cosines.mean().item(),
        "cosine_median": cosines.quantile(0.5).item(),
        "recall_at_1": recall_at_1(z_decoded, z),
        "floor_mean": floor.mean().item(),
        "floor_median": floor.quantile(0.5).item(),
        "shrunk_mean": _cosines(z_shrunk, z).mean().item(),
    }


@torch.inference_mode()
def upsampler_consistency(
    model: Model,
    pictures: Sequence[Picture],
    *,
    seed: int,
    settings: Mapping[str, StageSettings] | None = None,
    batch_size: int | None = None,
    progress: Progress = silent,
) -> dict[str, float]:
    """Measure how true each upsampler is to its input: the mean PSNR in dB of its picture, shrunk again, against it.

    The input is the middle square of real pictures, shrunk to its size; enlarged pictures are shrunk with antialiasing
    (bicubic). Beside `upsampler_256` stands `upsampler_256_bicubic`, which enlarges by interpolation. A picture that
    comes back exactly counts as 100 dB. `settings` are by the upsampler's name. Raises `InputError` for a model without
    upsampler, and for fewer than 2 pictures.
    """
    images, figures = _open(pictures), dict[str, float]()
    for size in sorted({model.need_upsampler.image_size, *model.upsampler_stages}):
        stage = model.upsampler_stages[size]
        side, batches = stage.network.config.low_res_size, _batches(model, len(images), seed, batch_size)
        stage_settings = (settings or {}).get(stage.name, stage.defaults)

        def small(batch: PictureBatch, side: int = side) -> Images:
            return cover_all([images[row] for row in batch.rows], (side, side), model.channels).to(model.device)

        values: dict[str, list[Tensor]] = {stage.name: [], f"{stage.name}_bicubic": []}
        with model.resident(stage):
            steps = (stage.steps(small(batch), batch.noise, stage_settings) for batch in batches)
            # The pictures of one batch are in memory at a time.
            for batch, large in zip(batches, each_result(stage.name, steps, len(batches), progress), strict=True):
                low = small(batch)
                for name, enlarged in zip(values, (large, resize(low, size)), strict=True):
                    shrunk = resize(enlarged.float().clamp(-1.0, 1.0), side)
                    values[name].append(psnr(shrunk, low).clamp(max=BEST_DB))
        figures |= {name: torch.cat(parts).mean().item() for name, parts in values.items()}
    return figures


@torch.inference_mode()
def prompt_diversity(clip: TextImageEncoder, drawn: Sequence[Sequence[Picture]]) -> dict[str, float]:
    """Measure how much the pictures of one prompt differ: the mean over pairs of 1 - cosine in `clip`, by prompt.

    `drawn` has a row of pictures for each prompt, equally many of at least 2. `diversity` is the mean over prompts,
    `least` that of the prompt whose pictures are most alike. Raises `InputError` for rows of other lengths.
    """
    counts = {len(row) for row in drawn}
    if len(counts) != 1 or min(counts) < MIN_PICTURES:
        raise InputError(
            f"diversity needs equally many pictures of each prompt, at least {MIN_PICTURES}; found {sorted(counts)}."
        )
    rows = [clip.encode_pictures([on_white(picture) for picture in open_pictures(row)]) for row in drawn]
    return _diversity(diversity(torch.stack(rows).float()))


def _diversity(values: Tensor) -> dict[str, float]:
    return {"diversity": values.double().mean().item(), "least": values.min().item()}


def meaning(suite: str, measure: str) -> str:
    """Return what a measure is of; "" for an unknown one."""
    if suite == "upsampler":
        return (
            "bicubic interpolation, for comparison" if measure.endswith("_bicubic") else "the upsampler's own pictures"
        )
    return MEANINGS.get(suite, {}).get(measure, "")


def _open(pictures: Sequence[Picture]) -> list[Image.Image]:
    if len(pictures) < MIN_PICTURES:
        raise InputError(f"a suite compares pictures with others, so it needs at least 2; found {len(pictures)}.")
    return [on_white(picture) for picture in open_pictures(pictures)]


def _batches(model: Model, count: int, seed: int, batch_size: int | None) -> list[PictureBatch]:
    """Return samples by number, each with a generator of its own, at most `batch_size` at a time."""
    image_seeds(seed, 1)
    size = chunk_size(model) if batch_size is None else check_count("batch_size", batch_size)
    noise = NoiseSource([seeded(seed, number) for number in range(count)])
    return PictureBatch(list(range(count)), [seed] * count, noise).split(size)


def _cosines(first: Tensor, second: Tensor) -> Tensor:
    return F.cosine_similarity(first.double(), second.double(), dim=-1)


class SuiteResults(NamedTuple):
    """The measures of `run_suites`."""

    figures: Measures
    notes: tuple[str, ...]
    """Why a suite was left out."""


def run_suites(
    model: Model,
    captions: Sequence[str],
    pictures: Sequence[Picture],
    *,
    seed: int,
    suites: Sequence[str] | None = None,
    settings: Mapping[str, StageSettings] | None = None,
    num_candidates: int | None = None,
    batch_size: int | None = None,
    progress: Progress = silent,
) -> SuiteResults:
    """Run the named suites, or with None all that the model has the parts for, with a note for each other suite.

    `settings` are by stage; a stage without them has the model's own. Raises `InputError` for an unknown suite, and for
    a named suite whose parts the model lacks.
    """
    for name in suites or ():
        if name not in SUITES:
            raise InputError(f"there is no suite {name!r}; {did_you_mean(name, SUITES)}")
    stages = dict(settings or {})
    functions = {
        "prior": partial(prior_suite, model, captions, settings=stages.get("prior"), num_candidates=num_candidates),
        "round_trip": partial(round_trip, model, settings=stages.get("decoder")),
        "upsampler": partial(upsampler_consistency, model, settings=stages),
    }
    parts = {"prior": ("CLIP", "prior"), "round_trip": ("CLIP", "decoder"), "upsampler": ("upsampler",)}
    is_present = {"CLIP": "clip" in model.encoders, "upsampler": bool(model.upsampler_stages)}
    is_present |= {name: name in model.stages for name in ("prior", "decoder")}
    figures, notes = Measures(), list[str]()
    for name in SUITES:
        lacking = " and no ".join(part for part in parts[name] if not is_present[part])
        if suites is None and lacking:
            notes.append(f"The suite {name} was left out: the model has no {lacking}.")
        elif suites is None or name in suites:
            figures[name] = functions[name](pictures, seed=seed, batch_size=batch_size, progress=progress)
    return SuiteResults(figures, tuple(notes))


def check_suites(options: EvaluateOptions, model: Model, *, has_reference: bool, has_clip: bool) -> None:
    """Raise `InputError` for an unknown suite, and for one that lacks a part, real pictures or a feature network."""
    for name in options.suites:
        if name not in (*SUITES, DIVERSITY):
            raise InputError(f"there is no suite {name!r}; {did_you_mean(name, (*SUITES, DIVERSITY))}")
        if name != DIVERSITY and not has_reference:
            raise InputError(f"the suite {name} measures real pictures; give a reference, or leave it out.")
    if "upsampler" in options.suites:
        _ = model.need_upsampler  # raises where there is none
    if DIVERSITY in options.suites and (options.images_per_prompt < MIN_PICTURES or not has_clip):
        raise InputError(
            f"the suite diversity needs images_per_prompt of at least {MIN_PICTURES} (found "
            f"{options.images_per_prompt}) and a clip:MODEL among the features; give both, or leave it out."
        )


def stage_suites(drawn: DrawnPictures, real: ComparedPictures | None, progress: Progress) -> Measures:
    """Return the measures of the requested suites; measures in the file beside the features are not computed again."""
    options, path, measures = drawn.options, drawn.out / "suites" / f"{drawn.name}.json", Measures()
    if path.exists():
        try:
            stored = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read ({error}); remove it, it is made again.") from None
        if stored["num_pictures"] == options.num_suite_pictures:
            measures = dict(stored["measures"])
    missing = [name for name in options.suites if name not in measures and name != DIVERSITY]
    if missing and real is not None:
        captions, pictures = _pairs(real, options, needs_captions="prior" in missing)
        measures |= run_suites(
            drawn.model,
            captions,
            pictures,
            seed=options.seed,
            suites=missing,
            settings=drawn.settings,
            batch_size=options.batch_size,
            progress=progress,
        ).figures
        atomic_write(path, json.dumps({"num_pictures": options.num_suite_pictures, "measures": measures}) + "\n")
    if DIVERSITY in options.suites:
        rows = (rows.unflatten(0, (-1, options.images_per_prompt)) for rows in drawn.chunks.each("clip"))
        measures[DIVERSITY] = _diversity(torch.cat(list(map(diversity, rows))))
    return {name: measures[name] for name in options.suites}


def _pairs(
    real: ComparedPictures, options: EvaluateOptions, *, needs_captions: bool
) -> tuple[list[str], list[Image.Image]]:
    """Choose captions and real pictures by seed; damaged pictures are passed over."""
    captions, pictures, every_caption = list[str](), list[Image.Image](), real.captions
    for index in torch.randperm(len(real), generator=seeded(options.seed)).tolist():
        caption = every_caption[index]
        if len(pictures) == options.num_suite_pictures:
            break
        if needs_captions and not caption.strip():
            continue
        try:
            pictures.append(real.read(index))
        except DataError:
            continue
        captions.append(caption)
    return captions, pictures
