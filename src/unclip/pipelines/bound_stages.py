"""A model's stages as people call them: texts, embeddings and pictures in, tensors out.

A stage on tensors has no CLIP and does not load weights; bound to its model it does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, Unpack

import torch
from torch import Tensor

from unclip.model.family import Condition
from unclip.model.settings import StageSettings
from unclip.pictures import Picture
from unclip.pipelines.chain import Chain, check_divisible, width_and_height
from unclip.pipelines.decoder import DecoderStage
from unclip.pipelines.features import Features, encode_prompts
from unclip.pipelines.job import begin, count_candidates
from unclip.pipelines.model import Model
from unclip.pipelines.options import ImageSize, StageOptions, UpsamplerOptions, check_options
from unclip.pipelines.prior import PriorStage
from unclip.pipelines.settings import check_prompts
from unclip.pipelines.stage import Stage
from unclip.pipelines.tasks.embeddings import Vectors, decoder_features, read_images, read_prompts, read_vectors
from unclip.pipelines.upsampler import LargeImages, UpsamplerStage
from unclip.shapes import Embeddings, Images

S = TypeVar("S", bound=Stage)


@dataclass(frozen=True, repr=False)
class BoundStage(Generic[S]):
    """A stage of a model."""

    model: Model
    stage: S
    """The stage on tensors."""

    def __repr__(self) -> str:
        return f"<{self.name} of {self.model.name!r}: {self.stage.describe()}>"

    @property
    def name(self) -> str:
        """Name of the stage in settings and files."""
        return self.stage.name

    @property
    def network(self) -> Any:
        """The network that is sampled, a `torch.nn.Module`."""
        return self.stage.network

    @property
    def defaults(self) -> StageSettings:
        """How it is sampled unless a caller says otherwise."""
        return self.stage.defaults


class BoundPrior(BoundStage[PriorStage]):
    """The prior of a model: texts to image embeddings."""

    @torch.no_grad()
    def sample(
        self,
        prompts: str | Sequence[str],
        num_images: int = 1,
        *,
        num_candidates: int | None = None,
        **options: Unpack[StageOptions],
    ) -> Embeddings:
        """Draw `num_images` image embeddings of each text, (prompts * num_images, dim), at the decoder's scale.

        They are those that `text_to_image` draws pictures of with the same seed. Options are as there.
        """
        check_options(options, StageOptions)
        texts, candidates = check_prompts(prompts), count_candidates(self.model, num_candidates)
        job = begin(
            self.model,
            options,
            num_inputs=len(texts),
            num_images=num_images,
            uses_prior=True,
            uses_decoder=False,
            chain=Chain([], []),
        )
        text, null = encode_prompts(self.model, texts)
        features = Features(text, null, text.embedding[:0], Condition(text, null), {})
        return torch.cat(job.sample_prior(features, candidates)).float()


class BoundDecoder(BoundStage[DecoderStage]):
    """The decoder of a model: image embeddings to small pictures."""

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
        **options: Unpack[StageOptions],
    ) -> Images:
        """Draw `num_images` small pictures of each image embedding: (embeddings * num_images, 3, height, width).

        They lie in [-1, 1], and are those that `UnClip.decode` goes on with. `image_size` is a side or (width, height),
        None the decoder's own. Embeddings, `prompt` and options are as for `decode`.
        """
        check_options(options, StageOptions)
        vectors = read_vectors(self.model, image_embedding)
        prompts = read_prompts(prompt, len(vectors))
        width, height = width_and_height(self.image_size if image_size is None else image_size)
        check_divisible((width, height), self.stage.size_multiple)
        chain = Chain([], [(height, width)])
        job = begin(self.model, options, num_inputs=len(vectors), num_images=num_images, chain=chain)
        features = decoder_features(self.model, prompts)
        return torch.cat(job.decode([vectors[batch.rows] for batch in job.batches], features.condition)).float()


class BoundUpsampler(BoundStage[UpsamplerStage]):
    """An upsampler of a model: small pictures to larger ones."""

    @property
    def image_size(self) -> int:
        """Side of its pictures in pixels."""
        return self.stage.image_size

    @torch.no_grad()
    def sample(
        self,
        images: Picture | Sequence[Picture] | Tensor,
        *,
        image_size: ImageSize | None = None,
        **options: Unpack[UpsamplerOptions],
    ) -> LargeImages:
        """Enlarge small pictures: (pictures, 3, height, width) in [-1, 1].

        `images` are a tensor in [-1, 1], (batch, 3, height, width) or of one picture without the batch, or pictures of
        one size. A square becomes one of the upsampler's size; other shapes are enlarged by the factor that makes a
        square of the decoder one of that size. `image_size`, a side or (width, height), sets another. All have the same
        `seed`, unless it is a sequence. For pictures of any size and shape there is `UnClip.upscale`.
        """
        check_options(options, UpsamplerOptions)
        low_res = read_images(images).to(self.model.device)
        height, width = low_res.shape[-2:]
        factor = self.image_size // self.network.config.low_res_size
        if image_size is not None:
            size = width_and_height(image_size)
        else:
            size = (self.image_size, self.image_size) if height == width else (width * factor, height * factor)
        check_divisible(size, self.stage.size_multiple)
        chain = Chain([self.stage], [(height, width), size[::-1]])
        job = begin(self.model, options, num_inputs=len(low_res), uses_decoder=False, chain=chain)
        return torch.cat(job.upsample([low_res[batch.rows] for batch in job.batches])).float()
