"""Feature rows of pictures by every network asked for. Knows pixels and networks; not where either is from."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from unclip.errors import DataError
from unclip.evaluation import FeatureNetwork

__all__ = ["Rows", "feature_rows"]

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
