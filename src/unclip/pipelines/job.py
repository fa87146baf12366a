"""One call of a task that draws: its settings, seeds and noise, checked first, then run stage after stage."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from unclip.diffusion import SamplerStep
from unclip.errors import InputError
from unclip.images import cover, from_pil
from unclip.model.family import Condition, select_text
from unclip.model.settings import StageSettings
from unclip.pipelines.chain import Chain, chain_to
from unclip.pipelines.features import Features
from unclip.pipelines.model import Model
from unclip.pipelines.options import DrawOptions, Progress, check_options, progress_function
from unclip.pipelines.result import Drawn, OutputType, Result, convert, size_of
from unclip.pipelines.settings import check_count, check_text, picture_seeds, resolve_settings
from unclip.pipelines.stage import FROM_NOISE, Stage, Start, stage_times
from unclip.runtime import NoiseSource
from unclip.shapes import Images

BATCH_SIZE = 8


class Batch(NamedTuple):
    """Pictures that are drawn together."""

    rows: list[int]
    """The input that each picture is of."""
    seeds: list[int]
    noise: NoiseSource
    """A generator for each picture."""

    def select(self, places: Sequence[int]) -> "Batch":
        """The pictures at `places`; each keeps its generator, which goes on from where it is."""
        noise = NoiseSource([self.noise.generators[place] for place in places])
        return Batch([self.rows[place] for place in places], [self.seeds[place] for place in places], noise)

    def split(self, size: int) -> list["Batch"]:
        """The same pictures, at most `size` at a time."""
        places = range(len(self.rows))
        return [self.select(places[first : first + size]) for first in places[::size]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Job:
    """Pictures to draw, in batches; made by `begin`. Lists of tensors have one for each batch."""

    model: Model
    chain: Chain
    settings: Mapping[str, StageSettings]
    batches: list[Batch]
    progress: Progress
    output_type: OutputType

    def sample_prior(self, features: Features, num_candidates: int = 1) -> list[Tensor]:
        """Sample one image embedding per picture; `batch.rows` maps pictures to prompts."""
        prior, settings = self.model.need_prior, self.settings["prior"]
        texts = [select_text(features.text, batch.rows) for batch in self.batches]
        steps = (
            prior.steps(text, features.null, batch.noise, settings, num_candidates)
            for text, batch in zip(texts, self.batches, strict=True)
        )
        remaining = iter(texts)
        return self._run(prior, steps, lambda x_0: prior.finish(x_0, next(remaining)))

    def decode(
        self, embeddings: list[Tensor], condition: Condition, starts: Iterable[Start] | None = None
    ) -> list[Tensor]:
        """Draw the decoder's pictures in [-1, 1] of the image embeddings."""
        decoder, settings, size = self.model.need_decoder, self.settings["decoder"], self.chain.sizes[0]
        steps = (
            decoder.steps(embedding, condition.select(batch.rows), batch.noise, settings, size=size, start=start)
            for embedding, batch, start in zip(embeddings, self.batches, self._starts(starts), strict=True)
        )
        return self._run(decoder, steps, decoder.finish)

    def upsample(self, images: list[Tensor], starts: Mapping[str, Iterable[Start]] | None = None) -> list[Tensor]:
        """Enlarge the decoder's pictures by every upsampler; `starts` are by stage name."""
        for upsampler, size in zip(self.chain.upsamplers, self.chain.sizes[1:], strict=True):
            sample = partial(upsampler.steps, settings=self.settings[upsampler.name], size=size)
            inputs = zip(images, self.batches, self._starts((starts or {}).get(upsampler.name)), strict=True)
            steps = (sample(low_res, batch.noise, start=start) for low_res, batch, start in inputs)
            images = self._run(upsampler, steps, upsampler.finish)
        return images

    def draw(
        self,
        embeddings: list[Tensor],
        condition: Condition,
        starts: Mapping[str, Iterable[Start]] | None = None,
    ) -> list[Tensor]:
        """Draw pictures in [-1, 1] of the image embeddings by decoder and upsamplers; `starts` are by stage name."""
        return self.upsample(self.decode(embeddings, condition, (starts or {}).get("decoder")), starts)

    def _run(
        self, stage: Stage, steps: Iterable[Iterator[SamplerStep]], finish: Callable[[Tensor], Tensor]
    ) -> list[Tensor]:
        """Run the sampler of each batch; samplers are made while the weights of `stage` are in memory."""
        with self.model.resident(stage):
            return [finish(x_0) for x_0 in each_result(stage.name, steps, len(self.batches), self.progress)]

    def _starts(self, starts: Iterable[Start] | None) -> Iterable[Start]:
        return [FROM_NOISE] * len(self.batches) if starts is None else starts

    @property
    def pictures(self) -> Batch:
        """All pictures as one batch."""
        rows = [row for batch in self.batches for row in batch.rows]
        seeds = [seed for batch in self.batches for seed in batch.seeds]
        generators = [generator for batch in self.batches for generator in batch.noise.generators]
        return Batch(rows, seeds, NoiseSource(generators))

    @property
    def batch_size(self) -> int:
        """How many pictures go through a network together."""
        return len(self.batches[0].rows)

    def pixels(self, pictures: Sequence[Image.Image], rows: Sequence[int], size: tuple[int, int]) -> Images:
        """The pictures of these rows in [-1, 1], cut and scaled to (height, width)."""
        return from_pil([cover(pictures[row], size[::-1]) for row in rows]).to(self.model.device)

    def select(self, places: Sequence[int]) -> "Job":
        """A job that goes on with the pictures at `places` alone, in that order."""
        return replace(self, batches=self.pictures.select(places).split(self.batch_size))

    def split(self, values: Tensor) -> list[Tensor]:
        """The rows of each batch, from a row for each picture."""
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
        settings |= {"cut": dict(cut)} if cut else {}
        width, height = size_of(images[0])
        stages = {stage: value.model_dump(mode="json") for stage, value in self.settings.items()}
        return Result(
            images=[picture for batch in images for picture in convert(batch, self.output_type)],
            prompts=texts,
            seeds=pictures.seeds,
            image_embeddings=None if embeddings is None else torch.cat(embeddings).float(),
            settings={
                **settings,
                "image_size": width if width == height else [width, height],
                "number_formats": {**settings.get("number_formats", {}), **self.model.number_formats(stages)},
                **stages,
            },
            cut=[cut.get(text, "") for text in texts],
            model=self.model.name,
        )


