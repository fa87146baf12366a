"""A model: its stages and where they run. Knows its networks and what fits together; not what is done with them."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, TypeAlias, TypeVar

import torch
from torch import nn

from unclip.checkpoint import LazyTensor, NetworkWeights, Storage
from unclip.clip import MultilingualEncoder, MultilingualTokenizer, TextImageEncoder, Tokenizer
from unclip.errors import InputError
from unclip.model.basis import EmbeddingBasis
from unclip.model.checks import Part, check_fit
from unclip.model.families import ENCODERS, build_on_meta
from unclip.model.folder import Defaults, ModelSource, open_stages, upsampler_names, write_model
from unclip.model.opening import open_sources
from unclip.model.residence import Residence
from unclip.pipelines.decoder import DecoderStage
from unclip.pipelines.prior import PriorStage
from unclip.pipelines.upsampler import UpsamplerStage
from unclip.runtime import encoder_dtype, inference_dtype, resolve_device

Stage: TypeAlias = PriorStage | DecoderStage | UpsamplerStage
Encoder: TypeAlias = TextImageEncoder | MultilingualEncoder
P = TypeVar("P")


@dataclass(frozen=True, eq=False)
class Model:
    """CLIP, a prior, a decoder and any number of upsamplers that fit together. Tasks take one of these.

    Published models may lack a part; a task asks for those it needs by `need_clip` and so on.
    """

    name: str
    clip: TextImageEncoder | None
    prior: PriorStage | None
    decoder: DecoderStage | None
    upsamplers: Mapping[int, UpsamplerStage]
    """Upsamplers by the size that they make."""
    image_size: int | None = None
    """Side of the pictures unless a caller asks for another; None is the largest."""
    num_candidates: int = 2
    """Image embeddings to choose from unless a caller asks for another number."""
    device: torch.device = torch.device("cpu")  # noqa: RUF009
    """Where the networks are, or will be."""
    text_encoder: MultilingualEncoder | None = None
    """What the decoder's prompts go through where it reads another text encoder than CLIP (Kandinsky 2.1)."""
    basis: EmbeddingBasis | None = None
    """The principal components of image embeddings, for probing."""
    residences: Mapping[nn.Module, Residence] = field(default_factory=dict)
    """Where the weights of networks come from; a network that was built in memory has no entry."""

    def __post_init__(self) -> None:
        """Raise `CheckpointError` where two stages disagree on the size of what passes between them."""
        parts: dict[str, Part] = {name: network.config for name, network in self._networks().items()}
        if self.basis is not None:
            parts["embedding basis"] = self.basis
        check_fit(parts)

    @property
    def need_clip(self) -> TextImageEncoder:
        """CLIP; raises `InputError` where the model has none."""
        return self._need(self.clip, "CLIP")

    @property
    def need_prior(self) -> PriorStage:
        """The prior; raises `InputError` where the model has none."""
        return self._need(self.prior, "prior")

    @property
    def need_decoder(self) -> DecoderStage:
        """The decoder; raises `InputError` where the model has none."""
        return self._need(self.decoder, "decoder")

    @property
    def need_upsampler(self) -> UpsamplerStage:
        """The last upsampler; raises `InputError` where the model has none."""
        return self._need(self.upsamplers.get(max(self.upsamplers, default=0)), "upsampler")

    @property
    def image_sizes(self) -> list[int]:
        """Sides of the pictures that the model draws, smallest first."""
        return [self.need_decoder.image_size, *sorted(self.upsamplers)]

    def number_formats(self, stages: Iterable[str]) -> dict[str, str]:
        """The number format that each part computes in, such as bfloat16: of the encoders, and of these `stages`."""
        formats = {}
        for name, part in {"clip": self.clip, "text_encoder": self.text_encoder}.items():
            if part is not None:
                formats[name] = part.compute_dtype or self._dtype(next(iter(_networks(part).values())))
        formats |= {name: self._dtype(stage.network) for name, stage in self._sampled().items() if name in stages}
        return {name: str(dtype).removeprefix("torch.") for name, dtype in formats.items()}

    def _dtype(self, network: nn.Module) -> torch.dtype:
        # A network that waits on the meta device does not know what it will be filled with.
        home = self.residences.get(network)
        return next(network.parameters()).dtype if home is None else home.dtype

    @contextmanager
    def resident(self, part: Encoder | Stage) -> Iterator[None]:
        """Hold the weights of `part` in memory inside the block; without `load(low_memory=True)` they always are."""
        with ExitStack() as stack:
            for network in _networks(part).values():
                if network in self.residences:
                    stack.enter_context(self.residences[network].resident(network))
            yield

    @classmethod
    def load(
        cls,
        name_or_folder: str | Path,
        device: torch.device | str = "auto",
        dtype: torch.dtype | None = None,
        *,
        low_memory: bool = False,
        revision: str | None = None,
    ) -> Self:
        """Read a model wherever it is; see `UnClip.load`."""
        return cls.from_source(open_sources([name_or_folder], revision).source, device, dtype, low_memory=low_memory)

    @classmethod
    def assemble(
        cls,
        name: str,
        folders: Mapping[str, Path],
        defaults: Defaults,
        device: torch.device | str = "auto",
        dtype: torch.dtype | None = None,
    ) -> Self:
        """Join stages from several folders, such as those of training runs: `folders` says where each stage is.

        `folders` and `defaults.stages` name the stages as `config.json` does. Raises like `load`.
        """
        return cls.from_source(open_stages(name, folders, defaults), device, dtype)

    @classmethod
    def from_source(
        cls,
        source: ModelSource,
        device: torch.device | str = "auto",
        dtype: torch.dtype | None = None,
        *,
        low_memory: bool = False,
    ) -> Self:
        """Build the networks of a model that is not loaded; see `UnClip.load`."""
        device = resolve_device(str(device))
        if dtype not in (None, torch.float64, torch.float32, torch.bfloat16, torch.float16):
            raise InputError(
                f"dtype={dtype!r} is not a number format to draw in; give torch.bfloat16, torch.float16 or "
                "torch.float32, or None for the device's best."
            )
        networks = {stage: build_on_meta(weights.config) for stage, weights in source.networks.items()}
        residences = {
            network: Residence(
                source.networks[stage],
                device,
                torch.float32 if stage in ENCODERS else dtype or inference_dtype(device),
                stays=not low_memory,
            )
            for stage, network in networks.items()
        }
        if not low_memory:
            for network, residence in residences.items():
                residence.fill(network)
        parts = _parts(networks, source, encoder_dtype(device))
        upsamplers = [part for part in parts.values() if isinstance(part, UpsamplerStage)]
        return cls(
            name=source.name,
            clip=_part(parts, "clip", TextImageEncoder),
            prior=_part(parts, "prior", PriorStage),
            decoder=_part(parts, "decoder", DecoderStage),
            text_encoder=_part(parts, "text_encoder", MultilingualEncoder),
            upsamplers={stage.image_size: stage for stage in upsamplers},
            image_size=source.defaults.image_size,
            num_candidates=source.defaults.num_candidates,
            device=device,
            basis=source.basis,
            residences=residences,
        )

    def save(self, folder: str | Path, storage: Storage | None = None) -> None:
        """Write the model folder; see `UnClip.save`."""
        write_model(self.source(), Path(folder), storage)

    def source(self) -> ModelSource:
        """The model as it would be read from files."""
        defaults = Defaults(
            image_size=self.image_size,
            num_candidates=self.num_candidates,
            stages={name: stage.defaults for name, stage in self._sampled().items()},
        )
        encoders = {"clip": self.clip, "text_encoder": self.text_encoder}
        tokenizers = {name: encoder.tokenizer for name, encoder in encoders.items() if encoder is not None}
        weights = {name: self._weights(name, network) for name, network in self._networks().items()}
        return ModelSource(self.name, weights, tokenizers, defaults, self.basis)

    def _weights(self, name: str, network: Any) -> NetworkWeights:
        if network in self.residences:
            return self.residences[network].to_save(network)
        tensors = {key: LazyTensor.of(value.detach().cpu()) for key, value in network.state_dict().items()}
        return NetworkWeights(type(network).__name__, network.config, tensors, name)

    def _networks(self) -> dict[str, Any]:
        """All networks by the names of their files."""
        parts: list[Encoder | Stage | None] = [self.clip, self.text_encoder, *self._sampled().values()]
        return {name: network for part in parts if part for name, network in _networks(part).items()}

    def _sampled(self) -> dict[str, Stage]:
        stages = {"prior": self.prior, "decoder": self.decoder, **{s.name: s for s in self.upsamplers.values()}}
        return {name: stage for name, stage in stages.items() if stage is not None}

    def _need(self, part: P | None, what: str) -> P:
        if part is None:
            raise InputError(
                f"the model {self.name!r} has no {what}, which this needs; use a model that has one, or convert this "
                "one together with one. Without a prior, tasks that need no text draw from pictures; a decoder alone "
                "draws by `unconditional` (unclip generate --unconditional)."
            )
        return part


