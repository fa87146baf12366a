"""Karlo's original files as a foreign model, told by their tensors. Knows what is in them; not what they are called."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from unclip.clip import Tokenizer
from unclip.errors import CheckpointError
from unclip.interop.clip_files import clip_statistics, openai_clip
from unclip.interop.kandinsky import kandinsky_original_prior
from unclip.interop.rules import ForeignModel, ForeignNetwork, foreign_network, under
from unclip.interop.schedulers import unclip_sampling
from unclip.interop.sources import ForeignFile, open_weights
from unclip.interop.unclip import decoder_original_names, upsampler_original_names
from unclip.interop.unclip_folder import decoder_constants
from unclip.models import (
    Decoder,
    DecoderConfig,
    PriorConfig,
    Upsampler,
    UpsamplerConfig,
    decoder_preset,
    prior_preset,
    upsampler_preset,
)

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
# Bounds on x0 in the original code, by component; its table is in float64.
_BOUNDS = {"prior": 10.0, "decoder": 1.0, "super_res": 1.0}


class _Found(NamedTuple):
    path: Path
    file: ForeignFile


def import_karlo(
    files: Sequence[Path],
    *,
    prior: PriorConfig | None = None,
    decoder: DecoderConfig | None = None,
    upsampler: UpsamplerConfig | None = None,
) -> ForeignModel:
    """The stages in some or all of Karlo's files: prior (with the statistics of CLIP), decoder, upsamplers, CLIP.

    The files do not say the shapes of their networks: None is the published one. Raises `CheckpointError` for a file
    that is damaged, something else or there twice, for tensors that do not fit, and for a prior without statistics.
    """
    found = _sort(files)
    networks: dict[str, ForeignNetwork] = {}
    sampling = {}
    if "clip" in found:
        networks["clip"] = openai_clip(found["clip"].path, "squash")
    if "prior" in found:
        networks["prior"] = _prior(found, prior or prior_preset("karlo"))
        sampling["prior"] = "prior"
    if "decoder" in found:
        networks["decoder"] = _decoder(found["decoder"], decoder or decoder_preset("karlo"))
        sampling["decoder"] = "decoder"
    if "upsampler" in found:
        config = upsampler or upsampler_preset("karlo")
        name = f"upsampler_{config.image_size}"
        networks[name] = _upsampler(found["upsampler"], "model_first_steps", config)
        networks[f"{name}_last"] = _upsampler(found["upsampler"], "model_last_step", config)
        sampling[name] = "super_res"
    return ForeignModel.of(
        f"Karlo's original files ({', '.join(found)})",
        networks,
        {"clip": Tokenizer.openai()} if "clip" in networks else {},
        {stage: _sampling(component) for stage, component in sampling.items()},
    )


def _sort(files: Sequence[Path]) -> dict[str, _Found]:
    found: dict[str, _Found] = {}
    for path in files:
        file = open_weights(path)
        kind = next((kind for kind, (hallmark, _) in _KINDS.items() if hallmark in file.tensors), None)
        if kind is None:
            raise CheckpointError(
                f"{path} is none of Karlo's files: it holds {next(iter(file.tensors))!r}, but no tensor that marks a "
                f"{', '.join(_KINDS)}."
            )
        if kind in found:
            raise CheckpointError(f"{found[kind].path} and {path} are both Karlo's {kind}; give one of them.")
        left = [name for name in file.tensors if not name.startswith(_KINDS[kind][1])]
        if left:
            raise CheckpointError(f"{path}: tensor {left[0]!r} is left over; Karlo's {kind} has no such part.")
        found[kind] = _Found(path, file)
    return found


def _prior(found: Mapping[str, _Found], config: PriorConfig) -> ForeignNetwork:
    path, file = found["prior"]
    if "statistics" not in found:
        raise CheckpointError(f"{path} needs the statistics of CLIP's embeddings; give ViT-L-14_stats.th with it.")
    statistics = clip_statistics(found["statistics"].path, config.embedding_dim)
    return kandinsky_original_prior(file.under("state_dict"), statistics, str(path), config)


def _decoder(found: _Found, config: DecoderConfig) -> ForeignNetwork:
    tensors, names = found.file.under("state_dict"), under("", "model", decoder_original_names(config))
    return foreign_network(Decoder, config, tensors, names, str(found.path), constants=decoder_constants(config))


def _upsampler(found: _Found, container: str, config: UpsamplerConfig) -> ForeignNetwork:
    tensors, names = found.file.under(f"state_dict.{container}"), upsampler_original_names(config.unet())
    return foreign_network(Upsampler, config, tensors, names, f"{found.path}, {container}")


def _sampling(component: str) -> dict[str, Any]:
    return unclip_sampling({"clip_sample_range": _BOUNDS[component]}, component) | {"schedule_dtype": "float64"}
