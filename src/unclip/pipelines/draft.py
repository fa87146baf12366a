"""Pictures that are not finished: what the stages to come need, and how it is kept in a file. Knows no model."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Self

import pydantic
import torch
from torch import Tensor

from unclip.checkpoint import load_tensors, save_tensors
from unclip.config import Config, load_config
from unclip.errors import CheckpointError, ConfigError, InputError
from unclip.pipelines.options import ImageSize
from unclip.pipelines.settings import StageSettings, image_seeds
from unclip.runtime import NoiseSource
from unclip.shapes import Embeddings

__all__ = ["Draft"]

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
