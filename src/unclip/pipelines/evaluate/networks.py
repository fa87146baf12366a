"""The feature networks of an evaluation, by what they give. Knows networks; no picture and no file."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unclip.errors import InputError
from unclip.evaluation import ClipFeatures, FeatureNetwork, Metric

__all__ = ["Networks", "rows_of"]


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
