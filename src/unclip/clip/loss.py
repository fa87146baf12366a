"""The contrastive objective. Knows embeddings; not the towers that made them."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from unclip.shapes import Embeddings

MAX_LOGIT_SCALE = math.log(100.0)


# Symmetric cross-entropy over cosine similarities, CLIP (arXiv 2103.00020) fig. 3.
def contrastive_loss(
    image_embeddings: Embeddings, text_embeddings: Embeddings, logit_scale: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """Mean loss of telling each image's text, and each text's image, from the others of the batch.

    Row i of both belongs together; neither needs to be normalised. `logit_scale` is a logarithm, held at log 100 at
    most. Computed in float32 even under autocast: bfloat16 logits near 100 would be rounded to steps of 0.5.
    """
    with torch.autocast(image_embeddings.device.type, enabled=False):
        images = F.normalize(image_embeddings.float(), dim=-1)
        texts = F.normalize(text_embeddings.float(), dim=-1)
        logits = logit_scale.float().clamp(max=MAX_LOGIT_SCALE).exp() * images @ texts.T  # (N, N)
        pairs = torch.arange(len(logits), device=logits.device)
        return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2
