"""One call of a task that draws: its stages, settings, seeds and noise, checked first, then run in order."""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import torch
from PIL import Image
from torch import Tensor

from unclip.diffusion import SamplerStep
from unclip.errors import InputError
from unclip.images import WHITE, Background, cover_all
from unclip.model.family import Condition, select_text
from unclip.model.settings import StageSettings
from unclip.pipelines.decoder import DecoderStage, show_steps
from unclip.pipelines.features import Features, encode, have_one_length
from unclip.pipelines.guarding import to_numpy
from unclip.pipelines.model import Model
from unclip.pipelines.options import (
    DrawOptions,
    ImageSize,
    Preview,
    Progress,
    check_options,
    progress_function,
)
from unclip.pipelines.result import Drawn, OutputType, Result, convert, picture_size
from unclip.pipelines.settings import (
    check_count,
    check_text,
    picture_seeds,
    read_background,
    resolve_settings,
    show_background,
)
from unclip.pipelines.stage import FROM_NOISE, Stage, Start, stage_times
from unclip.pipelines.upsampler import UpsamplerStage
from unclip.runtime import NoiseSource
from unclip.safety import OFF
from unclip.shapes import Images

BATCH_SIZE = 8
Starts: TypeAlias = Mapping[str, Iterable[Start]]
"""What sampling begins from, by stage; one for each batch."""
ALL_FROM_NOISE: Starts = {}
"""All stages begin from noise."""


