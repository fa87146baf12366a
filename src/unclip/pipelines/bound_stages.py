"""A model's stages as people call them: texts, embeddings and pictures in, tensors out.

Each is a stage together with its model, which has what the stage does not know: CLIP, and where weights are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unclip.errors import InputError
from unclip.model.settings import StageSettings
from unclip.models import Upsampler
from unclip.pictures import Picture
from unclip.pipelines.chain import Chain, show_size, width_and_height
from unclip.pipelines.conditioning import AnyDecoder, AnyPrior, Condition
from unclip.pipelines.decoder import DecoderStage
from unclip.pipelines.features import Features, encode_prompts
from unclip.pipelines.job import begin, count_candidates
from unclip.pipelines.model import Model, Stage
from unclip.pipelines.options import DrawOptions, ImageSize, Progress
from unclip.pipelines.prior import PriorStage
from unclip.pipelines.sampling import describe_stage
from unclip.pipelines.settings import check_prompts
from unclip.pipelines.tasks.embeddings import Vectors, decoder_features, read_images, read_prompts, read_vectors
from unclip.pipelines.upsampler import LargeImages, UpsamplerStage
from unclip.shapes import Embeddings, Images


@dataclass(frozen=True, repr=False)
class BoundPrior:
    """The prior of a model: texts to image embeddings."""

    model: Model
    stage: PriorStage
    """The stage on tensors."""

    @property
    def network(self) -> AnyPrior:
        """What is sampled."""
        return self.stage.network

    @property
    def defaults(self) -> StageSettings:
        """How it is sampled unless a caller says otherwise."""
        return self.stage.defaults

    @torch.no_grad()
    def sample(
        self,
        prompts: str | Sequence[str],
        num_images: int = 1,
        *,
        num_candidates: int | None = None,
        seed: int | Sequence[int] | None = None,
        num_steps: int | None = None,
        guidance_scale: float | None = None,
        sampler: str | None = None,
        batch_size: int | None = None,
        progress: Progress | bool | None = None,
    ) -> Embeddings:
        """Draw `num_images` image embeddings of each text, (prompts * num_images, dim), at the decoder's scale.

        They are those that `text_to_image` draws pictures of with the same seed. Settings are as there.
        """
        texts = check_prompts(prompts)
        options = DrawOptions(
            seed=seed,
            num_steps=num_steps,
            guidance_scale=guidance_scale,
            sampler=sampler,
            batch_size=batch_size,
            progress=progress,
        )
        job = begin(
            self.model,
            options,
            num_inputs=len(texts),
            num_images=num_images,
            uses_prior=True,
            uses_decoder=False,
            chain=Chain([], []),
        )
        candidates = count_candidates(self.model, num_candidates)
        text, null = encode_prompts(self.model, texts)
        features = Features(text, null, text.embedding[:0], Condition(text, null), {})
        return torch.cat(job.sample_prior(features, candidates)).float()

    def __repr__(self) -> str:
        return _describe("prior", self.model, self.stage)


@dataclass(frozen=True, repr=False)
class BoundDecoder:
    """The decoder of a model: image embeddings to small pictures."""

    model: Model
    stage: DecoderStage
    """The stage on tensors."""

    @property
    def network(self) -> AnyDecoder:
        """What is sampled."""
        return self.stage.network

    @property
    def defaults(self) -> StageSettings:
        """How it is sampled unless a caller says otherwise."""
        return self.stage.defaults

    @property
    def image_size(self) -> int:
        """Side of its pictures in pixels."""
        return self.stage.image_size

    @torch.no_grad()
    def sample(
        self,
        image_embedding: Vectors,
        num_images: int = 1,
        *,
        prompt: str | Sequence[str] = "",
        image_size: ImageSize | None = None,
        seed: int | Sequence[int] | None = None,
        num_steps: int | None = None,
        guidance_scale: float | None = None,
        sampler: str | None = None,
        batch_size: int | None = None,
        progress: Progress | bool | None = None,
    ) -> Images:
        """Draw `num_images` small pictures of each image embedding: (embeddings * num_images, 3, height, width).

        They lie in [-1, 1], and are those that `UnClip.decode` goes on with. `image_size` is a side or (width, height),
        None the decoder's own. Embeddings, `prompt` and settings are as for `decode`.
        """
        vectors = read_vectors(self.model, image_embedding)
        prompts = read_prompts(prompt, len(vectors))
        width, height = width_and_height(self.image_size if image_size is None else image_size)
        _check_divisible(self.stage, width, height)
        options = DrawOptions(
            seed=seed,
            num_steps=num_steps,
            guidance_scale=guidance_scale,
            sampler=sampler,
            batch_size=batch_size,
            progress=progress,
        )
        chain = Chain([], [(height, width)])
        job = begin(self.model, options, num_inputs=len(vectors), num_images=num_images, chain=chain)
        features = decoder_features(self.model, prompts)
        return torch.cat(job.decode([vectors[batch.rows] for batch in job.batches], features.condition)).float()

    def __repr__(self) -> str:
        return _describe("decoder", self.model, self.stage)


@dataclass(frozen=True, repr=False)
class BoundUpsampler:
    """An upsampler of a model: small pictures to larger ones."""

    model: Model
    stage: UpsamplerStage
    """The stage on tensors."""

    @property
    def network(self) -> Upsampler:
        """What is sampled."""
        return self.stage.network

    @property
    def defaults(self) -> StageSettings:
        """How it is sampled unless a caller says otherwise."""
        return self.stage.defaults

    @property
    def image_size(self) -> int:
        """Side of its pictures in pixels."""
        return self.stage.image_size

    @property
    def name(self) -> str:
        """What the stage is called in settings and files."""
        return self.stage.name

    @torch.no_grad()
    def sample(
        self,
        images: Picture | Sequence[Picture] | Tensor,
        *,
        image_size: ImageSize | None = None,
        seed: int | Sequence[int] | None = None,
        num_steps: int | None = None,
        sampler: str | None = None,
        batch_size: int | None = None,
        progress: Progress | bool | None = None,
    ) -> LargeImages:
        """Enlarge small pictures: (pictures, 3, height, width) in [-1, 1].

        `images` are a tensor in [-1, 1], (batch, 3, height, width) or of one picture without the batch, or pictures of
        one size. A square becomes one of the upsampler's size and other shapes as much larger as that makes a square of
        the decoder; `image_size`, a side or (width, height), says otherwise. All have the same `seed`, unless it is a
        sequence. For pictures of any size and shape there is `UnClip.upscale`.
        """
        low_res, stage = read_images(images).to(self.model.device), self.stage
        height, width = low_res.shape[-2:]
        if image_size is not None:
            large = width_and_height(image_size)
        elif height == width:
            large = (self.image_size, self.image_size)
        else:
            factor = self.image_size // self.network.config.low_res_size
            large = (width * factor, height * factor)
        _check_divisible(stage, *large)
        options = DrawOptions(
            seed=seed,
            num_steps=num_steps,
            sampler=sampler,
            batch_size=batch_size,
            progress=progress,
        )
        chain = Chain([stage], [(height, width), large[::-1]])
        job = begin(self.model, options, num_inputs=len(low_res), uses_decoder=False, chain=chain)
        return torch.cat(job.upsample([low_res[batch.rows] for batch in job.batches])).float()

    def __repr__(self) -> str:
        return _describe(self.name, self.model, self.stage)


def _describe(name: str, model: Model, stage: Stage) -> str:
    return f"<{name} of {model.name!r}: {describe_stage(stage.network, stage.defaults)}>"


def _check_divisible(stage: DecoderStage | UpsamplerStage, width: int, height: int) -> None:
    multiple = stage.size_multiple
    if width % multiple or height % multiple:
        near = [max(round(side / multiple), 1) * multiple for side in (width, height)]
        raise InputError(
            f"image_size={show_size((width, height))} has a side that is not divisible by {multiple}, as the network "
            f"needs it; use {near[0]}x{near[1]}."
        )
