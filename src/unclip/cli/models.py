"""The commands about models: `info`, `convert`, `assemble`, `ema` and `basis`."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from typer import Argument, Option

from unclip.cli.options import AsJson, Device, ModelName
from unclip.errors import CheckpointError, InputError
from unclip.files import bytes_text
from unclip.progress import say, show_progress

if TYPE_CHECKING:
    from PIL import Image

    from unclip.model import ModelInfo, StageInfo

INFO_COLUMNS = "  {:<18} {:>13} {:>11} {:>9} {:>9} {:>9}  {}"
STORAGES = ("float32", "bfloat16", "int8")
Storage: TypeAlias = Annotated[str | None, Option(help="float32, bfloat16 or int8; else as it is stored.")]
PART = "A run of `unclip train`, its file, or a model"
NEW_FOLDER = "A folder that does not exist yet, or is empty."


def info(
    model: Annotated[str, Argument(help="A shipped model, a folder, a hub id, or a preset.")] = "emoji",
    write_hashes: Annotated[
        bool, Option("--write-hashes", help="First write the hashes of its files into its card, for files you trust.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the stages of a model, what they cost and their default settings, and check its files.

    GFLOP are those of one step for one picture without guidance (CLIP: of one text). A size is what the weights take
    stored as float32, bfloat16 or int8. What a stage computes in is the best of this machine. Where MODEL_CARD.md has
    hashes, each file of weights, tokenizers and configuration has to have its own, or the program ends with 2.
    """
    from unclip.model import describe_model, find_model
    from unclip.model import write_hashes as write_model_hashes

    if write_hashes:
        write_model_hashes(find_model(model))
    described = describe_model(model)
    print(described.model_dump_json() if as_json else info_text(described))
    if changes := _file_changes(described):
        raise CheckpointError(
            f"{described.folder} is not as its MODEL_CARD.md says: {changes}; fetch it again, or if these files are "
            "yours, --write-hashes."
        )


def info_text(described: "ModelInfo") -> str:
    """Write a line about the model, a table of its stages and their sums, and what does not fit diffusers."""
    stages, obstacles = described.stages, described.not_in_diffusers
    sizes = ", ".join(f"{size} px" for size in described.image_sizes)
    files = bytes_text(sum(stage.num_bytes or 0 for stage in stages))
    place = "" if described.folder is None else f"{files} in {described.folder}"
    source = ", ".join(part for part in (place, described.description) if part)
    total = [bytes_text(sum(stage.memory[storage] for stage in stages)) for storage in stages[0].memory]
    lines = [
        f"{described.name}: {f'draws {sizes}; ' if sizes else ''}{source}",
        INFO_COLUMNS.format("stage", "parameters", "GFLOP/step", *stages[0].memory, "by default"),
        *(_stage_row(stage, described) for stage in stages),
        INFO_COLUMNS.format("all", f"{sum(stage.num_parameters for stage in stages):,}", "", *total, ""),
        *([] if described.folder is None else [f"files: {_files_text(described)}"]),
        *(f"preset {name}: {_changes(changes)}" for name, changes in described.defaults.presets.items()),
        f"convert --to diffusers would {'refuse it:' if obstacles else 'write it'}",
        *(f"  {obstacle}" for obstacle in obstacles),
        *(f"not followed: {name}: {reason}" for name, reason in described.dropped.items()),
    ]
    return "\n".join(line.rstrip() for line in lines)


def _files_text(described: "ModelInfo") -> str:
    if described.hashes is None:
        return "no hashes in the card"
    return _file_changes(described) or f"{len(described.hashes)}, with the SHA-256 that the card lists"


def _file_changes(described: "ModelInfo") -> str:
    """Name the files that are not as the card says: `prior.safetensors differs`."""
    return ", ".join(f"{name} {state}" for name, state in (described.hashes or {}).items() if state != "ok")


def _changes(changes: Mapping[str, Mapping[str, Any]]) -> str:
    """Write settings by stage: `decoder num_steps=6`."""
    return ", ".join(
        f"{stage} {' '.join(f'{name}={value}' for name, value in settings.items())}"
        for stage, settings in changes.items()
    )


def _stage_row(stage: "StageInfo", described: "ModelInfo") -> str:
    settings, notes = described.defaults.stages.get(stage.name), []
    if settings is not None:
        steps = "1 step" if settings.num_steps == 1 else f"{settings.num_steps} steps"
        notes.append(f"{steps} of {settings.sampler}, guidance {settings.guidance_scale:g}")
    notes += [] if stage.storage is None else [f"stored as {stage.storage}"]
    notes.append(f"computes in {stage.number_format}")
    counts = (f"{stage.num_parameters:,}", f"{stage.flops_per_step / 1e9:,.2f}")
    return INFO_COLUMNS.format(stage.name, *counts, *map(bytes_text, stage.memory.values()), "; ".join(notes))


