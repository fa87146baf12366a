"""GPUs and the peaks of their data sheets."""

from unclip.config import Config
from unclip.errors import InputError, did_you_mean


class Gpu(Config):
    """One GPU: its memory, and its peak without sparsity."""

    name: str
    """Its name in plans."""
    memory: int
    """Bytes."""
    half_flops: float
    """Floating-point operations a second in bfloat16 (float16 if it has no bfloat16), summed in float32."""
    float32_flops: float
    """The same in float32 without TF32, which is how a run with `precision=float32` computes."""
    has_bfloat16: bool = True
    source: str
    """Data sheet."""


GPUS = {
    name: Gpu(
        name=name,
        memory=gigabytes * 10**9,
        half_flops=half * 1e12,
        float32_flops=single * 1e12,
        has_bfloat16=name != "v100",
        source=f"NVIDIA {source}",
    )
    for name, gigabytes, half, single, source in (
        ("a100", 80, 312, 19.5, "A100 80GB SXM data sheet"),
        ("h100", 80, 989, 67, "H100 SXM data sheet (1,979 with sparsity)"),
        ("h200", 141, 989, 67, "H200 SXM data sheet (1,979 with sparsity)"),
        ("l40s", 48, 362, 91.6, "L40S data sheet (733 with sparsity)"),
        ("rtx4090", 24, 165, 82.6, "Ada architecture white paper, appendix A (sums in float32)"),
        ("v100", 32, 125, 15.7, "V100 SXM2 32GB data sheet"),
    )
}
"""The GPUs that `plan` knows, by name."""


def get_gpu(name: str) -> Gpu:
    """Return the GPU called `name`; raises `InputError` that lists them if there is none."""
    if name not in GPUS:
        raise InputError(f"there is no GPU {name!r} in the table of plans; {did_you_mean(name, GPUS)}")
    return GPUS[name]
