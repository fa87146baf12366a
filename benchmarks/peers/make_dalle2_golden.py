"""Makes tests/golden/dalle2_pytorch.safetensors: tiny networks of DALLE2-pytorch, random weights, and their outputs.

The peer needs an environment of its own, on a machine without a GPU (Python 3.11):

    python3 -m venv peer && peer/bin/pip install torch==2.13.0
    peer/bin/pip install --no-deps dalle2-pytorch==1.15.6 torchvision==0.28.0 kornia==0.6.12
    peer/bin/pip install --no-deps rotary-embedding-torch==0.5.3 vector-quantize-pytorch==1.14.24 ema-pytorch==0.7.3
    peer/bin/pip install einops einops-exts x-clip coca-pytorch clip-anytorch accelerate embedding-reader resize-right \
        pytorch-warmup webdataset "pydantic>=2" click regex ftfy einx safetensors

With a CPU build of torch, empty torchvision/_meta_registrations.py there: it registers kernels that do not exist. Then

    peer/bin/python make_dalle2_golden.py 1.15.6 golden.safetensors
    peer/bin/pip install --no-deps --target old dalle2-pytorch==1.1.0
    PYTHONPATH=old peer/bin/python make_dalle2_golden.py 1.1.0 golden.safetensors

adds each version's cases to the file. Weights are float8, which is exact in float32 and small. Names:
`case/weights/KEY` is the peer's state dict, `case/inputs/NAME` our forward's arguments, `case/outputs/NAME` results.
Decoders have both for each U-Net: `case/inputs.0/NAME`. The metadata's "cases" is JSON: version and config of each.
"""

import json
import sys
from pathlib import Path

import torch
from dalle2_pytorch.dalle2_pytorch import Decoder, DiffusionPrior, DiffusionPriorNetwork, Unet
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

PRIOR = {
    "net": {
        "dim": 24,
        "depth": 2,
        "heads": 3,
        "dim_head": 40,
        "max_text_len": 40,
        "num_timesteps": 100,
        "normformer": True,
        "attn_dropout": 0.05,
        "ff_dropout": 0.05,
    },
    "image_embed_dim": 24,
    "timesteps": 100,
    "cond_drop_prob": 0.1,
}
PRIOR_CONTINUOUS = {
    "net": {
        "dim": 16,
        "depth": 2,
        "heads": 2,
        "dim_head": 12,
        "max_text_len": 5,
        "ff_mult": 2,
        "num_time_embeds": 2,
        "num_image_embeds": 3,
        "num_text_embeds": 2,
        "norm_in": True,
        "norm_out": False,
        "final_proj": False,
        "rotary_emb": False,
    },
    "image_embed_dim": 16,
    "timesteps": 100,
    "cond_drop_prob": 0.1,
}
PRIOR_OPTIONS = PRIOR_CONTINUOUS | {
    "net": PRIOR_CONTINUOUS["net"] | {"self_cond": True},
    "predict_v": True,
    "image_embed_scale": 3.0,
    "condition_on_text_encodings": False,
}

# The shape of the released decoder: dense attention inside, linear attention outside, text in the middle.
LAION = {
    "dim": 8,
    "cond_dim": 6,
    "image_embed_dim": 12,
    "text_embed_dim": 10,
    "cond_on_text_encodings": True,
    "max_text_len": 7,
    "dim_mults": [1, 2],
    "num_resnet_blocks": 1,
    "resnet_groups": 4,
    "attn_heads": 2,
    "attn_dim_head": 8,
    "sparse_attn": True,
    "memory_efficient": True,
    "self_attn": [False, True],
}
SMALL = {"dim": 4, "cond_dim": 4, "dim_mults": [1, 2], "resnet_groups": 2, "attn_heads": 2, "attn_dim_head": 4}
DECODER = {
    "unets": [LAION, SMALL | {"num_resnet_blocks": 1, "cross_embed_downsample": True, "self_cond": True}],
    "image_sizes": [8, 16],
    "timesteps": 1000,
    "learned_variance": True,
    "use_noise_for_lowres_cond": True,
}
DECODER_V1_1 = {
    "unets": [LAION, SMALL | {"num_resnet_blocks": [1, 1], "self_attn": [True, False]}],
    "image_sizes": [8, 16],
    "timesteps": 1000,
    "beta_schedule": ["cosine", "cosine"],
}
OPTIONS = SMALL | {
    "image_embed_dim": 6,
    "dim_mults": [1, 2, 3],
    "num_resnet_blocks": [1, 2, 1],
    "resnet_groups": [2, 4, 2],
    "num_image_tokens": 3,
    "num_time_tokens": 1,
    "self_attn": [True, False, True],
    "cosine_sim_self_attn": True,
    "cosine_sim_cross_attn": True,
    "add_image_embeds_to_time": False,
    "init_cross_embed": False,
    "init_conv_kernel_size": 5,
    "resnet_weight_standardization": True,
    "scale_skip_connection": True,
    "pixel_shuffle_upsample": False,
    "final_conv_kernel_size": 3,
    "max_text_len": 3,
}
DECODER_OPTIONS = {
    "unets": [OPTIONS],
    "image_size": 8,
    "channels": 1,
    "timesteps": 100,
    "learned_variance": False,
    "predict_v": True,
}


