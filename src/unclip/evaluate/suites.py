"""Suites of single stages: prior, decoder round trip, upsampler, diversity."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from unclip.clip import TextImageEncoder
from unclip.errors import DataError, InputError, did_you_mean
from unclip.evaluate.drawing import Drawing
from unclip.evaluate.features import Chunks, Networks
from unclip.evaluate.options import EvaluateOptions, Setting
from unclip.evaluate.prompts import FEWEST, PictureSet, read_picture
from unclip.files import atomic_write
from unclip.images import cover, crop_square, from_pil, resize, to_pil
from unclip.metrics import cosine_figures, diversity, psnr, recall_at_1
from unclip.model.settings import StageSettings
from unclip.pictures import Picture, on_white, open_pictures
from unclip.pipelines.features import chunk_size, encode, encode_pictures, encode_prompts
from unclip.pipelines.inversion import without_text
from unclip.pipelines.job import Batch, count_candidates, each_result, run_steps
from unclip.pipelines.model import Model
from unclip.pipelines.options import Progress, silent
from unclip.pipelines.sampling import select_text
from unclip.pipelines.settings import check_count, image_seeds
from unclip.pipelines.upsampler import UpsamplerStage
from unclip.runtime import NoiseSource, seeded
from unclip.shapes import Embeddings

MIN_PICTURES = 2
BEST_DB = 100.0
"""A picture that comes back exactly counts as this, far above what 8-bit colours show: else one flat picture would make
every mean infinite."""


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
    """`cosine_figures` of one embedding that the prior draws of each caption, against the caption's and the picture's.

    Settings and number of candidates are the model's own unless given. All cosines are in the model's own CLIP, which
    its prior was trained to please. Raises `InputError` for a model without CLIP or prior, for fewer than 2 pairs, and
    where captions and pictures do not go together.
    """
    prior, images = model.need_prior, _open(pictures)
    if len(captions) != len(images):
        raise InputError(f"{len(captions)} captions and {len(images)} pictures; give one caption for each picture.")
    candidates = count_candidates(model, num_candidates)
    batches = _batches(model, len(images), seed, batch_size)
    (text, null), seen = encode_prompts(model, captions), encode_pictures(model, images)
    texts = [select_text(text, batch.rows) for batch in batches]
    with model.resident(prior):
        steps = (
            prior.steps(told, null, batch.noise, settings or prior.defaults, candidates)
            for told, batch in zip(texts, batches, strict=True)
        )
        drawn = run_steps("prior", steps, len(batches), progress)
        predicted = torch.cat([prior.finish(x_0, told) for x_0, told in zip(drawn, texts, strict=True)])
    return cosine_figures(text.embedding.float(), seen.float(), predicted.float())


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
    """How well the decoder keeps what CLIP saw: cosines of z, of a real picture, and CLIP's embedding of what is drawn.

    `cosine_mean` and `cosine_median` of decode(z) and z; `floor_mean` and `floor_median` of decode(z) and the z of the
    next picture, which knows nothing of this one; `shrunk_mean` of z and the real picture at the decoder's size, which
    is what the small size alone leaves. `recall_at_1`: how often the z nearest to decode(z) is its own. The decoder is
    told no text; upsamplers take no part. Raises `InputError` for a model without CLIP or decoder, and for fewer than 2
    pictures.
    """
    decoder, images = model.need_decoder, _open(pictures)
    batches = _batches(model, len(images), seed, batch_size)
    features = encode(model, [""], images)
    with model.resident(decoder):
        steps = (
            decoder.steps(
                features.pictures[batch.rows],
                without_text(features.condition, len(batch.rows)),
                batch.noise,
                settings or decoder.defaults,
            )
            for batch in batches
        )
        results = each_result("decoder", steps, len(batches), progress)
        drawn = [picture for x_0 in results for picture in to_pil(decoder.finish(x_0))]
    again = encode_pictures(model, drawn)
    shrunk = encode_pictures(model, [_shrink(model.need_clip, image, decoder.image_size) for image in images])
    own, floor = _cosines(again, features.pictures), _cosines(again, features.pictures.roll(-1, 0))
    return {
        "cosine_mean": own.mean().item(),
        "cosine_median": own.quantile(0.5).item(),
        "recall_at_1": recall_at_1(again, features.pictures),
        "floor_mean": floor.mean().item(),
        "floor_median": floor.quantile(0.5).item(),
        "shrunk_mean": _cosines(shrunk, features.pictures).mean().item(),
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
    """How true each upsampler is to its input: the mean PSNR in dB of its picture, shrunk again, against what it got.

    It gets the middle square of real pictures, shrunk to its input's size; enlarged pictures are shrunk with
    antialiasing (bicubic). Beside `upsampler_256` stands `upsampler_256_bicubic`, which enlarges by interpolation.
    A picture that comes back exactly counts as 100 dB. `settings` are by the upsampler's name. Raises `InputError` for
    a model without upsampler, and for fewer than 2 pictures.
    """
    images, figures = _open(pictures), dict[str, float]()
    for size in sorted({model.need_upsampler.image_size, *model.upsamplers}):
        stage = model.upsamplers[size]
        batches = _batches(model, len(images), seed, batch_size)
        wanted = (settings or {}).get(stage.name, stage.defaults)
        with model.resident(stage):
            pairs = list(_consistency(model, stage, wanted, images, batches, progress))
        own, bicubic = (torch.cat(values).mean().item() for values in zip(*pairs, strict=True))
        figures |= {stage.name: own, f"{stage.name}_bicubic": bicubic}
    return figures


@torch.inference_mode()
def prompt_diversity(clip: TextImageEncoder, drawn: Sequence[Sequence[Picture]]) -> dict[str, float]:
    """How much the pictures of one prompt differ: the mean over pairs of 1 - cosine in `clip`, by prompt.

    `drawn` has a row of pictures for each prompt, equally many of at least 2. `diversity` is the mean over prompts,
    `least` that of the prompt whose pictures are most alike. Raises `InputError` for rows of other lengths.
    """
    counts = {len(row) for row in drawn}
    if len(counts) != 1 or min(counts) < MIN_PICTURES:
        raise InputError(
            f"diversity needs equally many pictures of each prompt, at least {MIN_PICTURES}; found {sorted(counts)}."
        )
    rows = [clip.encode_pictures([on_white(picture) for picture in open_pictures(row)]) for row in drawn]
    values = diversity(torch.stack(rows).float()).double()
    return {"diversity": values.mean().item(), "least": values.min().item()}


def _open(pictures: Sequence[Picture]) -> list[Image.Image]:
    if len(pictures) < MIN_PICTURES:
        raise InputError(f"a suite compares pictures with others, so it needs at least 2; found {len(pictures)}.")
    return [on_white(picture) for picture in open_pictures(pictures)]


def _batches(model: Model, count: int, seed: int, batch_size: int | None) -> list[Batch]:
    """Samples by number, each with a generator of its own, at most `batch_size` at a time."""
    image_seeds(seed, 1)
    size = chunk_size(model) if batch_size is None else check_count("batch_size", batch_size)
    noise = NoiseSource([seeded(seed, number) for number in range(count)])
    return Batch(list(range(count)), [seed] * count, noise).split(size)


def _consistency(
    model: Model,
    stage: UpsamplerStage,
    settings: StageSettings,
    images: Sequence[Image.Image],
    batches: Sequence[Batch],
    progress: Progress,
) -> Iterator[tuple[Tensor, Tensor]]:
    """The dB of the stage's pictures, and of bicubic ones, by batch; no batch's pictures outlive it."""
    low, high = stage.network.config.low_res_size, stage.image_size

    def small(batch: Batch) -> Tensor:
        return from_pil([cover(images[row], (low, low)) for row in batch.rows]).to(model.device)

    steps = (stage.steps(small(batch), batch.noise, settings) for batch in batches)
    for batch, large in zip(batches, each_result(stage.name, steps, len(batches), progress), strict=True):
        given = small(batch)
        own, bicubic = (
            psnr(resize(made.float().clamp(-1.0, 1.0), low), given).clamp(max=BEST_DB)
            for made in (large, resize(given, high))
        )
        yield own, bicubic


def _shrink(clip: TextImageEncoder, image: Image.Image, size: int) -> Image.Image:
    """The picture at the decoder's size, made square as CLIP itself does it."""
    if clip.clip.config.resize == "crop":
        return crop_square(image, size)
    return image.resize((size, size), Image.Resampling.BICUBIC)


