"""A model: its stages and where they run. Knows its folder; not what is done with the stages."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

import torch
from torch import nn

from unclip.checkpoint import Storage, save_module
from unclip.clip import TextImageEncoder
from unclip.config import load_config
from unclip.diffusion import time_grid
from unclip.errors import CheckpointError, InputError
from unclip.files import atomic_write
from unclip.models import Decoder, Prior, Upsampler
from unclip.pipelines.decoder_stage import DecoderStage
from unclip.pipelines.folder import CONFIG_FILE, Defaults, ModelConfig, find_model, load_network, read_model_config
from unclip.pipelines.prior_stage import PriorStage
from unclip.pipelines.settings import PerStage, StageSettings, settle
from unclip.pipelines.upsampler_stage import UpsamplerStage
from unclip.runtime import inference_dtype, resolve_device

__all__ = ["Model"]

N = TypeVar("N", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class Model:
    """CLIP, a prior, a decoder and any number of upsamplers that fit together. Tasks take one of these."""

    name: str
    clip: TextImageEncoder
    prior: PriorStage
    decoder: DecoderStage
    upsamplers: Mapping[int, UpsamplerStage]
    """Upsamplers by the size that they make."""
    image_size: int | None = None
    """Side of the pictures unless a caller asks for another; None is the largest."""
    num_candidates: int = 2
    """Image embeddings to choose from unless a caller asks for another number."""

    def __post_init__(self) -> None:
        """Raise `CheckpointError` where two stages disagree on the size of what passes between them."""
        clip, prior, decoder = self.clip.clip.config, self.prior.network.config, self.decoder.network.config
        _check_fit("image embedding", clip=clip.embedding_dim, prior=prior.embedding_dim, decoder=decoder.embedding_dim)
        if prior.num_text_tokens:
            _check_fit("token width", clip=clip.text_width, prior=prior.text_dim or prior.embedding_dim)
            _check_fit("prompt length", clip=clip.context_length, prior=prior.num_text_tokens)
        if decoder.text_dim:
            _check_fit("token width", clip=clip.text_width, decoder=decoder.text_dim)
        if decoder.text_transformer is not None:
            _check_fit("prompt length", clip=clip.context_length, decoder=decoder.text_transformer.num_text_tokens)

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.prior.network.query.device

    @property
    def image_sizes(self) -> list[int]:
        """Sides of the pictures that the model draws, smallest first."""
        return [self.decoder.image_size, *sorted(self.upsamplers)]

    def upsamplers_to(self, image_size: int | None) -> list[UpsamplerStage]:
        """The upsamplers to run in turn for `image_size`; raises `InputError` naming the sizes there are."""
        size = image_size if image_size is not None else self.image_size or self.image_sizes[-1]
        if size not in self.image_sizes:
            allowed = ", ".join(str(known) for known in self.image_sizes)
            raise InputError(f"image_size={size} is not one that the model {self.name!r} draws; use one of: {allowed}.")
        return [self.upsamplers[known] for known in sorted(self.upsamplers) if known <= size]

    def settle(
        self,
        upsamplers: list[UpsamplerStage],
        *,
        num_steps: PerStage[int] = None,
        guidance_scale: PerStage[float] = None,
        sampler: PerStage[str] = None,
    ) -> dict[str, StageSettings]:
        """Settings of prior, decoder and `upsamplers`: what is asked for, else its own. Raises like `settle`."""
        stages = self._sampled(upsamplers)
        settings = settle(
            {name: stage.defaults for name, stage in stages.items()},
            [stage.name for stage in upsamplers],
            num_steps=num_steps,
            guidance_scale=guidance_scale,
            sampler=sampler,
        )
        for name, stage in stages.items():
            time_grid(stage.schedule, settings[name].num_steps)
        return settings

    def _sampled(self, upsamplers: list[UpsamplerStage]) -> dict[str, PriorStage | DecoderStage | UpsamplerStage]:
        return {"prior": self.prior, "decoder": self.decoder, **{stage.name: stage for stage in upsamplers}}

    @classmethod
    def load(
        cls, name_or_folder: str | Path, device: torch.device | str = "auto", dtype: torch.dtype | None = None
    ) -> Self:
        """Read a shipped model or a folder. `dtype` is that of the weights, by default the fastest that is accurate.

        Raises `InputError` for a name that is not known, `CheckpointError` for a folder that is not whole.
        """
        folder = find_model(name_or_folder)
        config = read_model_config(folder)
        return cls.assemble(config.name, dict.fromkeys(config.stages, folder), config.defaults, device, dtype)

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
        config = load_config(ModelConfig, {"name": name, "stages": tuple(folders), "defaults": defaults})
        device = resolve_device(str(device))
        settings = defaults.stages

        def network(stage: str, network_class: type[N]) -> N:
            return place(load_network(folders[stage], stage, network_class), device, dtype or inference_dtype(device))

        upsamplers = [UpsamplerStage(network(stage, Upsampler), settings[stage]) for stage in config.upsamplers]
        return cls(
            name=name,
            # In float32: one pass a picture costs little, and all that follows hangs on these numbers.
            clip=TextImageEncoder.load(folders["clip"], device),
            prior=PriorStage(network("prior", Prior), settings["prior"]),
            decoder=DecoderStage(network("decoder", Decoder), settings["decoder"]),
            upsamplers={stage.image_size: stage for stage in upsamplers},
            image_size=defaults.image_size,
            num_candidates=defaults.num_candidates,
        )

    def save(self, folder: str | Path, storage: Storage = "float32") -> None:
        """Write the model folder; `config.json` comes last, so a folder without it was cut short."""
        folder = Path(folder)
        self.clip.save(folder, storage)
        stages = self._sampled(list(self.upsamplers.values()))
        for name, stage in stages.items():
            save_module(folder / f"{name}.safetensors", stage.network, stage.network.config, name, storage)
        config = ModelConfig(
            name=self.name,
            stages=("clip", *stages),
            defaults=Defaults(
                image_size=self.image_size,
                num_candidates=self.num_candidates,
                stages={name: stage.defaults for name, stage in stages.items()},
            ),
        )
        atomic_write(folder / CONFIG_FILE, config.model_dump_json(indent=2) + "\n")


def place(network: N, device: torch.device, dtype: torch.dtype) -> N:
    """Move a network for inference: channels-last, parameters in `dtype`, buffers (statistics) in float32."""
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    for parameter in network.parameters():
        parameter.data = parameter.data.to(dtype)
    return network


def _check_fit(what: str, **sizes: int) -> None:
    if len(set(sizes.values())) > 1:
        found = ", ".join(f"{stage} {size}" for stage, size in sizes.items())
        raise CheckpointError(f"the stages disagree on the {what}: {found}; use stages that were trained together.")
