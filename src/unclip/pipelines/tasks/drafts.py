"""Drafts: stop after a stage, save, and finish later."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Self, Unpack

import pydantic
import torch
from torch import Tensor

from unclip.checkpoint import load_tensors, save_tensors
from unclip.config import Config, load_config
from unclip.errors import CheckpointError, ConfigError, InputError, did_you_mean
from unclip.model.settings import StageSettings
from unclip.pipelines.chain import Chain, chain_to, show_size
from unclip.pipelines.features import encode, join_cut
from unclip.pipelines.job import Batch, Job, begin, check_negative, count_candidates
from unclip.pipelines.model import Model
from unclip.pipelines.options import DrawOptions, ImageSize
from unclip.pipelines.result import Result
from unclip.pipelines.settings import check_prompts, image_seeds
from unclip.runtime import NoiseSource
from unclip.shapes import Embeddings

KIND = "draft"
Seed = Annotated[int, pydantic.Field(ge=0, lt=2**63)]


@dataclass(frozen=True, eq=False, kw_only=True)
class Draft:
    """Pictures that were stopped between stages; sequences and tensors have one entry per picture.

    Raises `InputError` where their lengths differ, and for numbers that are no embeddings, pictures or generators.
    """

    prompts: Sequence[str]
    """The prompt of each picture, "" where there is none."""
    seeds: Sequence[int]
    """The seed of each picture."""
    image_embeddings: Tensor
    """float (pictures, dim): what is drawn, at the scale that the decoder reads."""
    noise: Tensor
    """uint8 (pictures, state): where the generator of each picture is."""
    images: Tensor | None = None
    """float (pictures, 3, height, width) in [-1, 1]; None before the decoder."""
    model: str = ""
    """What the model that began is called."""
    negative_prompt: str = ""
    """What guidance leads away from."""
    image_size: ImageSize | None = None
    """The size that was asked for; None is the model's own."""
    num_candidates: int | None = None
    """Image embeddings that the prior drew of each; None where they are no prior's."""
    done: Mapping[str, StageSettings] = field(default_factory=dict)
    """The settings of the stages that ran, in their order."""
    to_come: Mapping[str, StageSettings] = field(default_factory=dict)
    """The settings of those that would have followed."""
    cut: Mapping[str, str] = field(default_factory=dict)
    """The texts that were too long to be read, each with its end, which had no part."""
    number_formats: Mapping[str, str] = field(default_factory=dict)
    """What the parts that ran computed in, such as bfloat16."""

    def __post_init__(self) -> None:
        _check_numbers("image_embeddings", self.image_embeddings, 2)
        if self.images is not None:
            _check_numbers("images", self.images, 4)
        if self.noise.dtype != torch.uint8 or self.noise.ndim != 2:
            raise InputError(f"noise is {_show(self.noise)}; a draft has the states of generators, uint8.")
        counts = [len(self.prompts), len(self.image_embeddings), len(self.noise)]
        counts += [] if self.images is None else [len(self.images)]
        if not self.seeds or set(counts) != {len(self.seeds)}:
            raise InputError(f"a draft has as many of everything, at least 1; found {len(self.seeds)} and {counts}.")
        self.generators()

    @classmethod
    def of_embeddings(cls, image_embeddings: Embeddings, prompt: str = "", *, seed: int | None = None) -> Self:
        """A draft as a prior would leave it, of embeddings (pictures, dim) of one's own.

        Picture k has the seed `seed` + k (a random one where that is None); `prompt` is for decoders that read text.
        """
        seeds = image_seeds(seed, len(image_embeddings))
        states = NoiseSource.from_seeds(seeds).states
        return cls(prompts=[prompt] * len(seeds), seeds=seeds, image_embeddings=image_embeddings, noise=states)

    def pick(self, places: Sequence[int]) -> Self:
        """The pictures at `places` alone, in that order; raises `InputError` where there is none."""
        if missing := [place for place in places if place not in range(len(self.seeds))]:
            raise InputError(f"there is no picture {missing[0]} among {len(self.seeds)}; count from 0.")
        chosen = list(places)
        texts = {self.negative_prompt, *(self.prompts[place] for place in chosen)}
        return replace(
            self,
            prompts=[self.prompts[place] for place in chosen],
            seeds=[self.seeds[place] for place in chosen],
            image_embeddings=self.image_embeddings[chosen],
            noise=self.noise[chosen],
            images=None if self.images is None else self.images[chosen],
            cut={text: end for text, end in self.cut.items() if text in texts},
        )

    def generators(self) -> NoiseSource:
        """Generators that go on where those of the pictures were."""
        return NoiseSource.from_states(self.noise)

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, atomically; raises `InputError` when it cannot."""
        tensors = {"image_embeddings": self.image_embeddings, "noise": self.noise}
        tensors |= {} if self.images is None else {"images": self.images}
        header = load_config(Header, {name: getattr(self, name) for name in Header.model_fields})
        save_tensors(path, tensors, {"format": "unclip", "kind": KIND, "draft": header.model_dump_json()})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote; raises `CheckpointError` for any other file, and for one that is damaged."""
        tensors, metadata = load_tensors(path)
        if metadata.get("kind") != KIND:
            kind = metadata.get("kind", "no named stage")
            raise CheckpointError(f"{path} holds {kind!r}, not {KIND!r}; give a file that Draft.save wrote.")
        try:
            fields: dict[str, Any] = {**dict(load_config(Header, json.loads(metadata["draft"]))), **tensors}
            return cls(**fields)
        except (ConfigError, InputError, ValueError, TypeError, KeyError) as error:
            raise CheckpointError(f"{path} is a damaged draft ({error}); draw it again.") from None


class Header(Config):
    """What the file of a draft says besides tensors: the fields of that name."""

    model: str
    prompts: tuple[str, ...]
    seeds: tuple[Seed, ...]
    negative_prompt: str
    image_size: int | tuple[int, int] | None
    num_candidates: int | None
    done: dict[str, StageSettings]
    to_come: dict[str, StageSettings]
    cut: dict[str, str] = pydantic.Field(default_factory=dict)
    number_formats: dict[str, str] = pydantic.Field(default_factory=dict)


def _check_numbers(name: str, values: Tensor, ndim: int) -> None:
    channels = values.shape[1] if ndim == 4 and values.ndim == 4 else 3
    if values.ndim != ndim or channels != 3 or not values.is_floating_point() or not bool(values.isfinite().all()):
        wanted = "(pictures, dim)" if ndim == 2 else "(pictures, 3, height, width)"
        raise InputError(f"{name} is {_show(values)}; a draft has finite floating numbers {wanted}.")


def _show(values: Tensor) -> str:
    return f"{str(values.dtype).removeprefix('torch.')} {tuple(values.shape)}"


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
    embeddings = job.sample_prior(features, candidates)
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
        return job.upsample(job.split(draft.images)), draft.cut
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
