"""Translate third-party tensors into ours and back by a table of names; a tensor is read only when it is written.

A table maps a module or tensor of ours to theirs. Several of theirs are joined along the rows; a `Reordering` changes
the layout in both directions.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from unclip.checkpoint import LazyTensor, NetworkWeights
from unclip.clip import MultilingualTokenizer, Tokenizer
from unclip.config import Config
from unclip.errors import CheckpointError

Tensors = Mapping[str, LazyTensor]


class Reordering(NamedTuple):
    """A change of layout and its inverse."""

    to_ours: Callable[[Tensor], Tensor]
    to_theirs: Callable[[Tensor], Tensor]


class Origin(NamedTuple):
    """Their tensors or modules that make one of ours."""

    theirs: tuple[str, ...]
    layout: Reordering = Reordering(lambda tensor: tensor, lambda tensor: tensor)


Value = str | tuple[str, ...] | Origin
Names = Mapping[str, Value]


def row(name: str) -> Origin:
    """Map a vector of ours to a matrix of one row."""
    return Origin((name,), Reordering(lambda tensor: tensor.squeeze(0), lambda tensor: tensor[None]))


def transposed(name: str) -> Origin:
    """Map a matrix of ours to its transpose."""
    return Origin((name,), Reordering(lambda tensor: tensor.T, lambda tensor: tensor.T))


def tokens(name: str, num_tokens: int) -> Origin:
    """Map a projection to `num_tokens` tokens, with rows by token, then channel, to one by channel, then token."""
    return Origin((name,), Reordering(lambda t: _swap(t, (-1, num_tokens)), lambda t: _swap(t, (num_tokens, -1))))


def heads(name: str, parts: int, head_dim: int) -> Origin:
    """Map a fused projection (q, k, v), with rows by part, then head, to one by head, then part."""
    to_ours, to_theirs = (-1, parts, head_dim), (parts, -1, head_dim)
    return Origin((name,), Reordering(lambda t: _swap(t, to_ours), lambda t: _swap(t, to_theirs)))


def _swap(tensor: Tensor, sizes: tuple[int, ...]) -> Tensor:
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
    tensors: Tensors,
    names: Names,
    source: str,
    *,
    constants: Mapping[str, Tensor] | None = None,
    dropped: Mapping[str, str] | None = None,
) -> ForeignNetwork:
    """Make a network of ours out of `tensors` by a table of names; see `to_ours`."""
    ours, left = to_ours(tensors, lambda: cls(config), names, source, constants=constants, dropped=dropped)
    return ForeignNetwork(NetworkWeights(cls.__name__, config, ours, source), left)


class Translation(NamedTuple):
    """Third-party tensors in our names."""

    tensors: dict[str, LazyTensor]
    """All tensors of our network."""
    dropped: dict[str, str]
    """Names of theirs that the network does not have, each with the reason."""


def to_ours(
    theirs: Tensors,
    build: Callable[[], nn.Module],
    names: Names,
    source: str,
    *,
    constants: Mapping[str, Tensor] | None = None,
    dropped: Mapping[str, str] | None = None,
) -> Translation:
    """Translate `theirs` into the tensors of the network that `build` makes; it is built without memory.

    `constants` are tensors of ours that they do not have; `dropped` gives, by the start of a name, the reason why a
    tensor of theirs is left out. Raises `CheckpointError` naming `source` and the first tensor that is missing, of the
    wrong shape, or left over.
    """
    ours = {name: LazyTensor.of(value) for name, value in (constants or {}).items()}
    used: set[str] = set()
    for name, shape in shapes_of(build, source).items():
        if name in ours:
            continue
        parts, layout = _lookup(name, names)
        if missing := [part for part in parts if part not in theirs]:
            raise CheckpointError(f"{source}: tensor {missing[0]!r} is missing; the configuration asks for it.")
        used |= set(parts)
        ours[name] = _join([theirs[part] for part in parts], layout, shape, f"{source}: tensor {parts[0]!r}")
    reasons = {}
    for name in [name for name in theirs if name not in used]:
        reason = next((why for start, why in (dropped or {}).items() if name.startswith(start)), None)
        if reason is None:
            raise CheckpointError(
                f"{source}: tensor {name!r} is left over: by the configuration there is no such weight."
            )
        reasons[name] = reason
    return Translation(ours, reasons)


def to_theirs(
    ours: Tensors, names: Names, source: str, *, constants: Mapping[str, Tensor] | None = None
) -> dict[str, LazyTensor]:
    """Invert `to_ours`, bit for bit. Raises `CheckpointError` for a constant of another value than theirs."""
    tensors: dict[str, LazyTensor] = {}
    for name, value in ours.items():
        constant = (constants or {}).get(name)
        if constant is None:
            tensors |= _split(value, *_lookup(name, names))
        elif not torch.equal(value.read().to(constant), constant):
            raise CheckpointError(f"{source}: {name!r} has no place there, and is not what they take for granted.")
    return tensors


def shapes_of(build: Callable[[], nn.Module], source: str) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of a network's tensors; raises `CheckpointError` for one too large for any memory."""
    try:
        with torch.device("meta"):
            return {name: tuple(value.shape) for name, value in build().state_dict().items()}
    except RuntimeError as error:
        raise CheckpointError(
            f"{source}: no network can be as large as the configuration says ({str(error).splitlines()[0]})."
        ) from None


