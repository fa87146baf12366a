"""Convert pictures between tensors, arrays and PIL, scale and cut them, and write them to files.

A batch of pictures is a float32 tensor (batch, channels, height, width) in [-1, 1]: RGB, or RGB on white followed by
its coverage (alpha: -1 is transparent, 1 opaque). numpy pictures are uint8 (batch, height, width, channels); PIL
pictures are RGB or, with transparency, RGBA of straight colours. Files are read by `unclip.pictures`.
"""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, UInt8
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from unclip.errors import InputError
from unclip.files import atomic_write
from unclip.pictures import coverage_of, on_white, open_picture
from unclip.shapes import Images

PNG_MODES = ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")
# Of JPEG and WebP: no visible difference at a quarter of a PNG's bytes.
QUALITY = 95
MAX_TEXT_BYTES = 15_000
Uint8Images = UInt8[np.ndarray, "batch height width channels"]
AlphaImages = Float[Tensor, "batch 4 height width"]
Background: TypeAlias = tuple[int, int, int] | Literal["transparent"]
"""What lies behind pictures: a colour of 8 bits a channel, or nothing."""
WHITE = (255, 255, 255)
# The least coverage that a colour is recovered from: one step of 8 bits, which float32 may round down.
LEAST_COVERAGE = 0.9999 / 255


def from_uint8(pixels: Uint8Images | UInt8[Tensor, "batch height width channels"]) -> Images:
    """Convert uint8 (batch, height, width, channels) to a batch, on the device of a tensor."""
    tensor = pixels if isinstance(pixels, Tensor) else torch.from_numpy(np.array(pixels))
    return tensor.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def to_unit(images: Images) -> Float32[np.ndarray, "batch height width channels"]:
    """Convert a batch to float32 (batch, height, width, channels) in [0, 1], clamped."""
    return images.detach().float().add(1.0).mul(0.5).clamp(0.0, 1.0).permute(0, 2, 3, 1).cpu().numpy()


def to_uint8(images: Images) -> Uint8Images:
    """Convert a batch to uint8 (batch, height, width, channels), clamped and rounded."""
    return np.rint(to_unit(images) * 255.0).astype(np.uint8)


def from_pil(images: Sequence[Image.Image], channels: int = 3) -> Images:
    """Convert PIL pictures of one size, white behind transparency, with their coverage if `channels` is 4.

    Raises `InputError` if sizes differ, or for none.
    """
    sizes = {image.size for image in images}
    if len(sizes) != 1:
        raise InputError(f"a batch holds pictures of one size; found {len(images)} pictures of sizes {sorted(sizes)}.")
    rgb = from_uint8(np.stack([np.asarray(on_white(image)) for image in images]))
    if channels == 3:
        return rgb
    coverage = from_uint8(np.stack([np.asarray(coverage_of(image))[..., None] for image in images]))
    return torch.cat([rgb, coverage], dim=1)


def to_pil(images: Images, background: Background = WHITE) -> list[Image.Image]:
    """Convert a batch to PIL pictures: RGB on `background`, RGBA if that is "transparent" and there is a coverage."""
    if images.shape[1] == 4 and background == "transparent":
        return [Image.fromarray(pixels) for pixels in to_uint8(straighten(images))]
    return [Image.fromarray(pixels) for pixels in to_uint8(on_background(images, background))]


def on_background(
    images: Images, background: Background = WHITE
) -> Float[Tensor, "batch background_channels height width"]:
    """Move pictures from white to another colour by their coverage, which is left out then; not clamped.

    "transparent" changes nothing, and pictures without a coverage stay as they are.
    """
    if images.shape[1] != 4 or background == "transparent":
        return images
    rgb, coverage = images[:, :3], images[:, 3:]
    if background == WHITE:
        return rgb
    # a c + (1 - a) background = (a c + 1 - a) + (1 - a) (background - 1), from [-1, 1].
    colour = rgb.new_tensor(background).view(3, 1, 1) / 127.5 - 1.0
    return rgb + (1.0 - coverage) * (colour - 1.0) / 2.0


def straighten(images: AlphaImages) -> AlphaImages:
    """Recover straight colours from pictures on white: (rgb - (1 - a)) / a in [0, 1], and alpha a, in [-1, 1].

    Of a coverage below 1 / 255 the alpha is 0 and the colour white.
    """
    rgb, alpha = images.float().add(1.0).mul(0.5).clamp(0.0, 1.0).split([3, 1], dim=1)
    is_covered = alpha >= LEAST_COVERAGE
    colour = ((rgb - (1.0 - alpha)) / alpha.clamp(min=LEAST_COVERAGE)).clamp(0.0, 1.0)
    straight = torch.cat([torch.where(is_covered, colour, 1.0), torch.where(is_covered, alpha, 0.0)], dim=1)
    return straight * 2.0 - 1.0


