"""Stop pictures after a stage, save them as a draft, and finish them later."""

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
from unclip.pipelines.features import encode, join_cut
from unclip.pipelines.job import Chain, Job, PictureBatch, begin, chain_to, count_candidates, show_size
from unclip.pipelines.model import Model
from unclip.pipelines.options import (
    DrawOptions,
    ImageSize,
    NegativePrompt,
    NumCandidates,
    NumImages,
    Option,
    Prompts,
    task,
)
from unclip.pipelines.result import Result
from unclip.pipelines.settings import check_prompts, image_seeds, show_background
from unclip.runtime import NoiseSource
from unclip.shapes import Embeddings

KIND = "draft"
Seed = Annotated[int, pydantic.Field(ge=0, lt=2**63)]


@dataclass(frozen=True, eq=False, kw_only=True)
class Draft:
    """Pictures that were stopped between stages; sequences and tensors have one entry per picture.

    Raises `InputError` where their lengths differ, and for tensors that are not embeddings, pictures or generators.
    """

    prompts: Sequence[str]
    """The prompt of each picture, "" where there is none."""
    seeds: Sequence[int]
    """The seed of each picture."""
    image_embeddings: Tensor
    """float (pictures, dim) at the scale that the decoder reads."""
    noise: Tensor
    """uint8 (pictures, state): the state of each picture's generator."""
    images: Tensor | None = None
    """float (pictures, channels, height, width) in [-1, 1]; None before the decoder."""
    model: str = ""
    """The name of the model that began."""
    negative_prompt: str = ""
    """The prompt that guidance leads away from."""
    image_size: ImageSize | None = None
    """The size that was asked for; None is the model's own."""
    background: str = "white"
    """What was asked for behind the pictures."""
    num_candidates: int | None = None
    """Image embeddings that the prior sampled for each picture; None where there was no prior."""
    done: Mapping[str, StageSettings] = field(default_factory=dict)
    """The settings of the stages that ran, in their order."""
    to_come: Mapping[str, StageSettings] = field(default_factory=dict)
    """The settings of the stages that would have followed."""
    cut: Mapping[str, str] = field(default_factory=dict)
    """The texts that were too long to be read, each with the end that was not read."""
    number_formats: Mapping[str, str] = field(default_factory=dict)
    """The number format, such as bfloat16, of each part that ran."""

    def __post_init__(self) -> None:
        embeddings, noise, images = self.image_embeddings, self.noise, self.images
        finite, has_channels = "finite floating numbers", images is not None and images.shape[1:2] in ((3,), (4,))
        for name, values, is_valid, form in (
            ("image_embeddings", embeddings, _is_finite(embeddings, 2), f"{finite} (pictures, dim)"),
            ("images", images, has_channels and _is_finite(images, 4), f"{finite} (pictures, 3 or 4, height, width)"),
            ("noise", noise, noise.dtype == torch.uint8 and noise.ndim == 2, "the states of generators, uint8"),
        ):
            if values is not None and not is_valid:
                dtype = str(values.dtype).removeprefix("torch.")
                raise InputError(f"{name} is {dtype} {tuple(values.shape)}; a draft has {form}.")
        counts = [len(values) for values in (self.prompts, embeddings, noise, images) if values is not None]
        if not self.seeds or set(counts) != {len(self.seeds)}:
            raise InputError(f"a draft has as many of everything, at least 1; found {len(self.seeds)} and {counts}.")
        self.generators()

    @classmethod
    def of_embeddings(cls, image_embeddings: Embeddings, prompt: str = "", *, seed: int | None = None) -> Self:
        """Make a draft as a prior would leave it, of any embeddings (pictures, dim).

        Picture k has the seed `seed` + k (a random one where that is None); `prompt` is for decoders that read text.
        """
        seeds = image_seeds(seed, len(image_embeddings))
        states = NoiseSource.from_seeds(seeds).states
        return cls(prompts=[prompt] * len(seeds), seeds=seeds, image_embeddings=image_embeddings, noise=states)

    def pick(self, places: Sequence[int]) -> Self:
        """Select the pictures at `places`, in that order; raises `InputError` for a place without a picture."""
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
        """Return the pictures' generators, where they stopped."""
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
    """The fields of a draft that its file holds besides tensors."""

    model: str
    prompts: tuple[str, ...]
    seeds: tuple[Seed, ...]
    negative_prompt: str
    image_size: int | tuple[int, int] | None
    background: str = "white"
    num_candidates: int | None
    done: dict[str, StageSettings]
    to_come: dict[str, StageSettings]
    cut: dict[str, str] = pydantic.Field(default_factory=dict)
    number_formats: dict[str, str] = pydantic.Field(default_factory=dict)