class Chain(NamedTuple):
    """The upsamplers after the decoder, and the (height, width) of what it and each of them makes."""

    upsamplers: list[UpsamplerStage]
    sizes: list[tuple[int, int]]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the pictures in the end."""
        return self.sizes[-1]


class PictureBatch(NamedTuple):
    """Pictures that are drawn together."""

    rows: list[int]
    """The input that each picture is of."""
    seeds: list[int]
    noise: NoiseSource
    """A generator for each picture."""

    def select(self, places: Sequence[int]) -> "PictureBatch":
        """Select the pictures at `places`; each keeps its generator, which goes on from where it is."""
        noise = NoiseSource([self.noise.generators[place] for place in places])
        return PictureBatch([self.rows[place] for place in places], [self.seeds[place] for place in places], noise)

    def split(self, size: int) -> list["PictureBatch"]:
        """Split into batches of at most `size` pictures."""
        places = range(len(self.rows))
        return [self.select(places[first : first + size]) for first in places[::size]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Job:
    """Pictures to draw, in batches; made by `begin`. Lists of tensors have one for each batch."""

    model: Model
    chain: Chain
    settings: Mapping[str, StageSettings]
    batches: list[PictureBatch]
    progress: Progress
    output_type: OutputType
    background: Background
    """What lies behind the pictures; without a coverage, white."""
    preview: Preview | None = None

    def embed(
        self,
        prompts: Sequence[str] | None,
        pictures: Sequence[Image.Image] = (),
        negative_prompt: str = "",
        num_candidates: int | None = None,
    ) -> tuple[list[Tensor], Features]:
        """Return image embeddings, by the prior of `prompts` or else by CLIP of `pictures`, and all features.

        `num_candidates` is the model's own unless given.
        """
        features = encode(self.model, prompts or [""] * len(pictures), () if prompts else pictures, negative_prompt)
        if prompts:
            return self.sample_prior(features, num_candidates or self.model.num_candidates), features
        return [features.pictures[batch.rows] for batch in self.batches], features

    def sample_prior(self, features: Features, num_candidates: int) -> list[Tensor]:
        """Sample one image embedding per picture; `batch.rows` maps pictures to prompts."""
        prior, settings = self.model.need_prior, self.settings["prior"]
        texts = [select_text(features.text, batch.rows) for batch in self.batches]
        steps = (
            prior.steps(text, features.null, batch.noise, settings, num_candidates)
            for text, batch in zip(texts, self.batches, strict=True)
        )
        return [prior.finish(x_0, text) for x_0, text in zip(self._run(prior, steps), texts, strict=True)]

    def decode(self, embeddings: list[Tensor], condition: Condition, starts: Starts = ALL_FROM_NOISE) -> list[Tensor]:
        """Draw the decoder's pictures in [-1, 1] of the image embeddings, unless the model's guard blocks one."""
        if self.model.guard is not None and condition.is_conditional:
            self.model.guard.check_image_embeddings(to_numpy(torch.cat(embeddings)))
        decoder, settings, size = self.model.need_decoder, self.settings["decoder"], self.chain.sizes[0]
        steps = (
            decoder.steps(embedding, condition.select(batch.rows), batch.noise, settings, size=size, start=start)
            for embedding, batch, start in zip(embeddings, self.batches, self._starts(decoder, starts), strict=True)
        )
        firsts = itertools.accumulate((len(batch.rows) for batch in self.batches), initial=0)
        shown = (show_steps(decoder, *pair, self.preview, self.background) for pair in zip(steps, firsts, strict=False))
        return [decoder.finish(x_0) for x_0 in self._run(decoder, shown)]

    def upsample(self, images: list[Tensor], starts: Starts = ALL_FROM_NOISE) -> list[Tensor]:
        """Enlarge the decoder's pictures by every upsampler."""
        for upsampler, size in zip(self.chain.upsamplers, self.chain.sizes[1:], strict=True):
            sample = partial(upsampler.steps, settings=self.settings[upsampler.name], size=size)
            inputs = zip(images, self.batches, self._starts(upsampler, starts), strict=True)
            steps = (sample(low_res, batch.noise, start=start) for low_res, batch, start in inputs)
            images = [upsampler.finish(x_0) for x_0 in self._run(upsampler, steps)]
        return images

    def draw(self, embeddings: list[Tensor], condition: Condition, starts: Starts = ALL_FROM_NOISE) -> list[Tensor]:
        """Draw pictures in [-1, 1] of the image embeddings by decoder and upsamplers."""
        return self.upsample(self.decode(embeddings, condition, starts), starts)

    def _run(self, stage: Stage, steps: Iterable[Iterator[SamplerStep]]) -> Iterator[Tensor]:
        """Run the sampler of each batch; samplers are made while the weights of `stage` are in memory."""
        with self.model.resident(stage):
            yield from each_result(stage.name, steps, len(self.batches), self.progress)

    def _starts(self, stage: Stage, starts: Starts) -> Iterable[Start]:
        return starts.get(stage.name, [FROM_NOISE] * len(self.batches))

    @property
    def pictures(self) -> PictureBatch:
        """All pictures as one batch."""
        rows = [row for batch in self.batches for row in batch.rows]
        seeds = [seed for batch in self.batches for seed in batch.seeds]
        generators = [generator for batch in self.batches for generator in batch.noise.generators]
        return PictureBatch(rows, seeds, NoiseSource(generators))

    @property
    def batch_size(self) -> int:
        """How many pictures go through a network together."""
        return len(self.batches[0].rows)

    def pixels(self, pictures: Sequence[Image.Image], rows: Sequence[int], size: tuple[int, int]) -> Images:
        """Convert the pictures of these rows to [-1, 1], cut and scaled to (height, width), in the model's channels."""
        return cover_all([pictures[row] for row in rows], size, self.model.channels).to(self.model.device)

    def with_pictures(self, pictures: PictureBatch) -> "Job":
        """Return a job that goes on with `pictures`, as many in a batch as here."""
        return replace(self, batches=pictures.split(self.batch_size))

    def split(self, values: Tensor) -> list[Tensor]:
        """Split a tensor with a row for each picture into the rows of each batch."""
        # Copies: kernels sum in another order where memory starts elsewhere, and a stopped job must go on bit for bit.
        return [part.clone() for part in values.to(self.model.device).split(self.batch_size)]

    def result(
        self,
        images: Sequence[Drawn],
        embeddings: list[Tensor] | None,
        cut: Mapping[str, str],
        prompts: list[str] | None = None,
        **settings: Any,
    ) -> Result:
        """Collect the pictures of all batches with the settings that they were drawn with.

        `cut` has the ends of all texts that were too long for their readers, as `Features`; `prompts` has each input's
        text, `settings` are the task's own.
        """
        pictures = self.pictures
        texts = [prompts[row] if prompts else "" for row in pictures.rows]
        stages = {stage: value.model_dump(mode="json") for stage, value in self.settings.items()}
        width, height = picture_size(images[0][0])
        settings |= {"cut": dict(cut)} if cut else {}
        settings |= {"background": show_background(self.background)} if self.model.channels == 4 else {}
        settings.setdefault("image_size", width if width == height else [width, height])
        settings["number_formats"] = {**settings.get("number_formats", {}), **self.model.number_formats(stages)}
        return Result(
            images=[picture for batch in images for picture in convert(batch, self.output_type, self.background)],
            prompts=texts,
            seeds=pictures.seeds,
            image_embeddings=None if embeddings is None else torch.cat(embeddings).float(),
            settings=settings | stages,
            cut=[cut.get(text, "") for text in texts],
            model=self.model.name,
            safety=[OFF] * len(texts),
        )