def resize(images: Images, size: int | tuple[int, int]) -> Float[Tensor, "batch channels new_height new_width"]:
    """Scale bicubically, antialiased when shrinking, to a square of side `size` or to (height, width); not clamped.

    Computed in float32, since the antialiased kernel has no bfloat16 form on a CPU.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if images.shape[-2:] == (height, width):
        return images
    resized = F.interpolate(images.float(), (height, width), mode="bicubic", align_corners=False, antialias=True)
    return resized.to(images.dtype)


# Four ways to a shape, all around the middle; they differ in the order of cutting and scaling, and so in the pixels.


# As the processor of `transformers` prepares pictures for CLIP, to the bit: the longer side is rounded down.
def crop_square(image: Image.Image, size: int) -> Image.Image:
    """Scale the shorter side to `size` (bicubic on uint8), then cut the middle square; RGB."""
    longest = 16 * min(image.size)  # scaling a whole strip could take gigabytes
    if max(image.size) > longest:
        left, top = (max(0, side - longest) // 2 for side in image.size)
        image = image.crop((left, top, image.width - left, image.height - top))
    width, height = (size * side // min(image.size) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    resized = on_white(image).resize((width, height), Image.Resampling.BICUBIC)
    return resized.crop((left, top, left + size, top + size))


def cover(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Cut the middle to the shape of `size`, (width, height), and scale it in one step (bicubic); RGB.

    The kernel reaches beyond the cut, whose borders need not be whole pixels.
    """
    width, height = size
    scale = min(image.width / width, image.height / height)
    left, top = (image.width - scale * width) / 2, (image.height - scale * height) / 2
    box = (left, top, left + scale * width, top + scale * height)
    return on_white(image).resize(size, Image.Resampling.BICUBIC, box=box)


def cover_all(images: Sequence[Image.Image], size: tuple[int, int], channels: int) -> Images:
    """Convert pictures to a batch of (height, width) by `cover`, with their coverage if `channels` is 4."""
    rgb = from_pil([cover(image, size[::-1]) for image in images])
    if channels == 3:
        return rgb
    return torch.cat([rgb, from_pil([cover(coverage_of(image), size[::-1]) for image in images])[:, :1]], dim=1)


def cut(image: Image.Image, shape: tuple[int, int]) -> Image.Image:
    """Cut the middle in the proportions of `shape`, (width, height), as large as whole pixels allow; not scaled."""
    scale = min(image.width / shape[0], image.height / shape[1])
    width, height = (max(round(scale * side), 1) for side in shape)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def cut_square(image: Image.Image, size: int, resampling: Image.Resampling) -> Image.Image:
    """Cut the largest middle square, then scale it to `size`: the kernel does not reach beyond the square."""
    return cut(image, (1, 1)).resize((size, size), resampling)


def grid(images: Sequence[Image.Image], columns: int, gap: int = 2) -> Image.Image:
    """Arrange pictures on a white sheet, row by row; cells take the size of the first picture.

    The sheet of pictures that all have alpha has alpha too, and is transparent between them.
    """
    if not images:
        raise InputError("a grid needs at least one picture; found 0.")
    width, height = images[0].size
    rows = -(-len(images) // columns)
    mode, ground = ("RGBA", "#ffffff00") if all(image.mode == "RGBA" for image in images) else ("RGB", "white")
    sheet = Image.new(mode, (columns * (width + gap) - gap, rows * (height + gap) - gap), ground)
    for index, image in enumerate(images):
        cell = image if mode == "RGBA" else on_white(image)
        sheet.paste(cell, ((index % columns) * (width + gap), (index // columns) * (height + gap)))
    return sheet


def save_png(image: Image.Image, path: Path | str, metadata: Mapping[str, str] | None = None) -> None:
    """Write a PNG atomically, with `metadata` as text chunks (UTF-8); raises `InputError` if it cannot be written.

    A picture of a mode that PNG lacks, such as CMYK, is written in RGB.
    """
    atomic_write(path, encode_picture(image, ".png", metadata))


def encode_picture(
    image: Image.Image, suffix: str, metadata: Mapping[str, str] | None = None, quality: int = QUALITY
) -> bytes:
    """Encode a file that ends in `suffix`: .png, .jpg, .jpeg or .webp; white behind transparency if it has no alpha.

    `metadata` become text chunks of a PNG, else EXIF's UserComment as JSON, in which a text of more than 15,000 bytes
    is cut, for JPEG's sake. `quality`, 0 to 100, is of JPEG and WebP. Raises `InputError` for another suffix.
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
        on_white(open_picture(image)).save(buffer, format="JPEG", quality=quality, subsampling="4:4:4", exif=exif)
    elif suffix == ".webp":
        open_picture(image).save(buffer, format="WEBP", quality=quality, exif=_exif(metadata or {}))
    else:
        raise InputError(f"pictures are not written as {suffix or 'a file without suffix'}; use .png, .jpg or .webp.")
    return buffer.getvalue()


def save_gif(
    images: Sequence[Image.Image], path: Path | str, metadata: Mapping[str, str] | None = None, frame_ms: int = 120
) -> None:
    """Write an endless animation atomically, `frame_ms` a picture, with `metadata` as a comment (JSON in ASCII).

    Every picture has 256 colours of its own. Raises `InputError` for no picture and a file that cannot be written.
    """
    atomic_write(path, encode_gif(images, metadata, frame_ms))


def encode_gif(images: Sequence[Image.Image], metadata: Mapping[str, str] | None = None, frame_ms: int = 120) -> bytes:
    """Encode the animation that `save_gif` writes."""
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