def convert(
    sources: Annotated[list[str], Argument(metavar="SRC", help="A model, or its parts: folders, files, ids.")],
    folder: Annotated[Path, Argument(metavar="DST", help=NEW_FOLDER)],
    to: Annotated[str, Option(help="unclip, or diffusers: for models of Karlo's shape, see info.")] = "unclip",
    storage: Storage = None,
    revision: Annotated[str | None, Option(help="Branch, tag or commit of a hub repository.")] = None,
    as_json: AsJson = False,
) -> None:
    """Convert published weights to a model folder, or a model to diffusers' layout.

    diffusers' unCLIP holds models whose stages are shaped as Karlo's are: `unclip info MODEL` says in its last lines
    whether a model is one, or all that is in the way (the shipped emoji is none).
    """
    _check_storage(storage)
    from unclip.model import convert as convert_model

    result = convert_model(sources, folder, to=to, storage=storage, revision=revision)  # type: ignore[arg-type]
    record: dict[str, Any] = {"recognised": result.descriptions, "stages": sorted(result.source.networks)}
    record |= {"dropped": result.dropped, "folder": str(result.folder), "num_bytes": result.num_bytes}
    lines = [f"found {description}" for description in result.descriptions]
    lines += [f"left behind {name}: {reason}" for name, reason in result.dropped.items()]
    lines.append(f"wrote {', '.join(result.source.networks)} to {result.folder} ({result.num_bytes / 1e6:.1f} MB)")
    print(json.dumps(record) if as_json else "\n".join(lines))


def assemble(
    folder: Annotated[Path, Argument(metavar="OUT", help=NEW_FOLDER)],
    clip: Annotated[str | None, Option(help=f"{PART}; else the one that the stages were trained with.")] = None,
    prior: Annotated[str | None, Option(help=f"{PART}.")] = None,
    decoder: Annotated[str | None, Option(help=f"{PART}.")] = None,
    autoencoder: Annotated[str | None, Option(help=f"{PART}; else the one that the decoder was trained on.")] = None,
    upsampler: Annotated[list[str] | None, Option(help=f"{PART}; once for each.")] = None,
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Join stages that were trained one by one to a model that draws."""
    _check_storage(storage)
    from unclip.model import assemble as assemble_model

    parts = {"clip": clip, "prior": prior, "decoder": decoder}
    frozen: dict[str, Any] = {"autoencoder": autoencoder}
    result = assemble_model(folder, **parts, **frozen, upsamplers=upsampler or [], storage=storage)  # type: ignore[arg-type]
    for note in result.notes:
        say(f"note: {note}")
    record: dict[str, Any] = {"stages": dict(result.origins), "notes": list(result.notes)}
    record |= {"folder": str(result.folder), "num_bytes": result.num_bytes}
    lines = [f"{stage} from {origin}" for stage, origin in result.origins.items()]
    lines.append(f"wrote {result.folder} ({result.num_bytes / 1e6:.1f} MB)")
    missing = [stage for stage in parts if stage not in result.origins]
    needs = f"it has no {' and no '.join(missing)}, which drawing from text needs"
    lines.append(needs if missing else f'next: unclip generate "..." --model {result.folder}')
    print(json.dumps(record) if as_json else "\n".join(lines))


def _check_storage(storage: str | None) -> None:
    if storage is not None and storage not in STORAGES:
        raise InputError(f"--storage {storage} is not one of {', '.join(STORAGES)}.")


def ema(
    run: Annotated[Path, Argument(help="Folder of a run that was trained with ema=power.")],
    sigma_rel: Annotated[float, Option(help="Width of the average, as a share of the images seen.")],
    out: Annotated[Path, Option("-o", "--out", help="The file to write, such as decoder.safetensors.")],
    images: Annotated[int | None, Option(help="Average as of this many images; else of the newest.")] = None,
) -> None:
    """Make a stage of any EMA length from the averages that a run stored.

    The file is the stage as a model folder holds it. The error is that of the profile: how far the weight of each
    moment is from what was asked for.
    """
    from unclip.files import check_writable
    from unclip.training import average_stage

    check_writable([out])
    average = average_stage(run, sigma_rel, out, images)
    print(
        f"{out}: sigma_rel {sigma_rel:g} at {average.images_seen:,} images, "
        f"from {average.num_snapshots} snapshots; profile error {average.error:.2%}"
    )


def basis(
    pictures: Annotated[Path, Argument(help="A folder of pictures, or of .tar shards.")],
    model: ModelName = "emoji",
    out: Annotated[Path | None, Option("-o", "--out", help="The file; else embedding_basis.safetensors.")] = None,
    device: Device = "auto",
) -> None:
    """Fit the components that `probe` keeps; a model's folder may hold the file."""
    from unclip.cli.output import choose_paths
    from unclip.files import check_writable, free_names
    from unclip.model import BASIS_FILE
    from unclip.pipelines import UnClip

    path = out or Path(BASIS_FILE)
    check_writable([path])
    pipe = UnClip.load(model, device)
    fitted = pipe.fit_basis(_open_pictures(pictures, pipe.clip.clip.config.image_size))
    with choose_paths([free_names(path)], is_named=out is not None) as paths:
        fitted.save(paths[0])
    print(paths[0])


def _open_pictures(folder: Path, image_size: int) -> "Iterator[Path | Image.Image]":
    """Yield the pictures below a folder in the order of their names, or those of its shards, with progress."""
    from PIL import Image

    from unclip.cli.output import STILL
    from unclip.data import load_shards

    pictures: Sequence[Any] = sorted(path for path in folder.rglob("*") if path.suffix.lower() in STILL)
    if not pictures:
        if not any(folder.glob("*.tar")):
            kinds = ", ".join(STILL)
            raise InputError(f"{folder} holds no pictures ({kinds}) and no .tar shards; give another folder.")
        pictures = list(load_shards(folder, image_size).images)
    for number, picture in enumerate(pictures, start=1):
        yield picture if isinstance(picture, Path) else Image.fromarray(picture)
        show_progress("embedding", number, len(pictures), "pictures")
