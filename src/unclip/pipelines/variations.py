"""Variations of a picture: CLIP looks at it, the decoder draws what CLIP saw. Knows the stages of a model, no prior."""

from collections.abc import Sequence
from typing import Unpack

import torch

from unclip.pictures import Picture, open_pictures
from unclip.pipelines.features import encode
from unclip.pipelines.job import begin
from unclip.pipelines.model import Model
from unclip.pipelines.options import DrawOptions
from unclip.pipelines.result import Result

__all__ = ["image_variations"]


@torch.inference_mode()
def image_variations(
    model: Model, images: Picture | Sequence[Picture], num_images: int = 1, **options: Unpack[DrawOptions]
) -> Result:
    """Draw `num_images` variations of each picture: others of which CLIP would say the same (paper, section 3.1).

    `images` are PIL pictures or paths of any shape; CLIP's `resize` says how they become square. The prior is not
    used. All else, seeds, noise and errors too, is as for `text_to_image`.
    """
    pictures = open_pictures(images)
    job = begin(model, options, num_inputs=len(pictures), num_images=num_images)
    features = encode(model, [""] * len(pictures), pictures)
    embeddings = [features.pictures[batch.rows] for batch in job.batches]
    return job.result(job.draw(embeddings, features.condition), embeddings)
