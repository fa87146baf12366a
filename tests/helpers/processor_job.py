"""The main job in a process of its own: load, draw, vary, enlarge, train a step. Run by test_processors.py.

python tests/helpers/processor_job.py INPUTS OUT PRECISION
"""

import json
import sys
from pathlib import Path

import torch
from torch import Tensor

from pictures import picture
from short_runs import steps
from unclip.checkpoint import load_tensors, save_tensors
from unclip.config import load_config
from unclip.model.folder import WEIGHTS
from unclip.pipelines import Result, UnClip
from unclip.training import TrainConfig

STEPS = {"prior": 6, "decoder": 4, "upsampler_256": 1}
"""Steps of the shipped model's stages."""
KARLO_STEPS = {"prior": 5, "decoder": 4, "upsampler_32": 3}
PROMPTS = ["a red apple", "grinning face with big eyes, noto style"]


def generate(pipe: UnClip) -> Result:
    return pipe.text_to_image(PROMPTS, seed=7, num_steps=STEPS, output_type="pt", image_size=256)


def unguided(pipe: UnClip) -> Result:
    """Guidance multiplies what two number formats differ by."""
    return pipe.text_to_image(PROMPTS, seed=7, num_steps=STEPS, output_type="pt", image_size=256, guidance_scale=1.0)


def vary(pipe: UnClip) -> Result:
    steps = {name: count for name, count in STEPS.items() if name != "prior"}
    return pipe.image_variations(picture(3), seed=7, num_steps=steps, output_type="pt", image_size=256)


def imitate(pipe: UnClip) -> Result:
    return pipe.text_to_image("a cat", seed=0, num_steps=KARLO_STEPS, output_type="pt")


def enlarge(pipe: UnClip) -> Tensor:
    """The last upsampler, on a picture smaller than its own."""
    return pipe.upsamplers[1024].sample(picture(3).resize((96, 96)), image_size=384, seed=7, num_steps=2)


def drawn(pipe: UnClip, prefix: str) -> dict[str, Tensor]:
    """Pictures and embeddings of each kind of drawing."""
    outputs = {f"{prefix}/enlarge": enlarge(pipe)}
    for task in (generate, unguided, vary):
        result = task(pipe)
        outputs[f"{prefix}/{task.__name__}"] = torch.stack(result.images)
        outputs[f"{prefix}/{task.__name__}/embeddings"] = result.image_embeddings
    return outputs


def main(inputs: Path, out: Path, precision: str) -> None:
    """Write all tensors and losses of the job into `out`."""
    if precision != "none":
        torch.set_float32_matmul_precision(precision)
    for path in sorted(WEIGHTS.rglob("*.safetensors")):
        load_tensors(path)
    default = UnClip.load("emoji")
    tensors, formats = {}, generate(default).settings["number_formats"]
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        pipe = default if name == formats["decoder"] else UnClip.load("emoji", "cpu", dtype)
        tensors |= drawn(pipe, name)
    for dtype in (torch.float64, torch.float32):
        pipe = UnClip.load(inputs / "karlo", "cpu", dtype)
        tensors[f"karlo/{str(dtype).removeprefix('torch.')}"] = torch.stack(imitate(pipe).images)
    losses = {}
    for path in sorted(inputs.glob("*.json")):
        config = load_config(TrainConfig, json.loads(path.read_text()))
        losses[path.stem] = steps(config, 1).losses[0]
    save_tensors(out / "tensors.safetensors", tensors, {})
    (out / "facts.json").write_text(json.dumps({"number_formats": formats, "losses": losses}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
