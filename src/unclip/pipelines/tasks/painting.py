"""Paint a region of pictures and keep the rest: what inpainting and outpainting share."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image, ImageCms
from torch import Tensor

from unclip.images import from_pil, resize
from unclip.model.family import Condition
from unclip.pictures import Picture, foreign_profile, on_colour, open_original, open_picture, white_of
from unclip.pipelines.job import Job
from unclip.pipelines.options import Option, Preview, PreviewStep
from unclip.pipelines.stage import FROM_NOISE, Stage, Start
from unclip.shapes import Images

Feather = Annotated[int, Option("Pixels inside its border over which what is painted fades in.", least=0)]
NumResamples = Annotated[int, Option("How often the decoder makes each step, for a better fit.", least=1)]

MAX_PREVIEW = 1024
Box: TypeAlias = tuple[int, int, int, int]
"""(left, top, right, bottom), the last two exclusive."""
Mask = Float[Tensor, "1 1 _height _width"]
"""1 where something is to be painted, 0 where a picture stays."""

# Palettes and two levels have no room for new colours; a wider mode, with "A" for transparency, has the same ones.
WIDER = {"1": "L", "P": "RGB", "PA": "RGB"}
DEEP = ("I;16", "I", "F")
COLOURS = ("RGB", "RGBA", "CMYK")
KEPT = ("L", "LA", *COLOURS, *DEEP)


def paint(
    job: Job,
    embeddings: list[Tensor],
    condition: Condition,
    windows: Sequence[Sequence[Image.Image]],
    known: Image.Image,
    *,
    feather: int,
    num_resamples: int,
) -> list[Tensor]:
    """Paint the windows of each batch where `known` is black, and keep them where it is white; in [-1, 1].

    Every stage draws at its own size and keeps what is known at that size; only the decoder resamples.
    """
    decoder, device = job.model.need_decoder, job.model.device
    pictures = [from_pil(batch, job.model.channels).to(device) for batch in windows]
    mask = (from_pil([known])[:, :1] < 0.0).float().to(device)

    # A generator for each stage, since pictures become latents by weights that are in memory only while it runs.
    def starts_of(stage: Stage, size: tuple[int, int]) -> Iterator[Start]:
        is_decoder = stage is decoder
        hole = resize_mask(mask, decoder.sample_shape(size)[1:] if is_decoder else size)
        for picture in pictures:
            if bool(hole.all()):
                yield FROM_NOISE
                continue
            known_part = resize_known(picture, mask, size)
            known_part = decoder.encode(known_part) if is_decoder else known_part
            yield Start(picture=known_part, mask=hole, num_resamples=num_resamples if is_decoder else 1)

    stages = (decoder, *job.chain.upsamplers)
    starts = {stage.name: starts_of(stage, size) for stage, size in zip(stages, job.chain.sizes, strict=True)}
    drawn = job.draw(embeddings, condition, starts)
    whole = (resize(images, (known.height, known.width)).clamp(-1.0, 1.0) for images in drawn)
    return [join(picture, images, mask, feather).cpu() for picture, images in zip(pictures, whole, strict=True)]


def in_the_whole(job: Job, whole: Callable[[int], Image.Image], box: Box, hole: Image.Image) -> Preview | None:
    """Show previews of the window `box` where they belong: in the pictures that `whole` returns by their places.

    A whole picture is as small as the preview in it, and no side of it has more than `MAX_PREVIEW` pixels.
    """
    preview, background = job.preview, job.background
    if preview is None:
        return None

    def place(small: Image.Image, picture: Image.Image) -> Image.Image:
        scale = min(small.width / (box[2] - box[0]), MAX_PREVIEW / max(picture.size))

        def scaled(one: Image.Image) -> Image.Image:
            return one.resize((max(round(one.width * scale), 1), max(round(one.height * scale), 1)))

        ground = picture.convert("RGBA") if background == "transparent" else on_colour(picture, background)
        shown, edges = scaled(ground), [round(edge * scale) for edge in box]
        size = max(edges[2] - edges[0], 1), max(edges[3] - edges[1], 1)
        shown.paste(small.resize(size), (edges[0], edges[1]), hole.crop(box).convert("L").resize(size))
        return shown

    def show(step: PreviewStep) -> None:
        def pictures() -> list[Image.Image]:
            return [place(small, whole(step.first + number)) for number, small in enumerate(step.pictures())]

        preview(dataclasses.replace(step, pictures=pictures))

    return show


def settings_of(job: Job, prompt: str | None, feather: int, num_resamples: int) -> dict[str, Any]:
    """Return the settings of a result that was painted."""
    height, width = job.chain.size
    settings: dict[str, Any] = {"drawn_size": width if width == height else [width, height]}
    settings |= {"feather": feather, "num_resamples": num_resamples}
    return settings if prompt is None else settings | {"num_candidates": job.model.num_candidates}


def place_window(start: int, stop: int, side: int, length: int) -> int:
    """Place a window of `side` on an axis around start to stop, or in the middle of an axis shorter than it."""
    if side >= length:
        return (length - side) // 2
    return min(max((start + stop - side) // 2, 0), length - side)


def resize_mask(mask: Mask, size: tuple[int, int]) -> Mask:
    """Resize the mask to (height, width): 0 only for a pixel that lies wholly in what is known."""
    return mask if mask.shape[-2:] == size else F.adaptive_max_pool2d(mask, size)


def resize_known(
    pictures: Images, mask: Mask, size: tuple[int, int]
) -> Float[Tensor, "batch channels new_height new_width"]:
    """Resize the known part to (height, width), from known pixels alone: what the mask hides does not bleed in.

    A bicubic mean over what is known, divided by its weights; 0, which is grey, where nothing known is near.
    """
    weights = resize(1.0 - mask, size)
    # Of a pixel that is wholly known the weights sum to 0.2 or more, since its own pixels weigh most.
    return (resize(pictures * (1.0 - mask), size) / weights.clamp(min=0.1)).clamp(-1.0, 1.0)


def join(pictures: Images, painted: Images, mask: Mask, feather: int) -> Images:
    """Keep `pictures` where the mask is 0, bit for bit; where it is 1, `painted` fades in over `feather` pixels.

    It fades into the mean of known pixels that are no further away than that, and not into what the mask hides.
    """
    is_known, radius = 1.0 - mask, min(feather, max(mask.shape))
    mean = _box_blur(pictures * is_known, radius) / _box_blur(is_known, radius).clamp(min=1e-6)
    return torch.lerp(torch.where(mask == 0, pictures, mean), painted, soft_edge(mask, feather))


def soft_edge(mask: Mask, feather: int) -> Mask:
    """Compute min(d, feather + 1) / (feather + 1), d steps (king's moves) from the nearest pixel where the mask is 0.

    So it is 0 there, and 1 in all that is more than `feather` pixels inside. Beyond the borders nothing is known.
    """
    weights, eroded = mask, mask
    for done in range(feather):
        if bool((eroded == eroded.amax()).all()):
            return (weights + (feather - done) * eroded) / (feather + 1)
        eroded = -F.max_pool2d(-eroded, kernel_size=3, stride=1, padding=1)
        weights = weights + eroded
    return weights / (feather + 1)


def _box_blur(images: Images, radius: int) -> Images:
    """Average over a square of 2 radius + 1 pixels, with zeros beyond the borders."""
    for height, width in ((2 * radius + 1, 1), (1, 2 * radius + 1)):
        images = F.avg_pool2d(images, (height, width), stride=1, padding=(height // 2, width // 2))
    return images


def open_editable(source: Picture) -> Image.Image:
    """Open a picture upright in a mode that new pixels can be written to, every pixel as it was.

    That is its own mode for greys of 8 bits and more, RGB and CMYK, with or without alpha, with its colour profile and
    its transparent colour; RGB, RGBA, L or LA for palettes and for black and white; and what `open_picture` gives for
    the rest, and where a profile leads one way only. Raises `InputError` as `open_picture`.
    """
    original = open_original(source)
    if original.mode.startswith("I;16"):
        deep = Image.fromarray(np.asarray(original).astype(np.uint16))
        deep.info = dict(original.info)
        return deep
    mode, widened = original.mode, original
    if mode in WIDER:
        mode = WIDER[mode] + ("A" if original.has_transparency_data else "")
        widened = original.convert(mode)
    if mode not in KEPT:
        return open_picture(original)
    return widened if mode in DEEP or _is_reversible(widened) else open_picture(original)


def with_alpha(original: Image.Image) -> Image.Image:
    """Give an `open_editable` picture alpha, every pixel as it was; RGBA where its mode has room for none."""
    if original.mode in ("LA", "RGBA"):
        return original
    if original.mode in ("L", "RGB"):
        return original.convert(f"{original.mode}A")
    return open_picture(original).convert("RGBA")


def recolour(pixels: Image.Image, original: Image.Image) -> Image.Image:
    """Convert RGB pixels to the mode and colours of an `open_editable` picture: opaque, none its transparent colour.

    RGBA pixels, for a picture `with_alpha`, keep their alpha.
    """
    if pixels.mode == "RGBA":
        coloured = recolour(pixels.convert("RGB"), original)
        coloured.putalpha(pixels.getchannel("A"))
        return coloured
    if original.mode in DEEP:
        values = np.asarray(pixels.convert("L"), dtype=np.float32) * (white_of(original) / 255)
        deep = values if original.mode == "F" else np.rint(values).astype(np.asarray(original).dtype)
        return _off_the_key(Image.fromarray(deep), original)
    profile = foreign_profile(original) if original.mode in COLOURS else None
    if profile is not None:
        ink = "CMYK" if original.mode == "CMYK" else "RGB"
        converted = ImageCms.profileToProfile(pixels, ImageCms.createProfile("sRGB"), profile, outputMode=ink)
        assert converted is not None
        pixels = converted
    return _off_the_key(pixels.convert(original.mode), original)


def _is_reversible(picture: Image.Image) -> bool:
    """Return whether sRGB converts to the picture's colours; a broken profile counts as none and is taken off."""
    try:
        if picture.mode in COLOURS:
            foreign_profile(picture)
    except ImageCms.PyCMSError:
        del picture.info["icc_profile"]
    try:
        recolour(Image.new("RGB", (1, 1)), picture)
    except ImageCms.PyCMSError:
        return False
    return True


# A pixel one level beside the transparent colour is not seen to be; one of that colour would be a hole.
def _off_the_key(pixels: Image.Image, original: Image.Image) -> Image.Image:
    key = original.info.get("transparency")
    if not isinstance(key, int | tuple):
        return pixels
    values, levels = np.array(pixels), np.atleast_1d(key)
    channels = values if values.ndim == 3 else values[..., None]
    if channels.shape[-1] == len(levels):
        channels[(channels == levels).all(axis=-1), -1] = levels[-1] - 1 if levels[-1] > 0 else 1
    return Image.fromarray(values)