def begin(
    model: Model,
    options: Mapping[str, Any] | DrawOptions,
    *,
    num_inputs: int = 1,
    num_images: int = 1,
    uses_prior: bool = False,
    uses_decoder: bool = True,
    is_conditional: bool = True,
    chain: Chain | None = None,
    defaults: Mapping[str, Mapping[str, Any]] | None = None,
) -> Job:
    """Plan a job of `num_images` pictures of each input, inputs first.

    `chain` is the one to the size that the options ask for unless a task has another. `defaults` are the task's own
    settings by stage, which take the place of the model's. Raises `InputError` before anything is drawn for invalid
    options, and for a job that `is_conditional` where the decoder reads no image embedding.
    """
    check_options(options)
    chain = chain or chain_to(model, options.get("image_size"))
    if uses_decoder and is_conditional and not model.need_decoder.network.config.embedding_dim:
        raise InputError(
            f"the decoder of {model.name!r} reads no image embedding, so it draws neither texts nor pictures; use "
            "`unconditional` (unclip generate --unconditional)."
        )
    stages: dict[str, Stage] = {"prior": model.need_prior} if uses_prior else {}
    stages |= {"decoder": model.need_decoder} if uses_decoder else {}
    stages |= {stage.name: stage for stage in chain.upsamplers}
    seeds = picture_seeds(options.get("seed"), num_inputs, num_images)
    batch_size = options.get("batch_size")
    default = default_batch_size(model, stages, num_inputs)
    pictures = Batch([place // num_images for place in range(len(seeds))], seeds, NoiseSource.from_seeds(seeds))
    return Job(
        model=model,
        chain=chain,
        settings=resolve_options(stages, options, defaults),
        batches=pictures.split(default if batch_size is None else check_count("batch_size", batch_size)),
        progress=progress_function(options.get("progress")),
        output_type=options.get("output_type", "pil"),
    )


def resolve_options(
    stages: Mapping[str, Stage],
    options: Mapping[str, Any] | DrawOptions,
    defaults: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, StageSettings]:
    """Settings of `stages`: what `options` ask for, else the task's `defaults`, else the model's."""
    task_defaults = defaults or {}
    settings = resolve_settings(
        {name: stage.defaults.replace(**task_defaults.get(name, {})) for name, stage in stages.items()},
        [name for name in stages if name not in ("prior", "decoder")],
        num_steps=options.get("num_steps"),
        guidance_scale=options.get("guidance_scale"),
        sampler=options.get("sampler"),
    )
    for name, stage in stages.items():
        stage_times(stage.schedule_of(settings[name]), settings[name])  # Raises for more steps than the schedule has.
    return settings


def default_batch_size(model: Model, stages: Mapping[str, Stage], num_inputs: int) -> int:
    """How many pictures go through `stages` together by default: on a CPU, as many as change no bit.

    There matrix products in float32 differ with the size of a batch, in bfloat16 they do not with avx512_bf16 (AMX has
    not been tried); and a decoder that reads text pads the texts of a batch to the longest, which moves the sums of its
    attention.
    """
    if model.device.type != "cpu":
        return BATCH_SIZE
    formats = model.number_formats(stages)
    in_bfloat16 = all(formats[name] == "bfloat16" for name in stages)
    pads_texts = num_inputs > 1 and "decoder" in stages and model.need_decoder.reads_text
    return BATCH_SIZE if in_bfloat16 and not pads_texts and not torch.cpu._is_amx_tile_supported() else 1


def count_candidates(model: Model, num_candidates: int | None) -> int:
    """Image embeddings that the prior draws of each picture: what a caller asks for, else the model's own number."""
    return model.num_candidates if num_candidates is None else check_count("num_candidates", num_candidates)


def check_negative(job: Job, negative_prompt: str) -> None:
    """Raise `InputError` unless guidance of a stage of the job leads away from `negative_prompt`, or it is empty."""
    if not isinstance(negative_prompt, str):
        raise InputError(f"negative_prompt is a {type(negative_prompt).__name__}; it is a text, one for all pictures.")
    check_text("negative_prompt", negative_prompt)
    if not negative_prompt:
        return
    scales = {
        name: settings.guidance_scale
        for name, settings in job.settings.items()
        if name in ("prior", "decoder") and job.model.stages[name].leads_from_text
    }
    if not scales:
        raise InputError(
            f"nothing in the model {job.model.name!r} that runs here leads away from a text; leave negative_prompt out."
        )
    if max(scales.values()) <= 1.0:
        shown = ", ".join(f"{name} {scale:g}" for name, scale in scales.items())
        raise InputError(
            f"negative_prompt needs guidance above 1; guidance_scale is {shown}. Raise it, or leave the prompt out."
        )


def each_result(
    stage: str, samplers: Iterable[Iterator[SamplerStep]], count: int, progress: Progress
) -> Iterator[Tensor]:
    """Run `count` samplers one after the other, and give each result when it is there.

    So not all have to be in memory. Steps are counted over all of them.
    """
    for number, steps in enumerate(samplers):
        for step in steps:
            progress(stage, number * step.num_steps + step.index + 1, count * step.num_steps)
        yield step.x_t


def run_steps(stage: str, samplers: Iterable[Iterator[SamplerStep]], count: int, progress: Progress) -> list[Tensor]:
    """The results of `each_result` in a list."""
    return list(each_result(stage, samplers, count, progress))
