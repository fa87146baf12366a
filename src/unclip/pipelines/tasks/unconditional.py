"""Draw pictures of nothing in particular, by a decoder without conditioning."""

from typing import Unpack

import torch

from unclip.errors import InputError
from unclip.pipelines.job import begin
from unclip.pipelines.model import Model
from unclip.pipelines.options import DrawOptions, NumImages, task
from unclip.pipelines.result import Result
from unclip.pipelines.tasks.embeddings import decoder_features


@task(unused=("guidance_scale",))
def unconditional(model: Model, num_images: NumImages = 1, **options: Unpack[DrawOptions]) -> Result:
    """Draw `num_images` pictures without a text or a picture, from a decoder that was trained without conditions.

    Any decoder draws: in place of the image embedding stands the null that it learned, which it always saw where it was
    trained with `image_drop_prob=1` and now and then elsewhere. A model needs no CLIP and no prior for it, unless its
    decoder reads text, whose place the empty prompt takes, or the embedding of an empty image as its null. Upsamplers
    go on as ever; images, seeds and noise are as for `text_to_image`.

    Raises `InputError` as that does, and for guidance: there is nothing to lead away from.
    """
    unguided = {"decoder": {"guidance_scale": 1.0}}
    job = begin(model, options, num_images=num_images, defaults=unguided, is_conditional=False)
    if (scale := job.settings["decoder"].guidance_scale) != 1.0:
        raise InputError(f"guidance_scale of decoder={scale:g} has no condition to lead to; leave it out, or give 1.")
    condition = decoder_features(model, [""]).condition._replace(is_conditional=False)
    width = model.need_decoder.config.embedding_dim
    embeddings = [torch.zeros(len(batch.rows), width, device=model.device) for batch in job.batches]
    return job.result(job.draw(embeddings, condition), None, {}, unconditional=True)
