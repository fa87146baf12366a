"""Translate third-party tensors into ours and back by a table of names; a tensor is read only when it is written.

A table maps a module or tensor of ours to theirs. Several of theirs are joined along the rows; an `Origin` may change
the layout in both directions.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from unclip.checkpoint import LazyTensor, NetworkWeights
from unclip.clip import MultilingualTokenizer, Tokenizer
from unclip.config import Config
from unclip.errors import CheckpointError, ConfigError
from unclip.runtime import on_meta

Tensors = Mapping[str, LazyTensor]


class Origin(NamedTuple):
    """Their tensors or modules that make one of ours, and the change of layout with its inverse."""

    theirs: tuple[str, ...]
    to_ours: Callable[[Tensor], Tensor] = lambda tensor: tensor
    to_theirs: Callable[[Tensor], Tensor] = lambda tensor: tensor


Value = str | tuple[str, ...] | Origin
Names = Mapping[str, Value]


def row(name: str) -> Origin:
    """Map a vector of ours to a matrix of one row."""
    return Origin((name,), lambda tensor: tensor.squeeze(0), lambda tensor: tensor[None])


def transposed(name: str) -> Origin:
    """Map a matrix of ours to its transpose."""
    return Origin((name,), lambda tensor: tensor.T, lambda tensor: tensor.T)


def tokens(name: str, num_tokens: int) -> Origin:
    """Map a projection to `num_tokens` tokens, with rows by token, then channel, to one by channel, then token."""
    return Origin((name,), lambda tensor: _swap(tensor, -1, num_tokens), lambda tensor: _swap(tensor, num_tokens, -1))


def heads(name: str, parts: int, head_dim: int) -> Origin:
    """Map a fused projection (q, k, v), with rows by part, then head, to one by head, then part."""
    return Origin(
        (name,),
        lambda tensor: _swap(tensor, -1, parts, head_dim),
        lambda tensor: _swap(tensor, parts, -1, head_dim),
    )


def _swap(tensor: Tensor, *sizes: int) -> Tensor:
    """Sort rows by the second of `sizes` first."""
    return tensor.unflatten(0, sizes).transpose(0, 1).flatten(0, len(sizes) - 1)


def under(ours: str, theirs: str, names: Names) -> dict[str, Value]:
    """Put the table of a part under the name `ours` and `theirs`; "" leaves the names as they are."""
    first, second = (f"{prefix}." if prefix else "" for prefix in (ours, theirs))
    placed: dict[str, Value] = {}
    for key, value in names.items():
        if isinstance(value, str):
            placed[first + key] = second + value
        elif isinstance(value, Origin):
            placed[first + key] = value._replace(theirs=tuple(second + name for name in value.theirs))
        else:
            placed[first + key] = tuple(second + name for name in value)
    return placed


def repeated(ours: str, theirs: str, block: Names, depth: int) -> dict[str, Value]:
    """Put the table of a block under `ours` and `theirs` with each number below `depth` behind."""
    tables = [under(f"{ours}.{index}", f"{theirs}.{index}", block) for index in range(depth)]
    return {name: value for table in tables for name, value in table.items()}


class ForeignNetwork(NamedTuple):
    """A network of another library."""

    weights: NetworkWeights
    """Config and tensors in our names."""
    dropped: Mapping[str, str]
    """Their tensors and options that are not imported, each with the reason."""

    def drop(self, more: Mapping[str, str]) -> "ForeignNetwork":
        """Return the network with more names in `dropped`."""
        return self._replace(dropped={**self.dropped, **more})


def foreign_network(
    cls: type[nn.Module],
    config: Config,
    theirs: Tensors,
    names: Names | None,
    source: str,
    *,
    constants: Mapping[str, Tensor] | None = None,
    dropped: Mapping[str, str] | None = None,
) -> ForeignNetwork:
    """Translate `theirs` into the tensors of the network `cls(config)`, which is built without memory.

    `names` is None where all names and shapes agree. `constants` are tensors of ours that they do not have; `dropped`
    gives, by the start of a name, the reason why a tensor of theirs is left out. Raises `CheckpointError` naming
    `source` and the first tensor that is missing, of the wrong shape, or left over, and for a network too large for any
    memory.
    """
    try:
        with on_meta():
            shapes = {name: tuple(value.shape) for name, value in cls(config).state_dict().items()}
    except RuntimeError as error:
        raise CheckpointError(
            f"{source}: no network can be as large as the configuration says ({str(error).splitlines()[0]})."
        ) from None
    ours = {name: LazyTensor.of(value) for name, value in (constants or {}).items()}
    used: set[str] = set()
    for name, shape in shapes.items():
        if name in ours:
            continue
        origin = Origin((name,)) if names is None else _lookup(name, names)
        if missing := [part for part in origin.theirs if part not in theirs]:
            raise CheckpointError(
                f"{source}: tensor {missing[0]!r} is missing; the configuration asks for it, to make {name} {shape}."
            )
        used |= set(origin.theirs)
        parts = [theirs[part] for part in origin.theirs]
        ours[name] = _join(parts, origin, shape, source, is_exact=names is None)
    reasons = {}
    for name in [name for name in theirs if name not in used]:
        reason = next((why for start, why in (dropped or {}).items() if name.startswith(start)), None)
        if reason is None:
            raise CheckpointError(
                f"{source}: tensor {name!r} is left over: by the configuration there is no such weight."
            )
        reasons[name] = reason
    return ForeignNetwork(NetworkWeights(cls.__name__, config, ours, source), reasons)


def to_theirs(
    ours: Tensors, names: Names, source: str, *, constants: Mapping[str, Tensor] | None = None
) -> dict[str, LazyTensor]:
    """Invert `foreign_network`, bit for bit. Raises `CheckpointError` for a constant of another value than theirs."""
    tensors: dict[str, LazyTensor] = {}
    for name, value in ours.items():
        constant = (constants or {}).get(name)
        if constant is None:
            tensors |= _split(value, _lookup(name, names))
        elif not torch.equal(value.read().to(constant), constant):
            raise CheckpointError(f"{source}: {name!r} has no place there, and is not what they take for granted.")
    return tensors


def _lookup(name: str, names: Names) -> Origin:
    """Find the origin of a tensor, which the table names itself or by its module."""
    suffix = ""
    if name not in names:
        name, _, leaf = name.rpartition(".")
        suffix = f".{leaf}"
    assert name in names, f"the table has no name for {name}{suffix}"
    value = names[name]
    origin = value if isinstance(value, Origin) else Origin((value,) if isinstance(value, str) else value)
    return origin._replace(theirs=tuple(part + suffix for part in origin.theirs))


def _join(
    parts: list[LazyTensor], origin: Origin, shape: tuple[int, ...], source: str, *, is_exact: bool
) -> LazyTensor:
    shapes = [part.shape for part in parts]
    try:
        joined = origin.to_ours(_cat([torch.empty(size, device="meta") for size in shapes]))
    except RuntimeError:
        joined = None
    # Trailing ones go, unless all is the same: convolutions over single pixels are matrices here.
    length = None if is_exact else len(shape)
    if joined is None or joined.shape[:length] != shape or joined.numel() != prod(shape):
        sizes = " and ".join(map(str, shapes))
        raise CheckpointError(
            f"{source}: tensor {origin.theirs[0]!r} has shape {sizes}, which does not make the {shape} of the "
            "configuration."
        )

    def read() -> Tensor:
        return origin.to_ours(_cat([part.read() for part in parts])).reshape(shape)

    return LazyTensor(shape, reduce(torch.promote_types, [part.dtype for part in parts]), read)


def _cat(parts: list[Tensor]) -> Tensor:
    """Join along the rows; a single number has none."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _split(value: LazyTensor, origin: Origin) -> dict[str, LazyTensor]:
    num_parts = len(origin.theirs)
    whole = origin.to_theirs(torch.empty(value.shape, device="meta"))
    assert whole.ndim == 0 or whole.shape[0] % num_parts == 0, f"{origin.theirs} do not share {tuple(whole.shape)}"

    def reader(index: int) -> Callable[[], Tensor]:
        def read() -> Tensor:
            tensor = origin.to_theirs(value.read())
            return tensor if num_parts == 1 else tensor.chunk(num_parts)[index].contiguous()

        return read

    shape = tuple(whole.shape) if num_parts == 1 else (whole.shape[0] // num_parts, *whole.shape[1:])
    return {part: LazyTensor(shape, value.dtype, reader(index)) for index, part in enumerate(origin.theirs)}


@contextmanager
def naming(part: str) -> Iterator[None]:
    """Begin errors about files and configurations with the part that they belong to."""
    try:
        yield
    except (CheckpointError, ConfigError) as error:
        raise type(error)(f"{part}: {error}") from None


@dataclass(frozen=True, eq=False)
class ForeignModel:
    """Stages of a model, or of a part of one, that another library wrote."""

    description: str
    """What was recognised, in one line."""
    stages: Mapping[str, NetworkWeights]
    """By our names: clip, prior, decoder, autoencoder, text_encoder, upsampler_256, upsampler_256_last."""
    tokenizers: Mapping[str, Tokenizer | MultilingualTokenizer]
    """By the stage that reads their ids."""
    sampling: Mapping[str, Mapping[str, Any]]
    """Fields of the sampling settings of the other library, by stage."""
    dropped: Mapping[str, str]
    """Tensors and options that are not imported, each with the reason."""

    @classmethod
    def of(
        cls,
        description: str,
        networks: Mapping[str, ForeignNetwork],
        tokenizers: Mapping[str, Tokenizer | MultilingualTokenizer],
        sampling: Mapping[str, Mapping[str, Any]],
        dropped: Mapping[str, str] | None = None,
    ) -> "ForeignModel":
        """Collect networks by stage; their dropped names get the stage in front, those of `dropped` do not."""
        whys = {f"{stage}: {name}": why for stage, network in networks.items() for name, why in network.dropped.items()}
        stages = {stage: network.weights for stage, network in networks.items()}
        return cls(description, stages, tokenizers, sampling, whys | dict(dropped or {}))
