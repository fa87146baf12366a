"""A loaded model: its encoders and stages, where their weights are, and how it is read and written."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeAlias, TypeVar

import torch
from torch import nn

from unclip.checkpoint import LazyTensor, NetworkWeights, Storage
from unclip.clip import MultilingualEncoder, TextImageEncoder
from unclip.errors import InputError, did_you_mean
from unclip.model.basis import EmbeddingBasis
from unclip.model.checks import Part, check_fit
from unclip.model.families import ENCODERS, build_on_meta
from unclip.model.folder import Defaults, ModelSource, open_stages, upsampler_names, write_model
from unclip.model.opening import open_sources
from unclip.model.residence import Residence
from unclip.model.settings import Presets
from unclip.pipelines.decoder import DecoderStage
from unclip.pipelines.prior import PriorStage
from unclip.pipelines.stage import Stage, describe_network
from unclip.pipelines.upsampler import UpsamplerStage
from unclip.runtime import encoder_dtype, inference_dtype, resolve_device
from unclip.safety import Guard

Encoder: TypeAlias = TextImageEncoder | MultilingualEncoder
P = TypeVar("P")
ENCODER_CLASSES: Mapping[str, Any] = {"clip": TextImageEncoder, "text_encoder": MultilingualEncoder}


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """Encoders and stages that fit together. Tasks take one of these.

    Published models may lack a part; a task asks for those it needs by `need_clip` and so on. Raises `CheckpointError`
    where two parts disagree on the size of what passes between them.
    """

    name: str
    encoders: Mapping[str, Encoder]
    """`clip`, and `text_encoder` where the decoder reads prompts through another encoder than CLIP (Kandinsky 2.1)."""
    stages: Mapping[str, Stage]
    """`prior`, `decoder` and upsamplers by names such as `upsampler_256`, in the order in which they are sampled."""
    image_size: int | None = None
    """Side of the pictures unless a caller asks for another; None is the largest."""
    num_candidates: int = 2
    """Image embeddings to choose from unless a caller asks for another number."""
    presets: Presets = field(default_factory=dict)
    """Other settings of its stages by name; see `Defaults.presets`."""
    device: torch.device = torch.device("cpu")  # noqa: RUF009
    """Where the networks are, or will be."""
    guard: Guard | None = None
    """What looks at requests and pictures, by a safety policy; None: nothing does."""
    basis: EmbeddingBasis | None = None
    """The principal components of image embeddings, for probing."""
    residences: Mapping[nn.Module, Residence] = field(default_factory=dict)
    """Where the weights of networks come from; a network that was built in memory has no entry."""

    def __post_init__(self) -> None:
        parts: dict[str, Part] = {name: network.config for name, network in self.networks.items()}
        if self.basis is not None:
            parts["embedding basis"] = self.basis
        check_fit(parts)

    def __repr__(self) -> str:
        sizes = f": {', '.join(map(str, self.image_sizes))} px" if "decoder" in self.stages else ""
        lines = [f"<{type(self).__name__} {self.name!r} on {self.device}{sizes}"]
        lines += [f"{name}: {describe_network(_network(encoder))}" for name, encoder in self.encoders.items()]
        names = {stage.name: f"upsamplers[{size}]" for size, stage in self.upsampler_stages.items()}
        lines += [f"{names.get(name, name)}: {stage.describe()}" for name, stage in self.stages.items()]
        return "\n  ".join(lines) + ">"

    @property
    def need_clip(self) -> TextImageEncoder:
        """CLIP; raises `InputError` where the model has none."""
        return self._need(self.encoders.get("clip"), TextImageEncoder, "CLIP")

    @property
    def need_prior(self) -> PriorStage:
        """The prior; raises `InputError` where the model has none."""
        return self._need(self.stages.get("prior"), PriorStage, "prior")

    @property
    def need_decoder(self) -> DecoderStage:
        """The decoder; raises `InputError` where the model has none."""
        return self._need(self.stages.get("decoder"), DecoderStage, "decoder")

    @property
    def need_upsampler(self) -> UpsamplerStage:
        """The last upsampler; raises `InputError` where the model has none."""
        stages = self.upsampler_stages
        return self._need(stages.get(max(stages, default=0)), UpsamplerStage, "upsampler")

    def _need(self, part: object, kind: type[P], what: str) -> P:
        if part is None:
            raise InputError(
                f"the model {self.name!r} has no {what}, which this needs; use a model that has one, or convert this "
                "one together with one. Without a prior, tasks that need no text draw from pictures; a decoder alone "
                "draws by `unconditional` (unclip generate --unconditional)."
            )
        assert isinstance(part, kind), f"a {type(part).__name__} stands where a {kind.__name__} should"
        return part

    @property
    def upsampler_stages(self) -> dict[int, UpsamplerStage]:
        """Upsamplers by the size that they make."""
        return {stage.image_size: stage for stage in self.stages.values() if isinstance(stage, UpsamplerStage)}

    @property
    def image_sizes(self) -> list[int]:
        """Sides of the pictures that the model draws, smallest first."""
        return [self.need_decoder.image_size, *sorted(self.upsampler_stages)]

    @property
    def channels(self) -> int:
        """Channels of the pictures that its stages draw: 3, or 4 where RGB on white is followed by its coverage."""
        drawing = [stage for stage in self.stages.values() if isinstance(stage, DecoderStage | UpsamplerStage)]
        return drawing[0].channels if drawing else 3

    @property
    def networks(self) -> dict[str, Any]:
        """All networks by the names of their files."""
        networks = {name: _network(encoder) for name, encoder in self.encoders.items()}
        return networks | {name: network for stage in self.stages.values() for name, network in stage.networks.items()}

    def number_formats(self, stages: Iterable[str]) -> dict[str, str]:
        """Return the format that each encoder, and each of these `stages`, computes in, such as bfloat16."""
        formats = {name: encoder.compute_dtype or self._dtype(name) for name, encoder in self.encoders.items()}
        formats |= {name: self._dtype(name) for name in self.stages if name in stages}
        return {name: str(dtype).removeprefix("torch.") for name, dtype in formats.items()}

    def _dtype(self, name: str) -> torch.dtype:
        network = self.networks[name]
        # A network that waits on the meta device does not know what it will be filled with.
        residence = self.residences.get(network)
        return next(network.parameters()).dtype if residence is None else residence.dtype

    def preset(self, name: str | None) -> Mapping[str, Mapping[str, Any]]:
        """Return the settings by stage of the preset `name`, none for None; raises `InputError` for an unknown one."""
        if name is None:
            return {}
        if name not in self.presets:
            known = did_you_mean(str(name), self.presets) if self.presets else "it has none; leave preset out."
            raise InputError(f"the model {self.name!r} has no preset {name!r}; {known}")
        return self.presets[name]

    @contextmanager
    def resident(self, part: Encoder | Stage) -> Iterator[None]:
        """Hold the weights of `part` in memory inside the block; without `load(low_memory=True)` they always are."""
        with ExitStack() as stack:
            for network in part.networks.values() if isinstance(part, Stage) else [_network(part)]:
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
        """Load a model: a shipped one by name, a folder, or a hub repository (`owner/name`).

        Folders and repositories have the native layout or a known third-party one, such as diffusers' unCLIP;
        `revision` is a repository's branch, tag or commit, and what is cached needs no network. `device` is auto, cpu,
        cuda or mps. `dtype` is the number format of the weights, by default bfloat16 where the device multiplies it
        natively, else float32; weights that a CPU can use as they are stored stay in their files, mapped. With
        `low_memory` one stage at a time is in memory, read anew for each task.

        Raises `InputError` for an unknown name (with the nearest one), `CheckpointError` for files that are missing,
        damaged, something else, or do not fit each other, and `ConfigError` for networks without a native equivalent.
        """
        source = open_sources([name_or_folder], revision, check=False).source
        return cls.from_source(source, device, dtype, low_memory=low_memory)

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
        """Build the networks of a model that is not loaded; arguments and errors are as for `load`."""
        device = resolve_device(str(device))
        if dtype not in (None, torch.float64, torch.float32, torch.bfloat16, torch.float16):
            raise InputError(
                f"dtype={dtype!r} is not a number format to draw in; give torch.bfloat16, torch.float16 or "
                "torch.float32, or None for the device's best."
            )
        networks = {name: build_on_meta(weights.config) for name, weights in source.networks.items()}
        dtypes = {name: torch.float32 if name in ENCODERS else dtype or inference_dtype(device) for name in networks}
        settings, stages = source.defaults.stages, dict[str, Stage]()
        if "prior" in networks:
            stages["prior"] = PriorStage(networks["prior"], settings["prior"])
        if "decoder" in networks:
            stages["decoder"] = DecoderStage(networks["decoder"], settings["decoder"], networks.get("autoencoder"))
        for name in upsampler_names(networks):
            stages[name] = UpsamplerStage(networks[name], settings[name], networks.get(f"{name}_last"))
        model = cls(
            name=source.name,
            encoders={
                name: kind(networks[name], source.tokenizers[name], encoder_dtype(device))
                for name, kind in ENCODER_CLASSES.items()
                if name in networks
            },
            stages=stages,
            image_size=source.defaults.image_size,
            num_candidates=source.defaults.num_candidates,
            presets=source.defaults.presets,
            device=device,
            basis=source.basis,
            residences={
                network: Residence(source.networks[name], device, dtypes[name], stays=not low_memory)
                for name, network in networks.items()
            },
        )
        # Weights are read last: parts that do not fit are refused before.
        for network, residence in model.residences.items():
            if residence.stays:
                residence.fill(network)
        return model

    def save(self, folder: str | Path, storage: Storage | None = None) -> None:
        """Write a model folder that `load` reads.

        `storage` is float32, bfloat16 or int8 (per output channel); None writes every tensor as it was stored, bit for
        bit, whatever number format it is used in. What was changed in memory is written as it is there.
        """
        write_model(self.source(), Path(folder), storage)

    def source(self) -> ModelSource:
        """Return the model as it would be read from files."""
        weights = {}
        for name, network in self.networks.items():
            if network in self.residences:
                weights[name] = self.residences[network].to_save(network)
            else:
                tensors = {key: LazyTensor.of(value.detach().cpu()) for key, value in network.state_dict().items()}
                weights[name] = NetworkWeights(type(network).__name__, network.config, tensors, name)
        return ModelSource(
            name=self.name,
            networks=weights,
            tokenizers={name: encoder.tokenizer for name, encoder in self.encoders.items()},
            defaults=Defaults(
                image_size=self.image_size,
                num_candidates=self.num_candidates,
                stages={name: stage.defaults for name, stage in self.stages.items()},
                presets=self.presets,
            ),
            basis=self.basis,
        )


def _network(encoder: Encoder) -> nn.Module:
    return encoder.clip if isinstance(encoder, TextImageEncoder) else encoder.network
