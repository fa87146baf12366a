"""Interpolation along great circles, and weighted means of directions."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from unclip.diffusion.schedules import as_float64, per_sample
from unclip.errors import InputError
from unclip.shapes import Embeddings, Sample

# Directions of float32 vectors are known to about 1e-7: below ten times that a sum of them is rounding.
VANISHING = 1e-6


# Spherical interpolation, unCLIP sections 3.2 and 3.3.
def slerp(a: Sample, b: Sample, fraction: float | Tensor) -> Sample:
    """Return the point at `fraction` of the way from a to b: direction along the great circle, norm linear.

    Each sample is one vector of all its numbers. fraction: one number, or (batch,), in [0, 1]; 0 and 1 give a and b
    bit for bit. A zero vector has no direction, so towards or from one the way is straight.
    Raises InputError for a fraction outside [0, 1], and where a and b are opposite: every great circle joins them.
    """
    f = torch.as_tensor(fraction, dtype=torch.float64)
    if not bool(((f >= 0) & (f <= 1)).all()):
        raise InputError(f"the slerp fraction {fraction} must lie in [0, 1]; 0 is the first end, 1 the second.")
    start, end = as_float64(a).flatten(1), as_float64(b).flatten(1)
    start_weight, end_weight = slerp_weights(start, end, f.to(start.device))
    mixed = start_weight[:, None] * start + end_weight[:, None] * end
    return mixed.to(a).reshape(a.shape)


def slerp_weights(
    a: Float[Tensor, "batch size"], b: Float[Tensor, "batch size"], f: Float[Tensor, "*batch"]
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Return the factors of a and b, exactly (1, 0) at f = 0 and (0, 1) at f = 1."""
    a_norm, b_norm = a.norm(dim=1), b.norm(dim=1)
    straight = (a_norm == 0) | (b_norm == 0)
    theta = torch.where(straight, 0, angle(unit(a), unit(b)))
    norm = torch.lerp(a_norm, b_norm, f)
    # sin(f theta) / sin(theta) as f sinc / sinc, which has no hole at theta = 0.
    a_share = (1 - f) * sinc((1 - f) * theta) / sinc(theta)
    b_share = f * sinc(f * theta) / sinc(theta)
    a_weight = torch.where(straight, 1 - f, a_share * norm / a_norm)
    b_weight = torch.where(straight, f, b_share * norm / b_norm)
    return a_weight, b_weight


# Kahan's formula: acos of the dot product loses half the digits of small angles.
def angle(u: Float[Tensor, "batch size"], v: Float[Tensor, "batch size"]) -> Float[Tensor, " batch"]:
    """Return the angle between unit vectors. Raises InputError where they are opposite."""
    apart, together = (u - v).norm(dim=1), (u + v).norm(dim=1)
    opposite = ((together < VANISHING) & (apart > 0)).nonzero().flatten().tolist()
    if opposite:
        raise InputError(f"the two ends of sample {opposite[0]} are opposite, so no way between them is the shortest.")
    return 2 * torch.atan2(apart, together)


def weighted_mean(
    vectors: Float[Tensor, "count batch dim"], weights: Sequence[float] | Float[Tensor, " weights"]
) -> Embeddings:
    """Return the direction of the weighted sum of directions, with the mean of the norms under |weights|.

    weights: one number per vector, of any sum; a negative one points away from its vector. Zero vectors have no
    direction. Raises InputError for another number of weights, weights that are not finite or all 0, and where the
    directions cancel.
    """
    w = torch.as_tensor(weights, dtype=torch.float64)
    if len(w) != len(vectors) or not bool(w.isfinite().all()) or not bool(w.any()):
        raise InputError(f"weights {w.tolist()} must be {len(vectors)} finite numbers that are not all 0.")
    exact = as_float64(vectors)
    w = (w / w.abs().sum()).to(exact.device)
    total = torch.einsum("n,nbd->bd", w, unit(exact))
    length = total.norm(dim=-1)
    if bool((length < VANISHING).any()):
        raise InputError(f"weights {w.tolist()} cancel the vectors out, so the mean has no direction; change one.")
    norm = torch.einsum("n,nb->b", w.abs(), exact.norm(dim=-1))
    return (per_sample(norm / length, total) * total).to(vectors)


def unit(x: Float[Tensor, "... size"]) -> Float[Tensor, "... size"]:
    """x over its norm; zero stays zero."""
    norm = x.norm(dim=-1, keepdim=True)
    return x / torch.where(norm == 0, 1, norm)


def sinc(x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """sin(x) / x, 1 at 0."""
    return torch.sinc(x / torch.pi)