def _is_finite(values: Tensor | None, ndim: int) -> bool:
    return values is not None and values.ndim == ndim and values.is_floating_point() and bool(values.isfinite().all())


StopAfter = Annotated[str, Option("prior, decoder, ...: write a file for `finish`.")]
Unfinished = Annotated[Draft, Option("Pictures that were stopped between stages.", "draft")]


@task()
def draft(
    model: Model,
    prompts: Prompts,
    num_images: NumImages = 1,
    *,
    stop_after: StopAfter,
    num_candidates: NumCandidates = None,
    negative_prompt: NegativePrompt = "",
    **options: Unpack[DrawOptions],
) -> Draft:
    """Begin `num_images` pictures of each prompt and stop after "prior", "decoder" or "upsampler_256".

    `finish` goes on to what `text_to_image` would have drawn, to the bit on a CPU, also from a file
    (`Draft.save`). Everything else is as for `text_to_image`; the draft keeps the settings of the stages to come.
    """
    texts = check_prompts(prompts)
    job = begin(
        model, options, num_inputs=len(texts), num_images=num_images, uses_prior=True, negative_prompt=negative_prompt
    )
    candidates = count_candidates(model, num_candidates)
    part, done, to_come = _split_after(job, stop_after)
    embeddings, features = job.embed(texts, (), negative_prompt, candidates)
    images = None if stop_after == "prior" else torch.cat(part.draw(embeddings, features.condition)).cpu()
    return Draft(
        prompts=[texts[row] for row in job.pictures.rows],
        seeds=job.pictures.seeds,
        image_embeddings=torch.cat(embeddings).cpu(),
        noise=job.pictures.noise.states,
        images=images,
        model=model.name,
        negative_prompt=negative_prompt,
        image_size=options.get("image_size"),
        background=show_background(job.background),
        num_candidates=candidates,
        done=done,
        to_come=to_come,
        cut=features.cut,
        number_formats=model.number_formats(done),
    )


@task(unused=("seed",))
def advance(model: Model, draft: Unfinished, *, stop_after: StopAfter, **options: Unpack[DrawOptions]) -> Draft:
    """Take a draft as far as another stage; errors and `options` are as for `finish`."""
    job = _resume(model, draft, options)
    part, done, to_come = _split_after(job, stop_after)
    images, cut = _draw(part, draft)
    return replace(
        draft,
        noise=job.pictures.noise.states,
        images=torch.cat(images).cpu(),
        image_size=_image_size(draft, options),
        background=show_background(job.background),
        done={**draft.done, **done},
        to_come=to_come,
        cut=cut,
        number_formats={**draft.number_formats, **model.number_formats(done)},
    )


