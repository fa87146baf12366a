"""Pixels: the one place that knows ranges and layouts. Knows no network and no data set.

A batch of pictures is a float32 tensor (batch, channels, height, width) in [-1, 1]; numpy pictures are uint8
(batch, height, width, channels); PIL pictures are RGB.
"""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, UInt8
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from unclip.errors import InputError
from unclip.files import atomic_write
from unclip.pictures import on_white, open_picture
from unclip.shapes import Images

PNG_MODES = ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")
# Of JPEG and WebP: no difference to the eye at a quarter of a PNG's bytes.
QUALITY = 95
MAX_TEXT_BYTES = 15_000

Uint8Images = UInt8[np.ndarray, "batch height width channels"]


def from_uint8(pixels: Uint8Images | UInt8[Tensor, "batch height width channels"]) -> Images:
    """uint8 (batch, height, width, channels) to float32 (batch, channels, height, width) in [-1, 1], where it lies."""
    tensor = pixels if isinstance(pixels, Tensor) else torch.from_numpy(np.array(pixels))
    return tensor.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def to_unit(images: Images) -> Float32[np.ndarray, "batch height width channels"]:
    """Images to float32 (batch, height, width, channels) in [0, 1], clamped."""
    return images.detach().float().add(1.0).mul(0.5).clamp(0.0, 1.0).permute(0, 2, 3, 1).cpu().numpy()


def to_uint8(images: Images) -> Uint8Images:
    """Images to uint8 (batch, height, width, channels): clamped and rounded."""
    return np.rint(to_unit(images) * 255.0).astype(np.uint8)


def from_pil(images: Sequence[Image.Image]) -> Images:
    """PIL pictures of one size to a batch, transparency white; raises `InputError` when sizes differ or it is empty."""
    sizes = {image.size for image in images}
    if len(sizes) != 1:
        raise InputError(f"a batch holds pictures of one size; found {len(images)} pictures of sizes {sorted(sizes)}.")
    return from_uint8(np.stack([np.asarray(on_white(image)) for image in images]))


def to_pil(images: Images) -> list[Image.Image]:
    """A batch to RGB PIL pictures."""
    return [Image.fromarray(pixels) for pixels in to_uint8(images)]


def resize(images: Images, size: int | tuple[int, int]) -> Float[Tensor, "batch channels new_height new_width"]:
    """Bicubic, antialiased when shrinking; `size` is the side of a square or (height, width). Values are not clamped.

    Computed in float32, since the antialiased kernel has no bfloat16 form on a CPU.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if images.shape[-2:] == (height, width):
        return images
    resized = F.interpolate(images.float(), (height, width), mode="bicubic", align_corners=False, antialias=True)
    return resized.to(images.dtype)


# As the processor of `transformers` prepares pictures for CLIP, to the bit: the longer side is rounded down.
def crop_square(image: Image.Image, size: int) -> Image.Image:
    """The middle, (size, size) in RGB, of a picture whose shorter side was resized to `size` (bicubic on uint8)."""
    if max(image.size) > 16 * min(image.size):
        image = _middle(image, 16 * min(image.size))  # resizing the whole strip could take gigabytes
    width, height = (size * side // min(image.size) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    resized = on_white(image).resize((width, height), Image.Resampling.BICUBIC)
    return resized.crop((left, top, left + size, top + size))


def cover(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The middle of a picture in RGB, cut to the shape of `size`, (width, height), and scaled to it (bicubic)."""
    width, height = size
    scale = min(image.width / width, image.height / height)
    left, top = (image.width - scale * width) / 2, (image.height - scale * height) / 2
    box = (left, top, left + scale * width, top + scale * height)
    return on_white(image).resize(size, Image.Resampling.BICUBIC, box=box)


