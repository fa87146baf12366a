"""Measures of single stages: the prior's cosines, the decoder's round trip, how true upsamplers are to what they get.

Each draws sample k from a generator of (seed, k) alone. Knows a model and pictures; no reference features and no page.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from unclip.clip import TextImageEncoder
from unclip.errors import InputError
from unclip.evaluation import cosine_figures, diversity, psnr, recall_at_1
from unclip.images import cover, crop_square, from_pil, resize, to_pil
from unclip.pictures import Picture, on_white, open_pictures
from unclip.pipelines.features import chunk_size, encode, encode_pictures, encode_prompts
from unclip.pipelines.inversion import wordless
from unclip.pipelines.job import Batch, count_candidates, each_result, run_steps
from unclip.pipelines.model import Model
from unclip.pipelines.options import Progress, silent
from unclip.pipelines.sampling import select_text
from unclip.pipelines.settings import StageSettings, check_count, image_seeds
from unclip.pipelines.upsampler_stage import UpsamplerStage
from unclip.runtime import NoiseSource, seeded
from unclip.shapes import Embeddings

__all__ = ["prior_suite", "prompt_diversity", "round_trip", "upsampler_consistency"]

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
                wordless(features.condition, len(batch.rows)),
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