def begin(
    model: Model,
    options: Mapping[str, Any] | DrawOptions,
    *,
    num_inputs: int = 1,
    num_images: int = 1,
    texts: Sequence[str] = (),
    uses_prior: bool = False,
    uses_decoder: bool = True,
    is_conditional: bool = True,
    negative_prompt: str = "",
    chain: Chain | None = None,
    defaults: Mapping[str, Mapping[str, Any]] | None = None,
) -> Job:
    """Plan a job of `num_images` pictures of each input, inputs first.

    `texts` are those of the inputs: where a decoder reads them, more go together if they have one length.
    `chain` is the one to the size that the options ask for unless a task has another. `defaults` are the task's own
    settings by stage, which take the place of the model's. Raises `InputError` before anything is drawn for invalid
    options, for a decoder of latents without an autoencoder, for a job that `is_conditional` where the decoder reads no
    image embedding, and for a `negative_prompt` that guidance of no stage leads away from.
    """
    check_options(options)
    chain = chain or chain_to(model, options.get("image_size"))
    if uses_decoder and not model.need_decoder.draws_pictures:
        raise InputError(
            f"the decoder of {model.name!r} draws latents, and nothing in the model makes pictures of them; join it "
            "with its autoencoder (unclip assemble --autoencoder, or unclip convert with both)."
        )
    if uses_decoder and is_conditional and not model.need_decoder.config.embedding_dim:
        raise InputError(
            f"the decoder of {model.name!r} reads no image embedding, so it draws neither texts nor pictures; use "
            "`unconditional` (unclip generate --unconditional)."
        )
    preset = model.preset(options.get("preset"))
    stages: dict[str, Stage] = {"prior": model.need_prior} if uses_prior else {}
    stages |= {"decoder": model.need_decoder} if uses_decoder else {}
    stages |= {stage.name: stage for stage in chain.upsamplers}
    settings = resolve_settings(
        {
            name: stage.defaults.replace(**{**preset.get(name, {}), **(defaults or {}).get(name, {})})
            for name, stage in stages.items()
        },
        num_steps=options.get("num_steps"),
        guidance_scale=options.get("guidance_scale"),
        sampler=options.get("sampler"),
    )
    for name, stage in stages.items():
        stage_times(stage.schedule_of(settings[name]), settings[name])  # Raises for more steps than the schedule has.
    seeds = picture_seeds(options.get("seed"), num_inputs, num_images)
    batch_size = options.get("batch_size")
    default = _default_batch_size(model, stages, num_inputs, texts)
    pictures = PictureBatch([place // num_images for place in range(len(seeds))], seeds, NoiseSource.from_seeds(seeds))
    _check_negative(model.name, stages, settings, negative_prompt)
    return Job(
        model=model,
        chain=chain,
        settings=settings,
        batches=pictures.split(default if batch_size is None else check_count("batch_size", batch_size)),
        progress=progress_function(options.get("progress")),
        output_type=options.get("output_type", "pil"),
        background=_background(model, options.get("background")),
        preview=options.get("preview"),
    )


def chain_to(model: Model, image_size: ImageSize | None) -> Chain:
    """Choose the stages for pictures of `image_size`: a side, or (width, height); None is the model's own.

    A picture that is not square goes through the stages of the square that is nearest in area. Raises `InputError` for
    a side that the model does not draw, and for a shape that its networks do not divide.
    """
    decoder, sizes = model.need_decoder, model.image_sizes
    width, height = width_and_height(model.image_size or sizes[-1] if image_size is None else image_size)
    side = min(sizes, key=lambda size: abs(math.log(width * height / size**2)))
    upsamplers = [model.upsampler_stages[size] for size in sizes[1:] if size <= side]
    stages: list[DecoderStage | UpsamplerStage] = [decoder, *upsamplers]
    multiple = shape_multiple(model, side)
    if width == height and width not in sizes:
        raise InputError(
            f"image_size={width} is not one that the model {model.name!r} draws; use one of: "
            f"{', '.join(map(str, sizes))}; or, near {side}, another shape whose sides are divisible by {multiple}, "
            f"such as {side + multiple}x{side}."
        )
    check_divisible((width, height), multiple)
    return Chain(
        upsamplers, [(height * stage.image_size // side, width * stage.image_size // side) for stage in stages]
    )


def shape_multiple(model: Model, side: int) -> int:
    """Return what both sides of a picture that is drawn as a square of `side` would be must be divisible by."""
    upsamplers = [stage for size, stage in model.upsampler_stages.items() if size <= side]
    stages: list[DecoderStage | UpsamplerStage] = [model.need_decoder, *upsamplers]
    return math.lcm(*(stage.size_multiple * (side // stage.image_size) for stage in stages))


def check_divisible(size: tuple[int, int], multiple: int) -> None:
    """Raise `InputError` unless both sides of (width, height) are divisible by `multiple`."""
    if any(side % multiple for side in size):
        near = tuple(max(round(side / multiple), 1) * multiple for side in size)
        raise InputError(
            f"image_size={show_size(size)} has a side that is not divisible by {multiple}, as the networks that draw "
            f"it require; use {show_size((near[0], near[1]))}."
        )


def show_size(image_size: ImageSize) -> str:
    """Write a size as people do: 256, or 384x256."""
    return "x".join(map(str, image_size)) if isinstance(image_size, tuple) else str(image_size)


def width_and_height(image_size: object) -> tuple[int, int]:
    """Return (width, height) of a side or a pair; raises `InputError` for anything else."""
    sides = image_size if isinstance(image_size, tuple | list) else (image_size, image_size)
    if len(sides) != 2 or not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in sides):
        raise InputError(f"image_size={image_size!r} is no size; give a side in pixels, or (width, height).")
    return sides[0], sides[1]


def _default_batch_size(model: Model, stages: Mapping[str, Stage], num_inputs: int, texts: Sequence[str]) -> int:
    """Return how many pictures go through `stages` together by default: on a CPU, as many as change no bit.

    There matrix products in float32 differ with the size of a batch, in bfloat16 they do not with avx512_bf16 (AMX has
    not been tried); and a decoder that reads text pads the texts of a batch to the longest, which moves the sums of its
    attention.
    """
    if model.device.type != "cpu":
        return BATCH_SIZE
    formats = model.number_formats(stages)
    in_bfloat16 = all(formats[name] == "bfloat16" for name in stages)
    reads_text = "decoder" in stages and model.need_decoder.reads_text
    pads_texts = num_inputs > 1 and reads_text and not have_one_length(model, texts)
    return BATCH_SIZE if in_bfloat16 and not pads_texts and not torch.cpu._is_amx_tile_supported() else 1


def _background(model: Model, text: object) -> Background:
    """Read what lies behind the pictures; raises `InputError` for another than white where no coverage is drawn."""
    background = read_background(text)
    if background != WHITE and model.channels != 4:
        raise InputError(
            f"background={text!r} needs pictures with transparency, and {model.name!r} draws opaque ones; leave it "
            "out, or use a model whose stages have 4 channels."
        )
    return background


def count_candidates(model: Model, num_candidates: int | None) -> int:
    """Return how many image embeddings the prior draws of each picture: by default the model's own number."""
    return model.num_candidates if num_candidates is None else check_count("num_candidates", num_candidates)


def _check_negative(
    model: str, stages: Mapping[str, Stage], settings: Mapping[str, StageSettings], negative_prompt: str
) -> None:
    if not isinstance(negative_prompt, str):
        raise InputError(f"negative_prompt is a {type(negative_prompt).__name__}; it is a text, one for all pictures.")
    check_text("negative_prompt", negative_prompt)
    if not negative_prompt:
        return
    readers = [name for name, stage in stages.items() if stage.leads_from_text]
    if not readers:
        raise InputError(
            f"nothing in the model {model!r} that runs here leads away from a text; leave negative_prompt out."
        )
    if all(settings[name].guidance_scale <= 1.0 for name in readers):
        shown = ", ".join(f"{name} {settings[name].guidance_scale:g}" for name in readers)
        raise InputError(
            f"negative_prompt needs guidance above 1; guidance_scale is {shown}. Raise it, or leave the prompt out."
        )


def each_result(
    stage: str, samplers: Iterable[Iterator[SamplerStep]], count: int, progress: Progress
) -> Iterator[Tensor]:
    """Run `count` samplers one after the other, and yield each result as it is ready; steps are counted over all."""
    for number, steps in enumerate(samplers):
        for step in steps:
            progress(stage, number * step.num_steps + step.index + 1, count * step.num_steps)
        yield step.x_t
