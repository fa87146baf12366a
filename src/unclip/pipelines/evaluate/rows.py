"""Feature rows of pictures by every network asked for. Knows pixels and networks; not where either is from."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float32
from torch import Tensor

from unclip.errors import DataError, InputError
from unclip.evaluation import FeatureNetwork, Pictures

__all__ = ["Rows", "check_networks", "feature_rows"]

Rows = Mapping[str, Float32[Tensor, "_rows _dim"]]
"""Rows on the CPU by the name that metrics ask for; a network may give several kinds."""


def check_networks(networks: Sequence[FeatureNetwork], size: int) -> dict[str, str]:
    """The network that gives each kind of rows, by the name of the kind: found by one grey picture.

    Raises `InputError` where there is no network, or two give rows of one kind.
    """
    if not networks:
        raise InputError("no feature network was given; name one, such as inception.")
    givers: dict[str, str] = {}
    for network in networks:
        for kind in network(torch.full((1, 3, size, size), 127, dtype=torch.uint8)):
            if kind in givers:
                raise InputError(f"{givers[kind]} and {network.name} both give {kind!r} features; use one of them.")
            givers[kind] = network.name
    return givers


@torch.inference_mode()
def feature_rows(network: FeatureNetwork, pictures: Pictures, names: Sequence[str], batch_size: int) -> Rows:
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
