"""Foreign tensors as ours and back, by a table of names: nothing is read before it is written. Knows no library.

A table maps a module or tensor of ours to theirs. Several of theirs are joined along the rows; a layout is a
reordering that both directions know.
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


class Layout(NamedTuple):
    """A change of layout and its inverse."""

    to_ours: Callable[[Tensor], Tensor]
    to_theirs: Callable[[Tensor], Tensor]


class Source(NamedTuple):
    """Where a tensor or module of ours comes from."""

    theirs: tuple[str, ...]
    layout: Layout


Value = str | tuple[str, ...] | Source
Names = Mapping[str, Value]
SAME = Layout(lambda tensor: tensor, lambda tensor: tensor)


def row(name: str) -> Source:
    """A vector that they keep as a matrix of one row."""
    return Source((name,), Layout(lambda tensor: tensor.squeeze(0), lambda tensor: tensor[None]))


def tokens(name: str, num_tokens: int) -> Source:
    """A projection to `num_tokens` tokens whose rows they sort by channel, then token; ours by token, then channel."""
    return Source((name,), Layout(lambda t: _swap(t, (-1, num_tokens)), lambda t: _swap(t, (num_tokens, -1))))


def heads(name: str, parts: int, head_dim: int) -> Source:
    """A fused projection (q, k, v) whose rows they sort by head, then part; ours by part, then head."""
    return Source((name,), Layout(lambda t: _swap(t, (-1, parts, head_dim)), lambda t: _swap(t, (parts, -1, head_dim))))


def under(ours: str, theirs: str, names: Names) -> dict[str, Value]:
    """The table of a part that is called `ours` here and `theirs` there; "" leaves the names as they are."""
    first, second = (f"{prefix}." if prefix else "" for prefix in (ours, theirs))
    placed: dict[str, Value] = {}
    for key, value in names.items():
        source = _source(value)
        placed[first + key] = source._replace(theirs=tuple(second + name for name in source.theirs))
    return placed


@dataclass(frozen=True, eq=False)
class Translation:
    """What became of foreign tensors."""

    tensors: dict[str, LazyTensor]
    """All tensors of our network."""
    dropped: dict[str, str]
    """Names of theirs that it has no place for, each with the reason."""


def to_ours(
    theirs: Mapping[str, LazyTensor],
    build: Callable[[], nn.Module],
    names: Names,
    source: str,
    *,
    constants: Mapping[str, Tensor] | None = None,
    dropped: Mapping[str, str] | None = None,
) -> Translation:
    """The tensors of the network that `build` makes, out of `theirs`; it is built without memory.

    `constants` are tensors of ours that they do not have; `dropped` gives, by the start of a name, the reason why a
    tensor of theirs is left behind. Raises `CheckpointError` naming `source` and the first tensor that is missing, of
    the wrong shape, or accounted for nowhere.
    """
    expected = shapes_of(build, source)
    found = {name: LazyTensor.of(value) for name, value in (constants or {}).items()}
    used: set[str] = set()
    for name, shape in expected.items():
        if name in found:
            continue
        parts, layout = _lookup(name, names)
        missing = [part for part in parts if part not in theirs]
        if missing:
            raise CheckpointError(f"{source}: tensor {missing[0]!r} is missing; the configuration asks for it.")
        used |= set(parts)
        found[name] = _join([theirs[part] for part in parts], layout, shape, f"{source}: tensor {parts[0]!r}")
    reasons = {name: _reason(name, dropped or {}, source) for name in theirs if name not in used}
    return Translation(found, reasons)


def to_theirs(
    ours: Mapping[str, LazyTensor], names: Names, source: str, *, constants: Mapping[str, Tensor] | None = None
) -> dict[str, LazyTensor]:
    """The inverse of `to_ours`, bit for bit. Raises `CheckpointError` where a constant is not theirs."""
    tensors: dict[str, LazyTensor] = {}
    for name, value in ours.items():
        constant = (constants or {}).get(name)
        if constant is None:
            parts, layout = _lookup(name, names)
            tensors |= _split(value, parts, layout)
        elif not torch.equal(value.read().to(constant), constant):
            raise CheckpointError(f"{source}: {name!r} has no place there, and is not what they take for granted.")
    return tensors


def shapes_of(build: Callable[[], nn.Module], source: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a network's tensors; raises `CheckpointError` for one that is too large for any memory."""
    try:
        with torch.device("meta"):
            return {name: tuple(value.shape) for name, value in build().state_dict().items()}
    except RuntimeError as error:
        raise CheckpointError(
            f"{source}: no network can be as large as the configuration says ({str(error).splitlines()[0]})."
        ) from None