def _parts(networks: Mapping[str, Any], source: ModelSource, compute_dtype: torch.dtype) -> dict[str, Encoder | Stage]:
    """Stages and encoders of networks, by the names of their files; encoders compute in `compute_dtype`."""
    settings = source.defaults.stages
    parts: dict[str, Encoder | Stage] = {}
    for name in upsampler_names(networks):
        parts[name] = UpsamplerStage(networks[name], settings[name], networks.get(f"{name}_last"))
    if "clip" in networks:
        parts["clip"] = TextImageEncoder(networks["clip"], _expect(source.tokenizers["clip"], Tokenizer), compute_dtype)
    if "text_encoder" in networks:
        tokenizer = _expect(source.tokenizers["text_encoder"], MultilingualTokenizer)
        parts["text_encoder"] = MultilingualEncoder(networks["text_encoder"], tokenizer, compute_dtype)
    if "prior" in networks:
        parts["prior"] = PriorStage(networks["prior"], settings["prior"])
    if "decoder" in networks:
        parts["decoder"] = DecoderStage(networks["decoder"], settings["decoder"], networks.get("autoencoder"))
    return parts


def _part(parts: Mapping[str, Encoder | Stage], name: str, kind: type[P]) -> P | None:
    return _expect(parts[name], kind) if name in parts else None


