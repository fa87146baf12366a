"""Draw text diffs: a picture moves along the way from one text to another."""

from collections.abc import Sequence
from typing import Annotated, Unpack

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from unclip.diffusion import slerp
from unclip.errors import InputError
from unclip.images import cut
from unclip.pictures import Picture, open_picture
from unclip.pipelines.features import encode
from unclip.pipelines.inversion import INVERTIBLE, check_invertible, invert_pictures, starts_from_noise
from unclip.pipelines.job import begin
from unclip.pipelines.model import Model
from unclip.pipelines.options import DrawOptions, Option, task
from unclip.pipelines.result import Result
from unclip.pipelines.settings import check_prompts
from unclip.shapes import Embeddings

# Share of the angle between the texts that a picture is moved by: the best of 0.6, 0.8 and 1 on 40 edits, see
# benchmarks/text_diff.py. A theta of 0.4 for all is too much for texts that differ by a word, too little for others.
REACH = 0.8
# Directions of float32 are known to 1e-7: a difference of this length is rounding.
SAME = 1e-5

Directions = Float[Tensor, "1 dim"]


@task(is_series=True, unused=("sampler",))
def text_diff(
    model: Model,
    image: Annotated[Picture, Option("The picture to move.", "picture")],
    source: Annotated[str, Option("A text that says what it shows.")],
    target: Annotated[str, Option("A text that says what it shall show.")],
    *,
    theta: Annotated[
        float | Sequence[float] | None,
        Option(
            "How far to go, 0 to 1, else by the texts; several, as 0,0.2,0.4, make a strip.",
            least=0,
            most=1,
            meaning="0 is the picture itself, 0.25 to 0.5 are usual",
        ),
    ] = None,
    **options: Unpack[DrawOptions],
) -> Result:
    """Draw a picture moved from the text `source` towards `target`, once for each `theta` (paper, section 3.3).

    The image embedding goes by slerp to the direction of the difference of both texts; `theta` in [0, 1] says how far.
    None is as far as 0.8 of the angle between the texts; the result's settings have the number. The decoder begins at
    the x_T that leads back to the picture, as in `image_variations` with eta=0: theta 0 is that reconstruction, to the
    bit on a CPU, and what the texts do not mention tends to stay. All pictures have one seed, which upsamplers use.

    `source` should describe the picture; "" is the empty prompt. Images, options and errors are as there; raises
    `InputError` also for an empty `target` and for texts with the same embedding.
    """
    picture = open_picture(image)
    values = theta if isinstance(theta, Sequence) else [] if theta is None else [theta]
    thetas = [float(value) for value in values]
    texts = [source if source == "" else check_prompts(source)[0], *check_prompts(target)]
    count = len(thetas) or 1
    job = begin(model, options, num_inputs=count, defaults={"decoder": INVERTIBLE})
    check_invertible(job, ["decoder"])
    picture = cut(picture, job.chain.size[::-1])

    features = encode(model, texts, [picture])
    z_i, (z_t0, z_t) = features.pictures, features.text.embedding.split(1)
    z_d = difference(z_t0, z_t) * z_i.norm(dim=-1)
    thetas = thetas or [default_theta(angle(z_t0, z_t), angle(z_i, z_d))]
    fractions = torch.tensor(thetas, dtype=torch.float64)
    embeddings = job.split(slerp(z_i.expand(count, -1), z_d.expand(count, -1), fractions))

    x_T = invert_pictures(job, [picture], z_i, features.condition.without_text(1))
    starts = starts_from_noise(job, {"decoder": x_T.expand(count, *x_T.shape[1:])})
    images = job.draw(embeddings, features.condition.without_text(count), starts)
    return job.result(images, embeddings, features.cut, texts[1:] * count, source=source, theta=thetas)


# z_d, unCLIP section 3.3.
def difference(source: Embeddings, target: Embeddings) -> Embeddings:
    """Return the direction from one text embedding to another; raises `InputError` if both are the same."""
    apart = F.normalize(target, dim=-1) - F.normalize(source, dim=-1)
    if not bool((apart.norm(dim=-1) > SAME).all()):
        raise InputError("source and target say the same to CLIP, so there is no way between them; change one.")
    return F.normalize(apart, dim=-1)


def angle(a: Directions, b: Directions) -> float:
    """Return the angle between two vectors in radians."""
    return float(torch.acos(F.cosine_similarity(a.double(), b.double()).clamp(-1.0, 1.0)))


def default_theta(between_texts: float, to_difference: float) -> float:
    """Return the share of the way to the difference that is `REACH` of the angle between the texts; at most 1.

    A picture that is there already, at an angle of 0, stays whatever the share.
    """
    return min(REACH * between_texts / to_difference, 1.0) if to_difference > 0.0 else 1.0
