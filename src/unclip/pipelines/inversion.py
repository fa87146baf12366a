"""From pictures back to the noise that the decoder draws them from. Knows the decoder of a job; no task."""

from collections.abc import Iterator

from PIL import Image
from torch import Tensor

from unclip.diffusion import SamplerStep, invert
from unclip.images import cover, from_pil
from unclip.pipelines.canvas import Canvas
from unclip.pipelines.conditioning import Condition
from unclip.pipelines.job import Batch, Job, run_steps
from unclip.pipelines.sampling import select_text, stage_times

__all__ = ["INVERTIBLE", "invert_pictures"]

# What draws back what was inverted: DDIM without guidance and clipping, which both lose what the picture was.
INVERTIBLE = {"sampler": "ddim", "guidance_scale": 1.0, "num_steps": 50, "x0_bound": 1e4}


# The x_T of unCLIP section 3.1.
def invert_pictures(
    job: Job, pictures: list[Image.Image], embeddings: list[Tensor], condition: Condition, num_refinements: int = 1
) -> list[Canvas]:
    """A canvas for each batch with the x_T that leads to its rows of `pictures` under `embeddings`, without guidance.

    Pictures are cut to the shape that is drawn. Progress is reported as stage "inversion".
    """
    decoder, settings = job.model.need_decoder, job.settings["decoder"].replace(guidance_scale=1.0)
    times, (height, width) = stage_times(decoder.schedule, settings), job.chain.sizes[0]

    def steps(embedding: Tensor, batch: Batch) -> Iterator[SamplerStep]:
        told = condition._replace(text=select_text(condition.text, batch.rows))
        seen = from_pil([cover(pictures[row], (width, height)) for row in batch.rows]).to(embedding.device)
        denoiser = decoder.denoiser(embedding, told, settings)
        return invert(denoiser, decoder.start(seen), times, num_refinements)

    with job.model.resident(decoder):
        climbs = (steps(embedding, batch) for embedding, batch in zip(embeddings, job.batches, strict=True))
        return [Canvas(x_T=x_T) for x_T in run_steps("inversion", climbs, len(job.batches), job.report)]
