"""Of a picture's metadata its orientation and transparent colour count; all else may be damaged, or huge."""

import io
import random
import struct
import zlib
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from PIL import Image, ImageCms

from unclip.data import decode_picture
from unclip.errors import InputError
from unclip.pictures import open_picture, read_picture

ORIENTATION = 0x0112
SCENE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8))
UPRIGHT = SCENE.transpose(Image.Transpose.ROTATE_270)
PNG = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    size: tuple[int, int], depth: int, colour_type: int, pixels: bytes, *between: bytes, after: bytes = b""
) -> bytes:
    """A PNG of one row for each line of `pixels`, with chunks before and after those of the pixels."""
    width, height = size
    row = len(pixels) // height
    lines = b"".join(b"\0" + pixels[row * line : row * (line + 1)] for line in range(height))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0))
    return PNG + header + b"".join(between) + chunk(b"IDAT", zlib.compress(lines)) + after + chunk(b"IEND", b"")


def scene(*between: bytes, after: bytes = b"") -> bytes:
    return png(SCENE.size, 8, 2, SCENE.tobytes(), *between, after=after)


def exif(order: str, orientation: int = 6) -> tuple[bytes, int]:
    """An EXIF block with texts, a fraction and two directories below, and where its orientation's entry begins."""
    texts = {0x010F: b"Maker and sons\0", 0x0110: b"Model of it\0", 0x0132: b"2020:01:01 00:00:00\0"}
    below = struct.pack(f"{order}HHHL4sHHLLL", 2, 0x9000, 7, 4, b"0230", 0x829A, 5, 1, 0, 0)
    entries: list[tuple[int, int, int, bytes]] = [
        *((tag, 2, len(text), text) for tag, text in list(texts.items())[:2]),
        (ORIENTATION, 3, 1, struct.pack(f"{order}HH", orientation, 0)),
        (0x011A, 5, 1, struct.pack(f"{order}LL", 72, 1)),
        (0x0132, 2, 20, texts[0x0132]),
        (0x8769, 4, 1, below),
        (0x8825, 4, 1, below),
    ]
    directory, values = struct.pack(f"{order}H", len(entries)), b""
    for tag, kind, count, value in entries:
        place = struct.pack(f"{order}L", 8 + 2 + 12 * len(entries) + 4 + len(values))
        values += b"" if tag == ORIENTATION else value
        directory += struct.pack(f"{order}HHL", tag, kind, count) + (value if tag == ORIENTATION else place)
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}L", 8)
    return b"Exif\0\0" + head + directory + bytes(4) + values, 6 + 8 + 2 + 12 * 2


def damaged(block: bytes, start: int, generator: random.Random) -> bytes:
    """The block with anything but its header and its orientation overwritten or cut off."""
    ways = ("one", "many", "cut", "tail")
    way = generator.choice(ways)
    if way == "cut":
        return block[: generator.randrange(start + 12, len(block))]
    if way == "tail":
        return block[: start + 12] + generator.randbytes(generator.randrange(40))
    places = [place for place in range(16, len(block)) if not start <= place < start + 12]
    content = bytearray(block)
    for place in generator.sample(places, 1 if way == "one" else len(places) // 4):
        content[place] = generator.choice((0, 255, generator.randrange(256)))
    return bytes(content)


def saved(form: str, block: bytes) -> bytes:
    if form == "PNG":
        return scene(chunk(b"eXIf", block.removeprefix(b"Exif\0\0")))
    file = io.BytesIO()
    if form == "JPEG":
        SCENE.save(file, form, exif=block, quality=100, subsampling=0)
    else:
        SCENE.save(file, form, exif=block, lossless=True)
    return file.getvalue()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_hundreds_of_damaged_blocks_leave_the_picture_and_its_orientation(form: str, order: str) -> None:
    block, start = exif(order)
    generator = random.Random(0)
    for _ in range(150):
        variant = damaged(block, start, generator)
        picture = read_picture(saved(form, variant))
        assert picture.size == UPRIGHT.size, variant
        np.testing.assert_allclose(np.asarray(picture, int), np.asarray(UPRIGHT, int), atol=8, err_msg=repr(variant))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_is_none_turns_nothing(orientation: int) -> None:
    assert read_picture(saved("PNG", exif(">", orientation)[0])).size == SCENE.size


def test_a_directory_that_lies_nowhere_turns_nothing() -> None:
    for block in (b"", b"II", b"MM\0*\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff", b"no TIFF at all"):
        assert read_picture(saved("PNG", b"Exif\0\0" + block)).size == SCENE.size


TEXT = chunk(b"zTXt", b"note\0\0" + zlib.compress(bytes(3_000_000)))
LONG_TEXT = chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b" " * 3_000_000))
WRONG_SUM = chunk(b"tEXt", b"a\0b")[:-1] + b"!"


@pytest.mark.parametrize("odd", [TEXT, LONG_TEXT, WRONG_SUM, chunk(b"tRNS", b"\0"), chunk(b"iCCP", b"x\0\0nonsense")])
@pytest.mark.parametrize("is_after", [False, True])
def test_chunks_that_pillow_refuses_do_not_matter(odd: bytes, is_after: bool) -> None:
    turned = chunk(b"eXIf", exif("<")[0].removeprefix(b"Exif\0\0"))
    content = scene(turned, after=odd) if is_after else scene(odd, turned)
    np.testing.assert_array_equal(np.asarray(read_picture(content)), np.asarray(UPRIGHT))
    np.testing.assert_array_equal(np.asarray(decode_picture(content)), np.asarray(UPRIGHT))


