"""Text to image: CLIP reads, the prior imagines an embedding, the decoder draws it, the upsamplers sharpen it.

Knows the stages of a model; not how networks or samplers work.
"""

from collections.abc import Sequence
from typing import Unpack

import torch

from unclip.pipelines.features import encode
from unclip.pipelines.job import begin
from unclip.pipelines.model import Model
from unclip.pipelines.options import DrawOptions
from unclip.pipelines.result import Result
from unclip.pipelines.settings import check_count, check_prompts

__all__ = ["text_to_image"]


@torch.inference_mode()
def text_to_image(
    model: Model,
    prompts: str | Sequence[str],
    num_images: int = 1,
    *,
    num_candidates: int | None = None,
    **options: Unpack[DrawOptions],
) -> Result:
    """Draw `num_images` pictures of each prompt; see `UnClip.text_to_image` for the arguments."""
    texts = check_prompts(prompts)
    job = begin(model, options, num_inputs=len(texts), num_images=num_images, uses_prior=True)
    candidates = model.num_candidates if num_candidates is None else check_count("num_candidates", num_candidates)
    features = encode(model, texts)
    embeddings = job.imagine(features, candidates)
    images = job.draw(embeddings, features.condition)
    return job.result(images, embeddings, texts, num_candidates=candidates)
