"""The face of the package: a loaded model with one method per task, and its stages."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Self, TypeVar, Unpack

import torch
from torch import Tensor

from unclip.clip import TextImageEncoder
from unclip.errors import InputError
from unclip.model.family import Condition
from unclip.model.settings import StageSettings
from unclip.pictures import Picture
from unclip.pipelines.concepts import open_gate, open_probe
from unclip.pipelines.decoder import DecoderStage
from unclip.pipelines.features import Features, encode_prompts
from unclip.pipelines.job import Chain, begin, check_divisible, count_candidates, width_and_height
from unclip.pipelines.model import Model
from unclip.pipelines.options import ImageSize, StageOptions, UpsamplerOptions, check_options
from unclip.pipelines.prior import PriorStage
from unclip.pipelines.settings import check_prompts
from unclip.pipelines.stage import Stage
from unclip.pipelines.tasks.drafts import advance, draft, finish
from unclip.pipelines.tasks.embeddings import Vectors, decode, decoder_features, embed, read_images, read_vectors
from unclip.pipelines.tasks.image_to_image import image_to_image
from unclip.pipelines.tasks.inpaint import inpaint
from unclip.pipelines.tasks.interpolate import interpolate
from unclip.pipelines.tasks.mix import mix
from unclip.pipelines.tasks.outpaint import outpaint
from unclip.pipelines.tasks.probe import fit_basis, probe
from unclip.pipelines.tasks.text_diff import text_diff
from unclip.pipelines.tasks.text_to_image import text_to_image
from unclip.pipelines.tasks.unconditional import unconditional
from unclip.pipelines.tasks.upscale import upscale
from unclip.pipelines.tasks.variations import image_variations
from unclip.pipelines.upsampler import LargeImages, UpsamplerStage
from unclip.safety import Guard, SafetyPolicy, load_policy
from unclip.shapes import Embeddings, Images

S = TypeVar("S", bound=Stage)


@dataclass(frozen=True, repr=False)
class BoundStage(Generic[S]):
    """A stage of a model as people call it: texts, embeddings and pictures in, tensors out.

    A stage on tensors has no CLIP and does not load weights; bound to its model it does.
    """

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
        """Draw `num_images` small pictures of each image embedding: (embeddings * num_images, channels, height, width).

        They lie in [-1, 1] (of 4 channels three are RGB on white, and the last is its coverage), and are those that
        `UnClip.decode` goes on with. `image_size` is a side or (width, height), None the decoder's own. Embeddings,
        `prompt` and options are as for `decode`.
        """
        check_options(options, StageOptions)
        vectors, prompts = read_vectors(self.model, image_embedding, prompt)
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
        """Enlarge small pictures: (pictures, channels, height, width) in [-1, 1].

        `images` are a tensor in [-1, 1], (batch, channels, height, width) or of one picture without the batch, or
        pictures of one size. Of 4 channels three are RGB on white, and the last is its coverage. A square becomes one
        of the upsampler's size; other shapes are enlarged by the factor that makes a square of the decoder one of that
        size. `image_size`, a side or (width, height), sets another. All have the same `seed`, unless it is a sequence.
        For pictures of any size and shape there is `UnClip.upscale`.
        """
        check_options(options, UpsamplerOptions)
        low_res = read_images(images, self.stage.channels).to(self.model.device)
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


class UnClip(Model):
    """A text-to-image model, ready to draw.

    Calling it is `text_to_image`. Each task is a function of a model, and a method here.

    >>> pipe = UnClip.load("emoji")
    >>> result = pipe("a cat with sunglasses", num_images=4, seed=7)
    >>> result.save("cats/")
    """

    __call__ = text_to_image
    text_to_image = text_to_image
    embed = embed
    decode = decode
    draft = draft
    advance = advance
    finish = finish
    image_variations = image_variations
    image_to_image = image_to_image
    text_diff = text_diff
    upscale = upscale
    interpolate = interpolate
    mix = mix
    probe = probe
    fit_basis = fit_basis
    inpaint = inpaint
    outpaint = outpaint
    unconditional = unconditional

    @classmethod
    def load(
        cls,
        name_or_folder: str | Path,
        device: torch.device | str = "auto",
        dtype: torch.dtype | None = None,
        *,
        low_memory: bool = False,
        revision: str | None = None,
        safety: str | Path | SafetyPolicy = "off",
    ) -> Self:
        """Load a model as `Model.load` does, guarded by a safety policy as `with_safety` does."""
        return super().load(name_or_folder, device, dtype, low_memory=low_memory, revision=revision).with_safety(safety)

    def with_safety(self, policy: str | Path | SafetyPolicy) -> Self:
        """Return this model, guarded by a policy: the name of one that ships, a TOML file, or "off".

        Under a guard every task looks at its texts and pictures, at what it would draw and at what it drew; what the
        policy blocks raises `SafetyError`, and `Result.safety` has a report of each picture. Files of a `Result` are
        marked as the policy says. Raises `InputError` and `ConfigError` for a policy that cannot be used, and
        `DependencyError` for a classifier that is not installed.
        """
        loaded = load_policy(policy)
        if loaded is None:
            return dataclasses.replace(self, guard=None)
        guard = Guard.open(loaded)
        gate = open_gate(dataclasses.replace(self, guard=None), loaded)
        guard = dataclasses.replace(guard, gate=gate, probe=open_probe(loaded))
        return dataclasses.replace(self, guard=guard)

    @property
    def model(self) -> Self:
        """The model itself, for programs written for version 0.1."""
        return self

    @property
    def clip(self) -> TextImageEncoder:
        """CLIP with its tokenizer; raises `InputError` where the model has none."""
        return self.need_clip

    @property
    def prior(self) -> BoundPrior:
        """Texts to image embeddings; raises `InputError` where the model has none."""
        return BoundPrior(self, self.need_prior)

    @property
    def decoder(self) -> BoundDecoder:
        """Image embeddings to small pictures; raises `InputError` where the model has none."""
        return BoundDecoder(self, self.need_decoder)

    @property
    def upsamplers(self) -> Mapping[int, BoundUpsampler]:
        """Small pictures to larger ones, by the size that they make."""
        return {size: BoundUpsampler(self, stage) for size, stage in self.upsampler_stages.items()}

    def replace(
        self,
        *,
        clip: "UnClip | None" = None,
        prior: "UnClip | BoundPrior | None" = None,
        decoder: "UnClip | BoundDecoder | None" = None,
        upsamplers: "UnClip | Mapping[int, BoundUpsampler] | None" = None,
    ) -> Self:
        """Return a model with some stages of others; nothing is copied, and this model stays as it is.

        `decoder=other` and `decoder=other.decoder` are the same. A decoder brings the text encoder that it reads, CLIP
        the basis of its embeddings. Raises `CheckpointError` where sizes do not fit, naming both, and `InputError` for
        a model that lacks the stage or is on another device.
        """
        options = {"clip": clip, "prior": prior, "decoder": decoder, "upsamplers": upsamplers}
        donors = {part: _donor(part, donor) for part, donor in options.items() if donor is not None}
        for part, donor in donors.items():
            if donor.device != self.device:
                raise InputError(
                    f"{self.name!r} is on {self.device} and {donor.name!r}, which gives its {part}, on {donor.device}; "
                    "load both on one device."
                )
        homes: dict[str, Model] = {part: donors.get(part, self) for part in options}
        encoders = {"clip": homes["clip"].encoders.get("clip")}
        encoders["text_encoder"] = homes["decoder"].encoders.get("text_encoder")
        stages = {part: homes[part].stages.get(part) for part in ("prior", "decoder")}
        stages |= {stage.name: stage for stage in homes["upsamplers"].upsampler_stages.values()}
        parts = ", ".join(f"{part} of {donor.name}" for part, donor in donors.items())
        models: list[Model] = [self, *donors.values()]
        joined = dataclasses.replace(
            self,
            name=f"{self.name} ({parts})" if parts else self.name,
            encoders={name: encoder for name, encoder in encoders.items() if encoder is not None},
            stages={name: stage for name, stage in stages.items() if stage is not None},
            image_size=None,
            num_candidates=homes["prior"].num_candidates,
            # Made for the stages that were there.
            presets={} if donors else self.presets,
            basis=homes["clip"].basis,
            residences={network: home for model in models for network, home in model.residences.items()},
        )
        keeps_size = self.image_size is not None and self.image_size in joined.image_sizes
        return dataclasses.replace(joined, image_size=self.image_size) if keeps_size else joined


def _donor(part: str, donor: object) -> Model:
    """Return the model that gives `part`; raises `InputError` for anything but a model that has it or its part."""
    match donor:
        case Model():
            if part != "upsamplers":
                getattr(donor, f"need_{part}")
            return donor
        case BoundStage() if part == donor.name:
            return donor.model
        case Mapping() if part == "upsamplers" and len({id(upsampler.model) for upsampler in donor.values()}) == 1:
            stages = {upsampler.name: upsampler.stage for upsampler in donor.values()}
            return dataclasses.replace(next(iter(donor.values())).model, encoders={}, stages=stages)
    raise InputError(f"{part}={donor!r} gives no {part}; write {part}=other or {part}=other.{part} of another UnClip.")
