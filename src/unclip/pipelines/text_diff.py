"""Text diffs: a picture moves along the way from one text to another. Knows the stages of a model, no prior."""

from collections.abc import Sequence
from typing import Unpack

import torch
from torch.nn import functional as F

from unclip.diffusion import slerp
from unclip.errors import InputError
from unclip.images import cut
from unclip.pictures import Picture, open_picture
from unclip.pipelines.features import encode
from unclip.pipelines.inversion import check_invertible, invert_stages, invertible, start_from
from unclip.pipelines.job import begin
from unclip.pipelines.model import Model
from unclip.pipelines.options import DrawOptions
from unclip.pipelines.result import Result
from unclip.pipelines.sampling import expand_text
from unclip.pipelines.settings import check_fraction, check_prompts
from unclip.shapes import Embeddings

__all__ = ["THETA", "text_diff"]

THETA = 0.4
# Directions of float32 are known to 1e-7; a difference of this length is rounding.
SAME = 1e-5


@torch.inference_mode()
def text_diff(
    model: Model,
    image: Picture,
    source: str,
    target: str,
    *,
    theta: float | Sequence[float] = THETA,
    **options: Unpack[DrawOptions],
) -> Result:
    """Draw a picture moved from the text `source` towards `target`, once for each `theta` (paper, section 3.3).

    The image embedding goes by slerp to the direction of the difference of both texts; `theta` in [0, 1] says how far.
    Each stage begins at the x_T that leads back to the picture, as in `image_variations` with eta=0: theta 0 is that
    reconstruction, to the bit on a CPU, and what the texts do not speak of tends to stay. No noise is drawn, so seeds
    do not matter. `source` should describe the picture; "" is the empty prompt. Images, options and errors are as
    there; raises `InputError` also for an empty `target` and for texts of which CLIP says the same.
    """
    picture, thetas = open_picture(image), _thetas(theta)
    texts = [source if source == "" else check_prompts(source)[0], *check_prompts(target)]
    count = len(thetas)
    job = begin(model, options, num_inputs=count, defaults=invertible(model))
    check_invertible(job)
    picture = cut(picture, job.chain.size[::-1])
    features = encode(model, texts, [picture])
    z_i, (z_t0, z_t) = features.pictures, features.text.embedding.split(1)
    z_d = difference(z_t0, z_t) * z_i.norm(dim=-1)

    found = invert_stages(job, [picture], features)

    x_T = {stage: noise.expand(count, *noise.shape[1:]) for stage, noise in found.items()}
    embeddings = job.split(slerp(z_i.expand(count, -1), z_d.expand(count, -1), torch.tensor(thetas)))
    wordless = features.condition._replace(text=expand_text(features.condition.null, count))
    images = job.draw(embeddings, wordless, start_from(job, x_T))
    return job.result(images, embeddings, texts[1:] * count, source=source, theta=thetas)


# z_d, unCLIP section 3.3.
def difference(source: Embeddings, target: Embeddings) -> Embeddings:
    """The direction from one text embedding to another, both taken as directions; raises `InputError` for none."""
    apart = F.normalize(target, dim=-1) - F.normalize(source, dim=-1)
    if not bool((apart.norm(dim=-1) > SAME).all()):
        raise InputError("source and target say the same to CLIP, so there is no way between; change one.")
    return F.normalize(apart, dim=-1)


def _thetas(theta: float | Sequence[float]) -> list[float]:
    given = list(theta) if isinstance(theta, Sequence) else [theta]
    if not given:
        raise InputError("theta is empty; give at least one number from 0 to 1.")
    return [check_fraction("theta", value, "0 is the picture itself, 0.25 to 0.5 are usual") for value in given]
