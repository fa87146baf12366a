"""Jobs as `bench_sample` makes them, for tests of what is done with them."""

from unclip.bench.stage import StageJob, shape_of
from unclip.config import Config
from unclip.model import StageSettings

SETTINGS = StageSettings(num_steps=3, sampler="ddim")


def stage_job(stage: str, config: Config, **changes: object) -> StageJob:
    """One picture of a stage in three steps of DDIM, float32 on the CPU."""
    job = StageJob(
        stage=stage,
        shapes=(shape_of(config),),
        settings=SETTINGS,
        batch=1,
        dtype="float32",
        device="cpu",
        num_steps=3,
        repeats=1,
    )
    return job.replace(**changes)