def _origin(value: Value) -> Origin:
    return value if isinstance(value, Origin) else Origin((value,) if isinstance(value, str) else value)


def _lookup(name: str, names: Names) -> Origin:
    """Find the origin of a tensor, which the table names itself or by its module."""
    if name in names:
        return _origin(names[name])
    module, _, leaf = name.rpartition(".")
    assert module in names, f"the table has no name for {name}"
    origin = _origin(names[module])
    return origin._replace(theirs=tuple(f"{part}.{leaf}" for part in origin.theirs))


def _join(parts: list[LazyTensor], layout: Reordering, shape: tuple[int, ...], what: str) -> LazyTensor:
    dtype = reduce(torch.promote_types, [part.dtype for part in parts])
    shapes = [part.shape for part in parts]
    try:
        joined = layout.to_ours(_cat([torch.empty(size, device="meta") for size in shapes]))
    except RuntimeError:
        joined = None
    # Trailing ones go: convolutions over single pixels are matrices here.
    if joined is None or joined.shape[: len(shape)] != shape or joined.numel() != prod(shape):
        sizes = " and ".join(map(str, shapes))
        raise CheckpointError(f"{what} has shape {sizes}, which does not make the {shape} of the configuration.")

    def read() -> Tensor:
        return layout.to_ours(_cat([part.read() for part in parts])).reshape(shape)

    return LazyTensor(shape, dtype, read)


def _cat(parts: list[Tensor]) -> Tensor:
    """Join along the rows; a single number has none."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _split(value: LazyTensor, parts: tuple[str, ...], layout: Reordering) -> dict[str, LazyTensor]:
    whole = layout.to_theirs(torch.empty(value.shape, device="meta"))
    assert whole.ndim == 0 or whole.shape[0] % len(parts) == 0, f"{parts} do not share {tuple(whole.shape)}"

    def reader(index: int) -> Callable[[], Tensor]:
        def read() -> Tensor:
            tensor = layout.to_theirs(value.read())
            return tensor if len(parts) == 1 else tensor.chunk(len(parts))[index].contiguous()

        return read

    shape = tuple(whole.shape) if len(parts) == 1 else (whole.shape[0] // len(parts), *whole.shape[1:])
    return {part: LazyTensor(shape, value.dtype, reader(index)) for index, part in enumerate(parts)}


@dataclass(frozen=True, eq=False)
class ForeignModel:
    """Stages of a model, or of a part of one, that another library wrote."""

    description: str
    """What was recognised, in one line."""
    stages: Mapping[str, NetworkWeights]
    """By our names: clip, prior, decoder, autoencoder, text_encoder, upsampler_256, upsampler_256_last."""
    tokenizers: Mapping[str, Tokenizer | MultilingualTokenizer] = field(default_factory=dict)
    """By the stage that reads their ids."""
    sampling: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Fields of the sampling settings of the other library, by stage."""
    dropped: Mapping[str, str] = field(default_factory=dict)
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
        left = {f"{stage}: {name}": why for stage, network in networks.items() for name, why in network.dropped.items()}
        stages = {stage: network.weights for stage, network in networks.items()}
        return cls(description, stages, tokenizers, sampling, left | dict(dropped or {}))