def _source(value: Value) -> Source:
    if isinstance(value, Source):
        return value
    return Source((value,) if isinstance(value, str) else value, SAME)


def _lookup(name: str, names: Names) -> Source:
    """The source of a tensor that the table names itself, or by its module."""
    if name in names:
        return _source(names[name])
    module, _, leaf = name.rpartition(".")
    assert module in names, f"the table has no name for {name}"
    source = _source(names[module])
    return source._replace(theirs=tuple(f"{part}.{leaf}" for part in source.theirs))


def _join(parts: list[LazyTensor], layout: Layout, shape: tuple[int, ...], what: str) -> LazyTensor:
    dtype = reduce(torch.promote_types, [part.dtype for part in parts])
    shapes = [part.shape for part in parts]
    try:
        joined = layout.to_ours(_cat([torch.empty(size, device="meta") for size in shapes]))
    except RuntimeError:
        joined = None
    # Convolutions over single pixels are matrices here.
    if joined is None or not (tuple(joined.shape) == shape or _trailing_ones(tuple(joined.shape), shape)):
        found = " and ".join(map(str, shapes))
        raise CheckpointError(f"{what} has shape {found}, which does not make the {shape} of the configuration.")

    def read() -> Tensor:
        return layout.to_ours(_cat([part.read() for part in parts])).reshape(shape)

    return LazyTensor(shape, dtype, read)


def _cat(parts: list[Tensor]) -> Tensor:
    """Joined along the rows; a number by itself has none."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _trailing_ones(found: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return found[: len(shape)] == shape and prod(found[len(shape) :]) == 1


def _split(value: LazyTensor, parts: tuple[str, ...], layout: Layout) -> dict[str, LazyTensor]:
    whole = layout.to_theirs(torch.empty(value.shape, device="meta"))
    assert whole.ndim == 0 or whole.shape[0] % len(parts) == 0, f"{parts} do not share {tuple(whole.shape)}"

    def reader(index: int) -> Callable[[], Tensor]:
        def read() -> Tensor:
            tensor = layout.to_theirs(value.read())
            return tensor if len(parts) == 1 else tensor.chunk(len(parts))[index].contiguous()

        return read

    shape = tuple(whole.shape) if len(parts) == 1 else (whole.shape[0] // len(parts), *whole.shape[1:])
    return {part: LazyTensor(shape, value.dtype, reader(index)) for index, part in enumerate(parts)}


def _swap(tensor: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Sort rows by the second of `sizes` first."""
    return tensor.unflatten(0, sizes).transpose(0, 1).flatten(0, len(sizes) - 1)


def _reason(name: str, reasons: Mapping[str, str], source: str) -> str:
    for start, reason in reasons.items():
        if name.startswith(start):
            return reason
    raise CheckpointError(f"{source}: tensor {name!r} is left over: by the configuration there is no such weight.")


class ForeignNetwork(NamedTuple):
    """A network that another library wrote."""

    weights: NetworkWeights
    """What it is in our terms."""
    dropped: Mapping[str, str]
    """Its tensors and options that we have no place for, each with the reason."""


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
    """Fields of the sampling settings, by stage: those by which the other library draws."""
    dropped: Mapping[str, str] = field(default_factory=dict)
    """Tensors and options that we have no place for, each with the reason."""

    @classmethod
    def of(
        cls,
        description: str,
        networks: Mapping[str, ForeignNetwork],
        tokenizers: Mapping[str, Tokenizer | MultilingualTokenizer],
        sampling: Mapping[str, Mapping[str, Any]],
        dropped: Mapping[str, str] | None = None,
    ) -> "ForeignModel":
        """A model of networks by stage; what was dropped is named after its stage, `dropped` as it is."""
        left = {f"{stage}: {name}": why for stage, network in networks.items() for name, why in network.dropped.items()}
        stages = {stage: network.weights for stage, network in networks.items()}
        return cls(description, stages, tokenizers, sampling, left | dict(dropped or {}))


def foreign_network(
    cls: type[nn.Module],
    config: Config,
    tensors: Mapping[str, LazyTensor],
    names: Names,
    source: str,
    *,
    constants: Mapping[str, Tensor] | None = None,
    dropped: Mapping[str, str] | None = None,
) -> ForeignNetwork:
    """The network of ours that `tensors` make by a table of names; see `to_ours`."""
    found = to_ours(tensors, lambda: cls(config), names, source, constants=constants, dropped=dropped)
    return ForeignNetwork(NetworkWeights(cls.__name__, config, found.tensors, source), found.dropped)
