"""`unclip basis`: the principal components of the embeddings of many pictures. Knows folders; no mathematics."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unclip.cli.options import Device, ModelName
from unclip.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image


DEFAULT_FILE = "embedding_basis.safetensors"
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def basis(
    pictures: Annotated[Path, typer.Argument(help="A folder of pictures, or of .tar shards.")],
    model: ModelName = "emoji",
    out: Annotated[Path | None, typer.Option("-o", "--out", help="The file; else embedding_basis.safetensors.")] = None,
    device: Device = "auto",
) -> None:
    """Fit the components that `probe` keeps; a model's folder may hold the file."""
    from unclip.files import check_writable, claimed_paths, free_names
    from unclip.pipelines import UnClip

    check_writable([out or Path(DEFAULT_FILE)])
    pipe = UnClip.load(model, device)
    fitted = pipe.fit_basis(_opened(_found(pictures, pipe.clip.clip.config.image_size)))
    if out is None:
        with claimed_paths([free_names(Path(DEFAULT_FILE))]) as (path,):
            fitted.save(path)
    else:
        path = out
        fitted.save(path)
    print(path)


def _found(folder: Path, image_size: int) -> "Sequence[Path | np.ndarray]":
    """Files of pictures below a folder in the order of their names, or the pictures of its shards."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files and not any(folder.glob("*.tar")):
        raise InputError(f"{folder} holds no pictures ({', '.join(SUFFIXES)}) and no .tar shards; give another folder.")
    from unclip.data import load_shards

    return files or list(load_shards(folder, image_size).images)


def _opened(found: "Sequence[Path | np.ndarray]") -> "Iterator[Path | Image.Image]":
    """One picture after the other, with progress."""
    from PIL import Image

    from unclip.progress import show_progress

    for number, picture in enumerate(found, start=1):
        yield picture if isinstance(picture, Path) else Image.fromarray(picture)
        show_progress("embedding", number, len(found), "pictures")