def fill(module: nn.Module, generator: torch.Generator) -> None:
    """Random float8 numbers in every parameter, also in those that start at zero; activations stay near 1."""
    for name, parameter in module.named_parameters():
        if name.endswith("freqs"):
            continue
        noise = torch.randn(parameter.shape, generator=generator)
        fan_in = parameter[0].numel() if parameter.ndim > 1 and len(parameter) > 1 else 4
        gain = name.endswith(("g", "norm.weight", "cond.weight")) and parameter.squeeze().ndim == 1
        value = 1 + 0.3 * noise if gain else noise * fan_in**-0.5
        parameter.data.copy_(value.to(torch.float8_e4m3fn).float())


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    parameters = {name for name, _ in module.named_parameters() if not name.endswith("freqs")}
    return {
        name: tensor.to(torch.float8_e4m3fn) if name in parameters else tensor.clone()
        for name, tensor in module.state_dict().items()
    }


def text_of(generator: torch.Generator, length: int, width: int) -> dict[str, Tensor]:
    hidden = torch.randn(2, length, width, generator=generator)
    mask = torch.arange(length) < torch.tensor([[length], [length // 2 + 1]])
    return {"text_hidden": hidden * mask[:, :, None], "text_mask": mask}


@torch.no_grad()
def prior_case(config: dict, version: str, generator: torch.Generator) -> dict[str, Tensor]:
    net = DiffusionPriorNetwork(**config["net"])
    prior = DiffusionPrior(net=net, **{name: value for name, value in config.items() if name != "net"}).eval()
    fill(prior, generator)
    dim, reads_text = config["net"]["dim"], config.get("condition_on_text_encodings", True)
    inputs = {
        "x_t": 2 * torch.randn(2, dim, generator=generator),
        "timestep": torch.tensor([3.0, 97.0]),
        "text_embedding": nn.functional.normalize(torch.randn(2, dim, generator=generator), dim=-1),
    }
    if reads_text:
        inputs |= text_of(generator, config["net"]["max_text_len"] - 2, dim)
    if config["net"].get("self_cond"):
        inputs["self_condition"] = torch.randn(2, dim, generator=generator)
    theirs = {"text_embed": inputs["text_embedding"], "text_encodings": inputs.get("text_hidden")}
    if version == "1.15.6":
        theirs["self_cond"] = inputs.get("self_condition")
    arguments = (inputs["x_t"], inputs["timestep"].long())
    outputs = {"present": net(*arguments, **theirs)}
    if version == "1.15.6":
        outputs["absent"] = net(*arguments, **theirs, text_cond_drop_prob=1.0, image_cond_drop_prob=1.0)
        outputs["text_absent"] = net(*arguments, **theirs, text_cond_drop_prob=1.0)
    return grouped(weights_of(prior), inputs, outputs)


@torch.no_grad()
def decoder_case(config: dict, generator: torch.Generator) -> dict[str, Tensor]:
    unets = tuple(Unet(**options) for options in config["unets"])
    decoder = Decoder(unets, **{name: value for name, value in config.items() if name != "unets"}).eval()
    fill(decoder, generator)
    sizes = config.get("image_sizes", [config.get("image_size")])
    tensors = grouped(weights_of(decoder), {}, {})
    for index, (unet, size) in enumerate(zip(decoder.unets, sizes, strict=True)):
        inputs = unet_inputs(unet, size, config["unets"][index], generator)
        outputs = unet_outputs(unet, inputs)
        tensors |= {name.replace("/", f".{index}/", 1): tensor for name, tensor in grouped({}, inputs, outputs).items()}
    return tensors


def unet_inputs(unet: Unet, size: int, options: dict, generator: torch.Generator) -> dict[str, Tensor]:
    picture = (2, unet.channels, size, size)
    inputs = {"x_t": torch.randn(picture, generator=generator), "timestep": torch.tensor([3.0, 97.0])}
    if unet.cond_on_image_embeds:
        inputs["image_embedding"] = torch.randn(2, options["image_embed_dim"], generator=generator)
    if unet.cond_on_text_encodings:
        inputs |= text_of(generator, options["max_text_len"] - 1, options["text_embed_dim"])
    if unet.lowres_cond:
        inputs["low_res"] = torch.randn(picture, generator=generator)
    if unet.lowres_noise_cond:
        inputs["low_res_noise_level"] = torch.tensor([200.0, 5.0])
    if options.get("self_cond"):
        inputs["self_condition"] = torch.randn(picture, generator=generator)
    return inputs


def unet_outputs(unet: Unet, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    theirs = {
        "image_embed": inputs.get("image_embedding"),
        "text_encodings": inputs.get("text_hidden"),
        "lowres_cond_img": inputs.get("low_res"),
        "lowres_noise_level": inputs.get("low_res_noise_level"),
    }
    if "self_condition" in inputs:
        theirs["self_cond"] = inputs["self_condition"]
    arguments = (inputs["x_t"], inputs["timestep"].long())
    outputs = {"present": unet(*arguments, **theirs)}
    if unet.cond_on_image_embeds:
        outputs["absent"] = unet(*arguments, **theirs, text_cond_drop_prob=1.0, image_cond_drop_prob=1.0)
        outputs["image_absent"] = unet(*arguments, **theirs, image_cond_drop_prob=1.0)
    return outputs


def grouped(weights: dict[str, Tensor], inputs: dict[str, Tensor], outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    groups = {"weights": weights, "inputs": inputs, "outputs": outputs}
    return {f"{group}/{name}": tensor for group, tensors in groups.items() for name, tensor in tensors.items()}


PRIORS = {
    "1.15.6": {"prior": PRIOR, "prior_continuous": PRIOR_CONTINUOUS, "prior_options": PRIOR_OPTIONS},
    "1.1.0": {"prior_v1.1": PRIOR, "prior_continuous_v1.1": PRIOR_CONTINUOUS},
}


DECODERS = {
    "1.15.6": {"decoder": DECODER, "decoder_options": DECODER_OPTIONS},
    "1.1.0": {"decoder_v1.1": DECODER_V1_1},
}


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, dict]]:
    if not path.exists():
        return {}, {}
    with safe_open(path, "pt") as file:
        cases = json.loads(file.metadata()["cases"])
    return load_file(path), cases


def main(version: str, path: Path) -> None:
    tensors, cases = read(path)
    made: dict[str, tuple[dict[str, Tensor], dict]] = {}
    for number, (case, config) in enumerate(PRIORS[version].items()):
        generator = torch.Generator().manual_seed(number)
        made[case] = prior_case(config, version, generator), {"version": version, "config": {"prior": config}}
    for number, (case, config) in enumerate(DECODERS[version].items()):
        generator = torch.Generator().manual_seed(10 + number)
        about = {"version": version, "config": {"decoder": config}}
        made[case] = decoder_case(config, generator), about
    for case, (group, about) in made.items():
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(f"{case}/")}
        tensors |= {f"{case}/{name}": tensor.contiguous() for name, tensor in group.items()}
        cases[case] = about
    save_file(tensors, path, metadata={"cases": json.dumps(cases)})
    for case, (group, _) in made.items():
        stds = {name: f"{tensor.std():.3f}" for name, tensor in group.items() if name.startswith("outputs")}
        print(case, sum(tensor.numel() for tensor in group.values()), stds)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