@task(unused=("seed",))
def finish(model: Model, draft: Unfinished, **options: Unpack[DrawOptions]) -> Result:
    """Run the stages that a draft has before it.

    Any model takes a draft whose embeddings its decoder reads or whose pictures have a size that it makes; on the
    model that began it the draft's settings hold, on another the model's, and `options` change them. Seeds and noise
    are the draft's. Raises `InputError` where the draft does not fit, naming both sizes.
    """
    job = _resume(model, draft, options)
    images, cut = _draw(job, draft)
    settings: dict[str, Any] = {"negative_prompt": draft.negative_prompt, "number_formats": draft.number_formats}
    settings |= {} if draft.num_candidates is None else {"num_candidates": draft.num_candidates}
    settings |= {} if draft.model == model.name else {"begun_by": draft.model}
    settings |= {stage: values.model_dump(mode="json") for stage, values in draft.done.items()}
    return job.result(images, job.split(draft.image_embeddings), cut, list(draft.prompts), **settings)


def _resume(model: Model, draft: Draft, options: DrawOptions) -> Job:
    """Plan the stages that the draft has before it; raises `InputError` if the model cannot take the draft."""
    if options.get("seed") is not None:
        raise InputError(f"seed={options['seed']} cannot be set: the pictures of a draft have theirs; leave it out.")
    chain, such_as = chain_to(model, _image_size(draft, options)), f", such as {draft.model!r}" if draft.model else ""
    if draft.images is None:
        dim, wanted = draft.image_embeddings.shape[1], model.need_decoder.config.embedding_dim
        if dim != wanted:
            raise InputError(
                f"the draft's image embeddings have {dim} numbers, but the decoder of {model.name!r} reads {wanted}; "
                f"use a model of the same CLIP{such_as}."
            )
    else:
        channels, height, width = draft.images.shape[1:]
        if channels != model.channels:
            raise InputError(
                f"the draft's pictures have {channels} channels (3, or 4 with alpha), but the stages of {model.name!r} "
                f"have {model.channels}; use the model that began them{such_as}."
            )
        if (height, width) not in chain.sizes:
            sizes = ", then ".join(show_size(size[::-1]) for size in chain.sizes)
            raise InputError(
                f"the draft's pictures are {show_size((width, height))}, but {model.name!r} makes {sizes}; use another "
                f"image_size, or a model that makes theirs on the way{such_as}."
            )
        place = chain.sizes.index((height, width))
        chain = Chain(chain.upsamplers[place:], chain.sizes[place:])
    # Settings belong to the model that they were made for.
    to_come = draft.to_come if draft.model == model.name else {}
    defaults = {stage: values.model_dump() for stage, values in to_come.items()}
    count, uses_decoder = len(draft.seeds), draft.images is None
    asked = {**options, "background": options.get("background") or draft.background}
    job = begin(model, asked, num_inputs=count, uses_decoder=uses_decoder, chain=chain, defaults=defaults)
    return job.with_pictures(PictureBatch(list(range(count)), list(draft.seeds), draft.generators()))


def _draw(job: Job, draft: Draft) -> tuple[list[Tensor], Mapping[str, str]]:
    """Run the job's stages; returns the pictures of each batch, and the ends of all texts that were too long."""
    if draft.images is not None:
        return job.upsample(job.split(draft.images)), draft.cut
    features = encode(job.model, draft.prompts, negative_prompt=draft.negative_prompt)
    return job.draw(job.split(draft.image_embeddings), features.condition), join_cut(draft.cut, features.cut)


def _split_after(job: Job, stop_after: str) -> tuple[Job, dict[str, StageSettings], dict[str, StageSettings]]:
    """Return the job as far as a stage, with the settings of its stages, and the settings of the stages after it."""
    if stop_after not in job.settings:
        raise InputError(f"no stage {stop_after!r} is to come; {did_you_mean(str(stop_after), job.settings)}")
    settings = list(job.settings.items())
    end = list(job.settings).index(stop_after) + 1
    done, to_come = dict(settings[:end]), dict(settings[end:])
    count = sum(upsampler.name in done for upsampler in job.chain.upsamplers)
    chain = Chain(job.chain.upsamplers[:count], job.chain.sizes[: count + 1])
    return replace(job, chain=chain), done, to_come


def _image_size(draft: Draft, options: DrawOptions) -> ImageSize | None:
    size = options.get("image_size")
    return draft.image_size if size is None else size
