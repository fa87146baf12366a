"""GPUs and what their makers promise of them. Knows data sheets; no model and no driver."""

from unclip.config import Config
from unclip.errors import InputError, did_you_mean


class Gpu(Config):
    """One GPU: its memory, and its peak without sparsity."""

    name: str
    """What it is called in plans."""
    memory: int
    """Bytes."""
    half_flops: float
    """Floating-point operations a second in bfloat16 (float16 where it has no bfloat16), summed in float32."""
    float32_flops: float
    """The same in float32 without TF32, which is how a run with `precision=float32` computes."""
    has_bfloat16: bool = True
    source: str
    """Data sheet."""


_GB = 10**9
_TERA = 1e12

GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu(
            name="a100",
            memory=80 * _GB,
            half_flops=312 * _TERA,
            float32_flops=19.5 * _TERA,
            source="NVIDIA A100 80GB SXM data sheet",
        ),
        Gpu(
            name="h100",
            memory=80 * _GB,
            half_flops=989 * _TERA,
            float32_flops=67 * _TERA,
            source="NVIDIA H100 SXM data sheet (1,979 with sparsity)",
        ),
        Gpu(
            name="h200",
            memory=141 * _GB,
            half_flops=989 * _TERA,
            float32_flops=67 * _TERA,
            source="NVIDIA H200 SXM data sheet (1,979 with sparsity)",
        ),
        Gpu(
            name="l40s",
            memory=48 * _GB,
            half_flops=362 * _TERA,
            float32_flops=91.6 * _TERA,
            source="NVIDIA L40S data sheet (733 with sparsity)",
        ),
        Gpu(
            name="rtx4090",
            memory=24 * _GB,
            half_flops=165 * _TERA,
            float32_flops=82.6 * _TERA,
            source="NVIDIA Ada architecture white paper, appendix A (sums in float32)",
        ),
        Gpu(
            name="v100",
            memory=32 * _GB,
            half_flops=125 * _TERA,
            float32_flops=15.7 * _TERA,
            has_bfloat16=False,
            source="NVIDIA V100 SXM2 32GB data sheet",
        ),
    )
}
"""The GPUs that `plan` knows, by name."""


def get_gpu(name: str) -> Gpu:
    """The GPU called `name`; raises `InputError` that lists them when there is none."""
    if name not in GPUS:
        raise InputError(f"there is no GPU {name!r} in the table of plans; {did_you_mean(name, GPUS)}")
    return GPUS[name]