def _expect(part: object, kind: type[P]) -> P:
    assert isinstance(part, kind), f"a {type(part).__name__} stands where a {kind.__name__} should"
    return part


def _networks(part: Encoder | Stage) -> dict[str, nn.Module]:
    """The networks of a part by the names of their files."""
    match part:
        case TextImageEncoder():
            return {"clip": part.clip}
        case MultilingualEncoder():
            return {"text_encoder": part.network}
        case PriorStage():
            return {"prior": part.network}
        case DecoderStage():
            latents = {} if part.autoencoder is None else {"autoencoder": part.autoencoder}
            return {"decoder": part.network, **latents}
        case UpsamplerStage():
            last = {} if part.last is None else {f"{part.name}_last": part.last}
            return {part.name: part.network, **last}


def swap(
    model: Model,
    *,
    clip: Model | None = None,
    prior: Model | None = None,
    decoder: Model | None = None,
    upsamplers: Model | None = None,
) -> Model:
    """Join `model` with parts of others; see `UnClip.replace` for the arguments."""
    given = {"clip": clip, "prior": prior, "decoder": decoder, "upsamplers": upsamplers}
    donors = {part: donor for part, donor in given.items() if donor is not None}
    for part, donor in donors.items():
        if donor.device != model.device:
            raise InputError(
                f"{model.name!r} is on {model.device} and {donor.name!r}, which gives its {part}, on {donor.device}; "
                "load both on one device."
            )
    swapped = replace(
        model,
        name=_name(model, donors),
        clip=model.clip if clip is None else clip.need_clip,
        basis=(clip or model).basis,
        prior=model.prior if prior is None else prior.need_prior,
        num_candidates=(prior or model).num_candidates,
        decoder=model.decoder if decoder is None else decoder.need_decoder,
        text_encoder=(decoder or model).text_encoder,
        upsamplers=(upsamplers or model).upsamplers,
        residences={key: home for part in (model, *donors.values()) for key, home in part.residences.items()},
    )
    return swapped if swapped.image_size in swapped.image_sizes else replace(swapped, image_size=None)


def _name(model: Model, donors: Mapping[str, Model]) -> str:
    """What the model is called from now on: `emoji (decoder of mine)`."""
    parts = ", ".join(f"{part} of {donor.name}" for part, donor in donors.items())
    return f"{model.name} ({parts})" if parts else model.name
