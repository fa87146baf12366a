"""Features of drawn and reference pictures, kept in chunks."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from unclip.checkpoint import load_tensors, open_weights, read_metadata, save_tensors
from unclip.errors import CheckpointError, DataError, InputError
from unclip.metrics import ClipFeatures, FeatureNetwork, Metric

Rows = Mapping[str, Float32[Tensor, "_rows _dim"]]
"""Rows on the CPU by the name that metrics ask for; a network may give several kinds."""


@torch.inference_mode()
def feature_rows(
    network: FeatureNetwork, pictures: UInt8[Tensor, "batch 3 height width"], names: Sequence[str], batch_size: int
) -> Rows:
    """Rows of pictures (pictures, 3, size, size), `batch_size` at a time.

    Raises `DataError` for a row that is not finite, with the one of `names` that it is of.
    """
    parts = [network(batch) for batch in pictures.split(batch_size)]
    rows = {kind: torch.cat([part[kind].float().cpu() for part in parts]) for kind in parts[0]}
    for kind, values in rows.items():
        finite = values.isfinite().all(dim=1)
        if not finite.all():
            place = int(finite.logical_not().nonzero()[0])
            raise DataError(
                f"{network.name} makes {kind} features that are not finite of {names[place]}; look at that picture, "
                "and at the network's weights."
            )
    return rows


Node = tuple[int, int]
"""This process and how many there are."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Chunk:
    """What one chunk holds."""

    rows: Rows
    damaged: Mapping[str, str] = field(default_factory=dict)
    """Items without rows, and why."""
    seconds: float = 0.0
    """Time that drawing took."""


@dataclass(frozen=True, kw_only=True)
class Chunks:
    """A folder of chunks of `num_items` items, `length` each and the last as many as are left."""

    folder: Path
    num_items: int
    length: int

    def __len__(self) -> int:
        return -(-self.num_items // self.length)

    def items(self, number: int) -> range:
        """The items of a chunk."""
        return range(number * self.length, min((number + 1) * self.length, self.num_items))

    def missing(self) -> list[int]:
        """The chunks that are not there, or not whole."""
        return [number for number in range(len(self)) if not self._is_whole(number)]

    def write(self, number: int, chunk: Chunk) -> None:
        """Write a chunk atomically."""
        notes = {"damaged": json.dumps(dict(chunk.damaged)), "seconds": repr(chunk.seconds)}
        save_tensors(self._path(number), chunk.rows, notes)

    def kinds(self) -> list[str]:
        """The kinds of rows."""
        return sorted(open_weights(self._path(0)).tensors)

    def rows(self, kind: str) -> Tensor:
        """All rows of one kind in the order of the items."""
        return torch.cat(list(self.each(kind)))

    def each(self, kind: str) -> Iterator[Tensor]:
        """The rows of one kind, a chunk at a time."""
        for number in range(len(self)):
            yield self._read(number)[kind]

    def damaged(self) -> dict[str, str]:
        """All items without rows, and why."""
        return {name: why for notes in self._notes() for name, why in json.loads(notes["damaged"]).items()}

    def seconds(self) -> float:
        """Time that all drawing took."""
        return sum(float(notes["seconds"]) for notes in self._notes())

    def _is_whole(self, number: int) -> bool:
        if not self._path(number).exists():
            return False
        try:
            open_weights(self._path(number))
        except CheckpointError:
            return False
        return True

    def _notes(self) -> Iterator[dict[str, str]]:
        return (read_metadata(self._path(number)) for number in range(len(self)))

    def _read(self, number: int) -> dict[str, Tensor]:
        return load_tensors(self._path(number)).tensors

    def _path(self, number: int) -> Path:
        return self.folder / f"chunk-{number:05}.safetensors"


def check_node(node: Node) -> Node:
    """`node` where it is a share of the work; raises `InputError` otherwise."""
    first, step = node
    if not 0 <= first < step:
        raise InputError(f"node={first}/{step} is no share of the work; use 0/{step} to {step - 1}/{step}.")
    return node


def share(numbers: list[int], node: Node) -> list[int]:
    """The chunks among `numbers` that a process computes: every n-th."""
    first, step = node
    return [number for number in numbers if number % step == first]


@dataclass(frozen=True, kw_only=True, eq=False)
class Networks:
    """Networks, none of which gives what another one does."""

    networks: tuple[FeatureNetwork, ...]
    givers: dict[str, str]
    """Name of the network that gives each kind of rows."""

    @classmethod
    def of(cls, networks: Sequence[FeatureNetwork]) -> "Networks":
        """Networks by what each gives.

        Raises `InputError` where there is no network, or two give rows of one kind.
        """
        if not networks:
            raise InputError("no feature network was given; name one, such as inception.")
        givers: dict[str, str] = {}
        for network in networks:
            for kind in network.kinds:
                if kind in givers:
                    raise InputError(f"{givers[kind]} and {network.name} both give {kind!r} features; use one of them.")
                givers[kind] = network.name
        return cls(networks=tuple(networks), givers=givers)

    @property
    def clip(self) -> ClipFeatures | None:
        """The CLIP that reads captions too, where there is one."""
        return next((network for network in self.networks if isinstance(network, ClipFeatures)), None)

    @property
    def fingerprints(self) -> dict[str, str]:
        """What features depend on, by the network's name."""
        return {network.name: network.fingerprint for network in self.networks}

    def giver(self, metric: Metric) -> str:
        """Name of the network whose rows a metric is of."""
        return self.givers[rows_of(metric)]

    def only(self, metrics: Sequence[Metric], kinds: Sequence[str] = ()) -> "Networks":
        """The networks that these metrics, or the kinds named, need."""
        names = {*map(self.giver, metrics), *(self.givers[kind] for kind in kinds)}
        return Networks(
            networks=tuple(network for network in self.networks if network.name in names),
            givers={kind: name for kind, name in self.givers.items() if name in names},
        )

    @torch.inference_mode()
    def text_rows(self, texts: Sequence[str], batch_size: int) -> Tensor:
        """CLIP's rows of captions, on the CPU; what stands there twice is read once."""
        assert self.clip is not None, "captions are for a CLIP"
        unique = list(dict.fromkeys(texts))
        parts = [unique[first : first + batch_size] for first in range(0, len(unique), batch_size)]
        rows = torch.cat([self.clip.texts(part).float().cpu() for part in parts])
        places = {text: row for row, text in enumerate(unique)}
        return rows[[places[text] for text in texts]]


def rows_of(metric: Metric) -> str:
    """The kind of rows that a metric has of pictures."""
    return "clip" if metric.feature == "clip_pair" else metric.feature