def cut(image: Image.Image, shape: tuple[int, int]) -> Image.Image:
    """The middle of a picture in the shape of `shape`, (width, height), as large as whole pixels allow; not scaled."""
    scale = min(image.width / shape[0], image.height / shape[1])
    width, height = (max(round(scale * side), 1) for side in shape)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def grid(images: Sequence[Image.Image], columns: int, gap: int = 2) -> Image.Image:
    """A contact sheet on white, row by row; cells take the size of the first picture."""
    if not images:
        raise InputError("a grid needs at least one picture; found 0.")
    width, height = images[0].size
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), "white")
    for index, image in enumerate(images):
        sheet.paste(image, ((index % columns) * (width + gap), (index // columns) * (height + gap)))
    return sheet


def save_png(image: Image.Image, path: Path | str, metadata: Mapping[str, str] | None = None) -> None:
    """Write a PNG atomically, with `metadata` as text chunks (UTF-8); raises `InputError` when it cannot.

    A picture of a mode that PNG has not, such as CMYK, is written in RGB.
    """
    atomic_write(path, encode_picture(image, ".png", metadata))


def encode_picture(image: Image.Image, suffix: str, metadata: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a file that ends in `suffix`: .png, .jpg, .jpeg or .webp. Where a format has no alpha it is white.

    `metadata` are text chunks of a PNG; of the others EXIF's UserComment, as JSON, in which a text of more than
    15,000 bytes is cut, for JPEG's sake. Raises `InputError` for another suffix.
    """
    buffer = io.BytesIO()
    if suffix == ".png":
        writable = image if image.mode in PNG_MODES else open_picture(image)
        chunks = PngInfo()
        for key, value in (metadata or {}).items():
            # Half a surrogate has no bytes in UTF-8.
            chunks.add_itxt(key, value.encode(errors="backslashreplace").decode())
        writable.save(buffer, format="PNG", pnginfo=chunks)
    elif suffix in (".jpg", ".jpeg"):
        exif = _exif(metadata or {})
        on_white(open_picture(image)).save(buffer, format="JPEG", quality=QUALITY, subsampling="4:4:4", exif=exif)
    elif suffix == ".webp":
        open_picture(image).save(buffer, format="WEBP", quality=QUALITY, exif=_exif(metadata or {}))
    else:
        raise InputError(f"pictures are not written as {suffix or 'a file without suffix'}; use .png, .jpg or .webp.")
    return buffer.getvalue()


def save_gif(
    images: Sequence[Image.Image], path: Path | str, metadata: Mapping[str, str] | None = None, frame_ms: int = 120
) -> None:
    """Write an endless animation atomically, `frame_ms` a picture, with `metadata` as a comment (JSON in ASCII).

    Every picture has 256 colours of its own. Raises `InputError` when there is none or the file cannot be written.
    """
    atomic_write(path, encode_gif(images, metadata, frame_ms))


def encode_gif(images: Sequence[Image.Image], metadata: Mapping[str, str] | None = None, frame_ms: int = 120) -> bytes:
    """The bytes of what `save_gif` writes."""
    if not images:
        raise InputError("an animation needs at least one picture; found 0.")
    first, *rest = [image.convert("RGB").quantize(256, Image.Quantize.MEDIANCUT) for image in images]
    comment = json.dumps(dict(metadata or {})).encode()
    buffer = io.BytesIO()
    first.save(buffer, format="GIF", save_all=True, append_images=rest, duration=frame_ms, loop=0, comment=comment)
    return buffer.getvalue()


def _exif(metadata: Mapping[str, str]) -> Image.Exif:
    texts = {
        key: text if len(json.dumps(text)) <= MAX_TEXT_BYTES else f"{text[:1000]}..." for key, text in metadata.items()
    }
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"ASCII\0\0\0" + json.dumps(texts).encode()
    return exif


def _middle(image: Image.Image, side: int) -> Image.Image:
    left, top = (max(0, length - side) // 2 for length in image.size)
    return image.crop((left, top, image.width - left, image.height - top))
