"""Karlo's original files: names of tensors, and files recognised by their tensors, whatever they are called."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unclip.clip import Tokenizer
from unclip.errors import CheckpointError
from unclip.interop.clip_files import clip_statistics, openai_clip
from unclip.interop.rules import (
    ForeignModel,
    ForeignNetwork,
    Names,
    Tensors,
    foreign_network,
    heads,
    repeated,
    tokens,
    under,
)
from unclip.interop.schedulers import unclip_sampling
from unclip.interop.sources import ForeignFile, open_weights
from unclip.interop.unclip import decoder_constants
from unclip.interop.unets import TIME_ORIGINAL, unet_original_names
from unclip.models import (
    Decoder,
    DecoderConfig,
    Prior,
    PriorConfig,
    Upsampler,
    UpsamplerConfig,
    decoder_preset,
    prior_preset,
    upsampler_preset,
)


def prior_original_names(config: PriorConfig) -> Names:
    """Name the tensors of `Prior` as the original code does; the statistics are in another file."""
    block: Names = {
        "norm_1": "ln_1",
        "qkv": heads("attn.c_qkv", 3, config.width // config.num_heads),
        "out": "attn.c_proj",
        "norm_2": "ln_2",
        "ff_in": "mlp.c_fc",
        "ff_out": "mlp.c_proj",
    }
    return {
        "query": "prd_emb",
        "positions": "positional_embedding",
        "text_tokens": "text_enc_proj",
        "text_embedding": "text_emb_proj",
        "noised_embedding": "clip_img_proj",
        "norm_out": "final_ln",
        "out": "out_proj",
        **repeated("blocks", "transformer.resblocks", block, config.depth),
        **TIME_ORIGINAL,
    }


def decoder_original_names(config: DecoderConfig) -> Names:
    """Name the tensors of `Decoder` as the original code does."""
    return {
        "null_image_embedding": "cf_param",
        "image_embedding": "clip_emb",
        "image_tokens": tokens("clip_tok_proj", config.num_image_tokens),
        "text_embedding": "text_feat_proj",
        "text_tokens": "text_seq_proj.0",
        "text_norm": "text_seq_proj.1",
        **unet_original_names(config.unet()),
    }


def read_original_prior(tensors: Tensors, statistics: Path, source: str, config: PriorConfig) -> ForeignNetwork:
    """Import the prior of the original code, Karlo's or Kandinsky 2.1's; `statistics` is `ViT-L-14_stats.th`."""
    mean, std = clip_statistics(statistics, config.embedding_dim)
    dropped = {
        "model.padding_embedding": "the published prior pads with nothing (xf_padding is off)",
        "clip_": "the statistics are taken from their own file",
        "causal_mask": "computed here",
        "cf_": "the empty prompt, which is encoded when it is needed",
    }
    constants, names = {"embedding_mean": mean, "embedding_std": std}, under("", "model", prior_original_names(config))
    return foreign_network(Prior, config, tensors, names, source, constants=constants, dropped=dropped)


# By kind of file, a tensor that only this kind has, and the containers of all its tensors.
_KINDS = {
    "prior": ("state_dict.model.prd_emb", ("state_dict.",)),
    "decoder": ("state_dict.model.cf_param", ("state_dict.",)),
    "upsampler": (
        "state_dict.model_first_steps.input_blocks.0.0.weight",
        ("state_dict.model_first_steps.", "state_dict.model_last_step."),
    ),
    "statistics": ("1", ("0", "1")),
    "clip": ("visual.conv1.weight", ("",)),
}


def import_karlo(
    files: Sequence[Path],
    *,
    prior: PriorConfig | None = None,
    decoder: DecoderConfig | None = None,
    upsampler: UpsamplerConfig | None = None,
) -> ForeignModel:
    """Open the stages in some or all of Karlo's files: prior (with the statistics of CLIP), decoder, upsamplers, CLIP.

    The files do not hold the shapes of their networks: None is the published one. Raises `CheckpointError` for a file
    that is damaged, something else or there twice, for tensors that do not fit, and for a prior without statistics.
    """
    kinds = _sort(files)
    networks: dict[str, ForeignNetwork] = {}
    sampling = {}
    if "clip" in kinds:
        networks["clip"] = openai_clip(kinds["clip"][0], "squash")
    if "prior" in kinds:
        path, content = kinds["prior"]
        if "statistics" not in kinds:
            raise CheckpointError(f"{path} needs the statistics of CLIP's embeddings; give ViT-L-14_stats.th with it.")
        tensors, (statistics, _) = content.under("state_dict"), kinds["statistics"]
        networks["prior"] = read_original_prior(tensors, statistics, str(path), prior or prior_preset("karlo"))
        sampling["prior"] = _sampling("prior", 10.0)
    if "decoder" in kinds:
        path, content = kinds["decoder"]
        decoder = decoder or decoder_preset("karlo")
        tensors, names = content.under("state_dict"), under("", "model", decoder_original_names(decoder))
        constants = decoder_constants(decoder)
        networks["decoder"] = foreign_network(Decoder, decoder, tensors, names, str(path), constants=constants)
        sampling["decoder"] = _sampling("decoder", 1.0)
    if "upsampler" in kinds:
        path, content = kinds["upsampler"]
        upsampler = upsampler or upsampler_preset("karlo")
        stage, parts = f"upsampler_{upsampler.image_size}", unet_original_names(upsampler.unet())
        for name, container in ((stage, "model_first_steps"), (f"{stage}_last", "model_last_step")):
            tensors, source = content.under(f"state_dict.{container}"), f"{path}, {container}"
            networks[name] = foreign_network(Upsampler, upsampler, tensors, parts, source)
        sampling[stage] = _sampling("super_res", 1.0)
    tokenizers = {"clip": Tokenizer.openai()} if "clip" in networks else {}
    return ForeignModel.of(f"Karlo's original files ({', '.join(kinds)})", networks, tokenizers, sampling)


# The original code bounds x0, and its table is in float64.
def _sampling(component: str, x0_bound: float) -> dict[str, Any]:
    return unclip_sampling({"clip_sample_range": x0_bound}, component) | {"schedule_dtype": "float64"}


def _sort(files: Sequence[Path]) -> dict[str, tuple[Path, ForeignFile]]:
    kinds: dict[str, tuple[Path, ForeignFile]] = {}
    for path in files:
        content = open_weights(path)
        kind = next((kind for kind, (hallmark, _) in _KINDS.items() if hallmark in content.tensors), None)
        if kind is None:
            raise CheckpointError(
                f"{path} is none of Karlo's files: it holds {next(iter(content.tensors))!r}, but no tensor that marks "
                f"a {', '.join(_KINDS)}."
            )
        if kind in kinds:
            raise CheckpointError(f"{kinds[kind][0]} and {path} are both Karlo's {kind}; give one of them.")
        unknown = [name for name in content.tensors if not name.startswith(_KINDS[kind][1])]
        if unknown:
            raise CheckpointError(f"{path}: tensor {unknown[0]!r} is left over; Karlo's {kind} has no such part.")
        kinds[kind] = path, content
    return kinds
