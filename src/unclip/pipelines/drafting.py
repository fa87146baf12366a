"""Stopping between stages, and going on: text to image in parts. Knows the stages of a model, and drafts."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack

import torch
from torch import Tensor

from unclip.errors import InputError, did_you_mean
from unclip.pipelines.chain import Chain, chain_to, show_size
from unclip.pipelines.draft import Draft
from unclip.pipelines.features import encode, join_cut
from unclip.pipelines.job import Batch, Job, begin, count_candidates
from unclip.pipelines.model import Model
from unclip.pipelines.negative import check_negative
from unclip.pipelines.options import DrawOptions, ImageSize
from unclip.pipelines.result import Result
from unclip.pipelines.settings import StageSettings, check_prompts

__all__ = ["advance", "draft", "finish"]


@torch.no_grad()
def draft(
    model: Model,
    prompts: str | Sequence[str],
    num_images: int = 1,
    *,
    stop_after: str,
    num_candidates: int | None = None,
    negative_prompt: str = "",
    **options: Unpack[DrawOptions],
) -> Draft:
    """Begin `num_images` pictures of each prompt and stop after "prior", "decoder" or "upsampler_256".

    `finish` goes on to what `text_to_image` would have drawn, to the bit on a CPU, also from a file
    (`Draft.save`). All else is as for `text_to_image`; settings of the stages to come are kept in the draft.
    """
    texts = check_prompts(prompts)
    job = begin(model, options, num_inputs=len(texts), num_images=num_images, uses_prior=True)
    check_negative(job, negative_prompt)
    candidates = count_candidates(model, num_candidates)
    part = _until(job, stop_after)
    features = encode(model, texts, negative_prompt=negative_prompt)
    embeddings = job.imagine(features, candidates)
    images = None if stop_after == "prior" else torch.cat(part.draw(embeddings, features.condition)).cpu()
    pictures, (done, to_come) = job.pictures, _shares(job.settings, stop_after)
    return Draft(
        prompts=[texts[row] for row in pictures.rows],
        seeds=pictures.seeds,
        image_embeddings=torch.cat(embeddings).cpu(),
        noise=pictures.noise.states,
        images=images,
        model=model.name,
        negative_prompt=negative_prompt,
        image_size=options.get("image_size"),
        num_candidates=candidates,
        done=done,
        to_come=to_come,
        cut=features.cut,
        number_formats=model.number_formats(done),
    )


@torch.no_grad()
def advance(model: Model, draft: Draft, *, stop_after: str, **options: Unpack[DrawOptions]) -> Draft:
    """Take a draft as far as another stage; errors and `options` are as for `finish`."""
    job = _resume(model, draft, options)
    images, cut = _run(_until(job, stop_after), draft)
    done, to_come = _shares(job.settings, stop_after)
    return replace(
        draft,
        noise=job.pictures.noise.states,
        images=torch.cat(images).cpu(),
        image_size=_size(draft, options),
        done={**draft.done, **done},
        to_come=to_come,
        cut=cut,
        number_formats={**draft.number_formats, **model.number_formats(done)},
    )


@torch.no_grad()
def finish(model: Model, draft: Draft, **options: Unpack[DrawOptions]) -> Result:
    """Run the stages that a draft has before it.

    Any model goes on with a draft whose embeddings its decoder reads or whose pictures have a size that it makes;
    on its own model the draft's settings hold, on another that one's, and `options` change them. Seeds and noise
    are the draft's. Raises `InputError` where the draft does not fit, naming both sizes.
    """
    job = _resume(model, draft, options)
    images, cut = _run(job, draft)
    told: dict[str, Any] = {"negative_prompt": draft.negative_prompt, "number_formats": draft.number_formats}
    told |= {} if draft.num_candidates is None else {"num_candidates": draft.num_candidates}
    told |= {} if draft.model == model.name else {"begun_by": draft.model}
    told |= {stage: settings.model_dump(mode="json") for stage, settings in draft.done.items()}
    return job.result(images, job.split(draft.image_embeddings), cut, list(draft.prompts), **told)


def _resume(model: Model, draft: Draft, options: DrawOptions) -> Job:
    """A job of the stages that the draft has before it; its chain begins at the size of what is there."""
    if options.get("seed") is not None:
        raise InputError(f"seed={options['seed']} cannot be set: the pictures of a draft have theirs; leave it out.")
    chain = chain_to(model, _size(draft, options))
    if draft.images is None:
        _check_embeddings(model, draft)
    else:
        chain = _rest(model, draft, chain)
    # Settings belong to the model that they were made for.
    own = draft.to_come if draft.model == model.name else {}
    job = begin(
        model,
        options,
        num_inputs=len(draft.seeds),
        uses_decoder=draft.images is None,
        chain=chain,
        defaults={stage: settings.model_dump() for stage, settings in own.items()},
    )
    pictures = Batch(list(range(len(draft.seeds))), list(draft.seeds), draft.generators())
    return replace(job, batches=pictures.split(job.batch_size))


def _run(job: Job, draft: Draft) -> tuple[list[Tensor], Mapping[str, str]]:
    """The pictures of each batch in the end, and what was cut of texts up to there."""
    if draft.images is not None:
        return job.enlarge(job.split(draft.images)), draft.cut
    features = encode(job.model, draft.prompts, negative_prompt=draft.negative_prompt)
    return job.draw(job.split(draft.image_embeddings), features.condition), join_cut(draft.cut, features.cut)


def _until(job: Job, stop_after: str) -> Job:
    """The same job as far as a stage; raises `InputError` where there is none of that name to come."""
    if stop_after not in job.settings:
        raise InputError(f"no stage {stop_after!r} is to come; {did_you_mean(str(stop_after), job.settings)}")
    names = ["prior or decoder", *(upsampler.name for upsampler in job.chain.upsamplers)]
    end = names.index(stop_after) if stop_after in names else 0
    return replace(job, chain=Chain(job.chain.upsamplers[:end], job.chain.sizes[: end + 1]))


def _rest(model: Model, draft: Draft, chain: Chain) -> Chain:
    """What is left of a chain once it has made pictures of the draft's size."""
    assert draft.images is not None, "there is no picture yet"
    height, width = draft.images.shape[-2:]
    if (height, width) not in chain.sizes:
        made = ", then ".join(show_size(size[::-1]) for size in chain.sizes)
        raise InputError(
            f"the draft's pictures are {show_size((width, height))}, but {model.name!r} makes {made}; use another "
            f"image_size, or a model that makes theirs on the way{_such_as(draft)}."
        )
    place = chain.sizes.index((height, width))
    return Chain(chain.upsamplers[place:], chain.sizes[place:])


def _check_embeddings(model: Model, draft: Draft) -> None:
    found, wanted = draft.image_embeddings.shape[1], model.need_decoder.network.config.embedding_dim
    if found != wanted:
        raise InputError(
            f"the draft's image embeddings have {found} numbers, but the decoder of {model.name!r} reads {wanted}; use "
            f"a model of the same CLIP{_such_as(draft)}."
        )


def _such_as(draft: Draft) -> str:
    return f", such as {draft.model!r}" if draft.model else ""


def _size(draft: Draft, options: DrawOptions) -> ImageSize | None:
    size = options.get("image_size")
    return draft.image_size if size is None else size


def _shares(settings: Mapping[str, StageSettings], stop_after: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of a job's stages as far as one of them, and those of the others."""
    end = list(settings).index(stop_after) + 1
    return dict(list(settings.items())[:end]), dict(list(settings.items())[end:])
