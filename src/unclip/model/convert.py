"""Convert models from one layout to another, one tensor in memory at a time."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from unclip.checkpoint import Storage
from unclip.clip import MultilingualTokenizer
from unclip.errors import ConfigError, InputError, did_you_mean
from unclip.files import atomic_folder
from unclip.interop import export_unclip
from unclip.interop.schedulers import unclip_sampling
from unclip.model.folder import ModelSource, bytes_in, check_new, write_model
from unclip.model.opening import looks_like_repository, open_sources
from unclip.model.settings import EMBEDDING_BOUND, PIXEL_BOUND, StageSettings

ModelLayout = Literal["unclip", "diffusers"]


@dataclass(frozen=True)
class Conversion:
    """A model that was converted."""

    descriptions: list[str]
    """What each source was recognised as."""
    source: ModelSource
    """The model that was written, as it was read."""
    dropped: dict[str, str]
    """Names of tensors and options that were left behind, each with the reason."""
    folder: Path
    num_bytes: int
    """Size of the folder."""


def convert(
    sources: str | Path | Sequence[str | Path],
    folder: str | Path,
    *,
    to: ModelLayout | str = "unclip",
    storage: Storage | None = None,
    revision: str | None = None,
) -> Conversion:
    """Write a model of any known layout, or several parts as one model, to a new folder.

    Sources are as for `UnClip.load`, and single files of original releases; `to` is "unclip" or "diffusers" (an unCLIP
    folder, which holds models shaped as Karlo; `describe_model(...).not_in_diffusers` says what is in the way of
    others). Weights keep their number format unless `storage` says another, which only our layout has. The folder
    appears whole or not at all. Raises `InputError` where it exists already, and like `UnClip.load`.
    """
    names = [sources] if isinstance(sources, str | Path) else list(sources)
    if to not in get_args(ModelLayout):
        raise InputError(f"unknown layout {to!r} to convert to; {did_you_mean(to, get_args(ModelLayout))}")
    if storage is not None and to != "unclip":
        raise InputError(f"storage={storage} belongs to our own layout; leave it out with {to}.")
    folder = Path(folder)
    check_new(folder)
    for name in names:
        if Path(name).is_dir() and Path(name).resolve() in folder.resolve().parents:
            raise InputError(
                f"{folder} lies inside {name}, which would hold its own conversion; choose another folder."
            )
    opened = open_sources(names, revision)
    dropped = dict(opened.dropped)
    with atomic_folder(folder) as temporary:
        if to == "diffusers":
            dropped |= _export(opened.source, temporary)
        else:
            from_hub = looks_like_repository(str(names[0]))
            name = opened.source.name if from_hub else folder.absolute().name
            write_model(replace(opened.source, name=name), temporary, storage)
        num_bytes = bytes_in(temporary)
    return Conversion(opened.descriptions, opened.source, dropped, folder, num_bytes)


def _export(source: ModelSource, folder: Path) -> dict[str, str]:
    """Write a folder of diffusers; return what it does not hold: tensors, the basis, default sampling settings.

    Raises `ConfigError` with all the reasons if networks have no equivalent there.
    """
    bounds = {
        stage: settings.x0_bound or (EMBEDDING_BOUND if stage == "prior" else PIXEL_BOUND)
        for stage, settings in source.defaults.stages.items()
    }
    tokenizer = source.tokenizers.get("clip")
    assert not isinstance(tokenizer, MultilingualTokenizer), "CLIP reads the ids of a multilingual tokenizer"
    try:
        exported = export_unclip(source.networks, tokenizer, bounds, folder)
    except ConfigError as error:
        raise ConfigError(
            f"the model {source.name!r} cannot be said in diffusers' unCLIP layout: {str(error).removesuffix('.')}; "
            "keep it in our layout, or train these stages as the preset karlo has them (unclip info karlo)."
        ) from None
    dropped = {} if source.basis is None else {"embedding basis": "diffusers has no place for it"}
    for stage, settings in source.defaults.stages.items():
        usual = StageSettings(**unclip_sampling({}, re.sub(r"^upsampler_\d+$", "super_res", stage))).model_dump()
        changed = [
            f"{name}={value}"
            for name, value in settings.model_dump().items()
            if name != "x0_bound" and value != usual[name]
        ]
        if changed:
            dropped[f"{stage}: {', '.join(changed)}"] = "diffusers draws by settings of the call, not of the model"
    if source.defaults.num_candidates > 1:
        dropped[f"num_candidates={source.defaults.num_candidates}"] = "diffusers decodes the first embedding"
    return dropped | exported
