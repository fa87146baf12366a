"""Whether anything hears a negative prompt. Knows stages and their guidance; guides nothing."""

from unclip.errors import InputError
from unclip.pipelines.conditioning import leads_from_text
from unclip.pipelines.job import Job
from unclip.pipelines.settings import check_text

__all__ = ["check_negative"]


def check_negative(job: Job, negative_prompt: str) -> None:
    """Raise `InputError` unless guidance of a stage of the job leads away from `negative_prompt`, or it is empty."""
    if not isinstance(negative_prompt, str):
        raise InputError(f"negative_prompt is a {type(negative_prompt).__name__}; it is a text, one for all pictures.")
    check_text("negative_prompt", negative_prompt)
    if not negative_prompt:
        return
    stages = {"prior": job.model.prior, "decoder": job.model.decoder}
    ran = {name: stage for name, stage in stages.items() if stage is not None and name in job.settings}
    scales = {name: job.settings[name].guidance_scale for name, stage in ran.items() if leads_from_text(stage.network)}
    if not scales:
        raise InputError(
            f"nothing in the model {job.model.name!r} that runs here leads away from a text; leave negative_prompt out."
        )
    if max(scales.values()) <= 1.0:
        shown = ", ".join(f"{name} {scale:g}" for name, scale in scales.items())
        raise InputError(
            f"negative_prompt needs guidance above 1; guidance_scale is {shown}. Raise it, or leave the prompt out."
        )