def _cosines(first: Embeddings, second: Embeddings) -> Tensor:
    return F.cosine_similarity(first.double(), second.double(), dim=-1)


SUITES = ("prior", "round_trip", "upsampler")
"""Names of the suites, as they stand in an evaluation."""


class SuiteResults(NamedTuple):
    """What `run_suites` found."""

    figures: dict[str, dict[str, float]]
    """By the name of the suite."""
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
    """The suites named, or with None all that the model has the parts for and a note for each that it has not.

    `settings` are by stage, as a task settles them; a stage that they lack has the model's own. Raises `InputError` for
    an unknown suite, and for one that was named but needs a part that the model lacks.
    """
    for name in suites or ():
        if name not in SUITES:
            raise InputError(f"there is no suite {name!r}; {did_you_mean(name, SUITES)}")
    given = dict(settings or {})
    prior = partial(prior_suite, model, captions, settings=given.get("prior"), num_candidates=num_candidates)
    ways = {
        "prior": prior,
        "round_trip": partial(round_trip, model, settings=given.get("decoder")),
        "upsampler": partial(upsampler_consistency, model, settings=given),
    }
    missing = _missing(model) if suites is None else {}
    chosen = [name for name in SUITES if name not in missing and (suites is None or name in suites)]
    figures = {name: ways[name](pictures, seed=seed, batch_size=batch_size, progress=progress) for name in chosen}
    return SuiteResults(
        figures, tuple(f"The suite {name} was left out: the model has no {lacks}." for name, lacks in missing.items())
    )


def _missing(model: Model) -> dict[str, str]:
    """The suites that cannot be, and the parts that each lacks."""
    parts: dict[str, dict[str, object]] = {
        "prior": {"CLIP": model.clip, "prior": model.prior},
        "round_trip": {"CLIP": model.clip, "decoder": model.decoder},
        "upsampler": {"upsampler": model.upsamplers or None},
    }
    lacks = {name: [what for what, part in needed.items() if part is None] for name, needed in parts.items()}
    return {name: " and no ".join(found) for name, found in lacks.items() if found}


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