@pytest.mark.parametrize("animated", [False, True])
def test_a_webp_whose_last_metadata_are_cut_off_is_whole(animated: bool) -> None:
    block, start = exif("<")
    frames = [SCENE, SCENE.transpose(Image.Transpose.ROTATE_180)] if animated else [SCENE]
    file = io.BytesIO()
    options = {"save_all": True, "append_images": frames[1:]} if animated else {}
    frames[0].save(file, "WEBP", lossless=True, exif=block, xmp=b"<xmp/>" * 99, **options)
    content = file.getvalue()
    first = content.index(b"EXIF") + 8 + start
    for end in (len(content) - 1, len(content) - 300, first + 60):
        np.testing.assert_array_equal(np.asarray(read_picture(content[:end])), np.asarray(UPRIGHT))
    # Cut before its orientation, it says nothing; cut in its pixels, it is no picture.
    np.testing.assert_array_equal(np.asarray(read_picture(content[: first - 20])), np.asarray(SCENE))
    with pytest.raises(InputError, match="cannot be read"):
        read_picture(content[: content.index(b"EXIF") - 20])


def test_a_profile_of_more_than_a_megabyte_is_used() -> None:
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile = bytearray(bytes(profile).replace("sRGB".encode("utf-16-be"), b"\0m\0i\0n\0e"))
    red, green = profile.index(b"rXYZ"), profile.index(b"gXYZ")
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    profile += bytes(2**21)
    profile[:4] = struct.pack(">I", len(profile))
    content = png((1, 1), 8, 2, bytes([200, 100, 50]), chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(profile))))
    np.testing.assert_allclose(np.asarray(read_picture(content))[0, 0], (100, 200, 50), atol=1)


def test_a_picture_whose_pixels_are_damaged_is_still_refused() -> None:
    content = bytearray(scene())
    place = content.index(b"IDAT") + 20
    content[place : place + 20] = bytes(20)
    with pytest.raises(InputError, match="the picture cannot be read"):
        read_picture(bytes(content))


def shorts(*values: int) -> bytes:
    return struct.pack(f">{len(values)}H", *values)


GREEN, HALF = (0, 255, 0), (0, 255, 0, 128)
COLOURS = chunk(b"PLTE", bytes([0, 0, 9, *GREEN]))


@pytest.mark.parametrize(
    ("depth", "colour_type", "pixels", "between", "expected"),
    [
        (1, 0, b"\x40", [chunk(b"tRNS", shorts(1))], [(0, 0, 0, 255), (255, 255, 255, 0)]),
        (2, 0, b"\x90", [chunk(b"tRNS", shorts(2))], [(170, 170, 170, 0), (85, 85, 85, 255)]),
        (4, 0, b"\x21", [chunk(b"tRNS", shorts(2))], [(34, 34, 34, 0), (17, 17, 17, 255)]),
        (8, 0, b"\x02\x01", [chunk(b"tRNS", shorts(2))], [(2, 2, 2, 0), (1, 1, 1, 255)]),
        (16, 0, shorts(40000, 40001), [chunk(b"tRNS", shorts(40000))], [(156, 156, 156, 0), (156, 156, 156, 255)]),
        (16, 0, shorts(0, 65535), [chunk(b"tRNS", shorts(0))], [(0, 0, 0, 0), (255, 255, 255, 255)]),
        (8, 2, b"\1\2\3\4\5\6", [chunk(b"tRNS", shorts(4, 5, 6))], [(1, 2, 3, 255), (4, 5, 6, 0)]),
        (16, 2, shorts(512, 0, 0, 0, 0, 999), [chunk(b"tRNS", shorts(0, 0, 999))], [(2, 0, 0, 255), (0, 0, 3, 0)]),
        (16, 4, shorts(0, 0, 65535, 65535), [], [(0, 0, 0, 0), (255, 255, 255, 255)]),
        (1, 3, b"\x40", [COLOURS, chunk(b"tRNS", b"\0")], [(0, 0, 9, 0), (*GREEN, 255)]),
        (8, 3, b"\0\1", [COLOURS, chunk(b"tRNS", b"\0\x80")], [(0, 0, 9, 0), HALF]),
    ],
)  # fmt: skip
def test_a_transparent_colour_is_clear_at_every_depth(
    depth: int, colour_type: int, pixels: bytes, between: Sequence[bytes], expected: list[tuple[int, ...]]
) -> None:
    content = png((2, 1), depth, colour_type, pixels, *between)
    with Image.open(io.BytesIO(content)) as lazy:
        for picture in (read_picture(content), open_picture(lazy)):
            assert [picture.getpixel((x, 0)) for x in (0, 1)] == expected
    ground = decode_picture(content)
    assert [ground.getpixel((x, 0)) == (255, 255, 255) for x in (0, 1) if expected[x][3] == 0] == [True]


def in_memory(mode: str, value: float | tuple[int, ...], key: object = None) -> Image.Image:
    picture = Image.new(mode, (2, 1), value)
    if key is not None:
        picture.info["transparency"] = key
    return picture


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: in_memory("I;16", 7, 7), (0, 0, 0, 0)),
        (lambda: in_memory("I", 65535, 7), (255, 255, 255, 255)),
        (lambda: in_memory("F", 0.5, 0), (128, 128, 128, 255)),
        (lambda: in_memory("1", 1), (255, 255, 255)),
        (lambda: in_memory("LA", (9, 0)), (9, 9, 9, 0)),
        (lambda: in_memory("CMYK", (0, 0, 0, 255)), (0, 0, 0)),
    ],
)
def test_pictures_in_memory_of_other_modes(make: Callable[[], Image.Image], expected: tuple[int, ...]) -> None:
    assert open_picture(make()).getpixel((0, 0)) == expected
