"""Claim: a mark of 32 bits at 40 dB or more is read after 12 distortions; 10,000 unmarked pictures have none.

    OMP_NUM_THREADS=1 python benchmarks/watermark.py [--only unmarked] [--workers 2]

Marked are emoji drawn from vectors, parts of two photographs (those of scikit-learn), and dead leaves: discs of all
sizes with grain, which have the spectrum of photographs. `bits` are those read correctly, `found` the pictures that
pass a threshold of one false alarm in a million. The methods of `invisible-watermark` have no such threshold: theirs is
30 of 32 bits equal to a payload known beforehand, and a picture smaller than they take is first enlarged to the size
that it was marked at. They get the first third of the pictures, rivaGan none of 1024 px (it takes 10 s for one); all
are left out if the package is not installed.
"""

import argparse
import io
import json
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter
from record import write_result
from sklearn.datasets import load_sample_images

from unclip.data import EmojiItem, emoji_items, rasterize
from unclip.safety.watermark import NUM_BITS, SCALES, correlate, detect_watermark, embed_watermark, match, whiten

Distortion = Callable[[Image.Image], Image.Image]
NUM_KNOWN = 30  # of 32 fair bits, equal with probability 1.2e-7; 29 are with 1.3e-6
PEERS = ("dwtDct", "dwtDctSvd", "rivaGan")


def main() -> None:
    """Print a table by size, and write all figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("marked", "unmarked"), help="keep the other part of the result")
    parser.add_argument("--num-unmarked", type=int, default=10_000)
    parser.add_argument("--num-pictures", type=int, default=72, help="marked pictures of 256 px; a sixth of 1024 px")
    parser.add_argument("--workers", type=int, default=2, help="processes that look for false alarms")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/watermark.json"))
    arguments = parser.parse_args()
    result: dict[str, Any] = {}
    if arguments.only != "unmarked":
        sizes = {256: arguments.num_pictures, 1024: arguments.num_pictures // 6}
        result |= {"num_bits": NUM_BITS} | {f"{size}_px": compare(size, number) for size, number in sizes.items()}
    if arguments.only != "marked":
        result["unmarked"] = false_alarms(arguments.num_unmarked, arguments.workers)
        print(json.dumps(result["unmarked"]))
    kept = json.loads(arguments.out.read_text()) if arguments.only and arguments.out.exists() else {}
    write_result(arguments.out, kept | result)


def compare(size: int, num_pictures: int) -> dict[str, Any]:
    """Measure all methods, and print their table."""
    pictures = marked_pictures(size, num_pictures)
    rows = {"unclip": measure(Ours(), pictures)}
    try:
        peers = [Peer(name) for name in PEERS if name != "rivaGan" or size == 256]
    except ImportError as error:
        print(f"invisible-watermark is left out ({error}); pip install --no-deps invisible-watermark==0.2.0")
    else:
        rows["unclip, same"] = measure(Ours(), pictures[: num_pictures // 3])
        rows |= {peer.name: measure(peer, pictures[: num_pictures // 3]) for peer in peers}
    print_table(size, rows)
    return rows


class Ours:
    """The watermark of this package."""

    def embed(self, picture: Image.Image, payload: int) -> Image.Image:
        return embed_watermark(picture, payload)

    def read(self, picture: Image.Image, payload: int) -> tuple[int, bool]:
        """Correct bits, and whether a mark is found: without knowing the payload."""
        found = detect_watermark(picture)
        return num_equal(found.payload, payload), found.is_present


class Peer:
    """A method of `invisible-watermark`."""

    def __init__(self, name: str) -> None:
        from imwatermark import WatermarkDecoder, WatermarkEncoder

        self.name, self.encoder, self.decoder = name, WatermarkEncoder(), WatermarkDecoder("bits", NUM_BITS)
        if name == "rivaGan":
            WatermarkEncoder.loadModel()

    def embed(self, picture: Image.Image, payload: int) -> Image.Image:
        self.encoder.set_by_bits([payload >> place & 1 for place in range(NUM_BITS)])
        marked = self.encoder.encode(np.asarray(picture)[..., ::-1].copy(), self.name)
        return Image.fromarray(np.clip(marked, 0, 255).astype(np.uint8)[..., ::-1].copy())

    def read(self, picture: Image.Image, payload: int) -> tuple[int, bool]:
        """Correct bits, and whether they are enough to know the payload again."""
        bits = self.decoder.decode(np.asarray(picture)[..., ::-1].copy(), self.name)
        correct = num_equal(sum(int(bit) << place for place, bit in enumerate(bits)), payload)
        return correct, correct >= NUM_KNOWN


def num_equal(first: int, second: int) -> int:
    return NUM_BITS - (first ^ second).bit_count()


def measure(method: Any, pictures: list[Image.Image]) -> dict[str, Any]:
    """Mean and least PSNR, seconds a picture, and for each distortion bit accuracy and rates."""
    payloads = [int(payload) for payload in np.random.default_rng(7).integers(0, 2**NUM_BITS, len(pictures))]
    started = time.process_time()
    marked = [method.embed(picture, payload) for picture, payload in zip(pictures, payloads, strict=True)]
    embed_seconds = (time.process_time() - started) / len(pictures)
    values = [psnr(*pair) for pair in zip(pictures, marked, strict=True)]
    distortions, read_seconds = {}, 0.0
    for name, distort in {**DISTORTIONS, **NOT_SURVIVED}.items():
        copies = [distort(picture) for picture in marked]
        if isinstance(method, Peer):
            copies = [copy if min(copy.size) >= 256 else copy.resize(pictures[0].size) for copy in copies]
        started = time.process_time()
        reads = [method.read(copy, payload) for copy, payload in zip(copies, payloads, strict=True)]
        read_seconds += time.process_time() - started
        correct = np.array([bits for bits, _ in reads])
        distortions[name] = {
            "bits": round(float(correct.mean()) / NUM_BITS, 4),
            "payload": round(float((correct == NUM_BITS).mean()), 4),
            "found": round(float(np.mean([is_found for _, is_found in reads])), 4),
            "found_with_wrong_bits": sum(is_found and bits < NUM_BITS for bits, is_found in reads),
        }
    return {
        "num_pictures": len(pictures),
        "mean_psnr_db": round(float(np.mean(values)), 2),
        "least_psnr_db": round(float(np.min(values)), 2),
        "embed_seconds": round(embed_seconds, 3),
        "read_seconds": round(read_seconds / len(distortions) / len(pictures), 3),
        "distortions": distortions,
    }


def psnr(first: Image.Image, second: Image.Image) -> float:
    """Of pixels from 0 to 255, in dB."""
    error = np.square(np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)).mean()
    return float(10 * np.log10(255**2 / error))


def print_table(size: int, rows: dict[str, Any]) -> None:
    """Print distortions down and methods across: correct bits and found pictures, in percent."""
    print(f"\n{size} px: bits / found, %" + "".join(f"{name:>20}" for name in rows))
    for figure in ("mean_psnr_db", "least_psnr_db", "embed_seconds", "read_seconds"):
        print(f"{figure:24}" + "".join(f"{row[figure]:20}" for row in rows.values()))
    for name in {**DISTORTIONS, **NOT_SURVIVED}:
        cells = [row["distortions"][name] for row in rows.values()]
        print(f"{name:24}" + "".join(f"{100 * cell['bits']:12.1f} /{100 * cell['found']:6.1f}" for cell in cells))


# Distortions.


def encoded(picture: Image.Image, quality: int, file_format: str = "JPEG") -> Image.Image:
    file = io.BytesIO()
    picture.save(file, file_format, quality=quality)
    return Image.open(file).convert("RGB")


def scaled(picture: Image.Image, factor: float) -> Image.Image:
    return picture.resize((round(picture.width * factor), round(picture.height * factor)), Image.Resampling.BICUBIC)


def cropped(picture: Image.Image, part: float = 0.75) -> Image.Image:
    left, top = round(0.19 * picture.width), round(0.07 * picture.height)
    return picture.crop((left, top, left + round(part * picture.width), top + round(part * picture.height)))


def screenshot(picture: Image.Image) -> Image.Image:
    """Show it at 90 % on a grey page, a sixth larger down and a third across, and save the page as JPEG."""
    shown = scaled(picture, 0.9)
    page = Image.new("RGB", (round(1.3 * shown.width), round(1.2 * shown.height)), (240, 242, 245))
    page.paste(shown, (round(0.11 * shown.width), round(0.07 * shown.height)))
    return encoded(page, 85)


def toned(picture: Image.Image) -> Image.Image:
    """Darken by gamma 1.2, then lower contrast to 85 % and brighten by 4 %."""
    values = (np.asarray(picture) / 255) ** 1.2
    return Image.fromarray(np.rint(np.clip((values - 0.5) * 0.85 + 0.54, 0, 1) * 255).astype(np.uint8))


def noisy(picture: Image.Image) -> Image.Image:
    """Add Gaussian noise of 8 levels."""
    noise = np.random.default_rng(1).normal(0, 8, (picture.height, picture.width, 3))
    return Image.fromarray(np.clip(np.rint(np.asarray(picture) + noise), 0, 255).astype(np.uint8))


DISTORTIONS: dict[str, Distortion] = {
    "none": lambda picture: picture,
    "JPEG 80": lambda picture: encoded(picture, 80),
    "JPEG 60": lambda picture: encoded(picture, 60),
    "WebP 80": lambda picture: encoded(picture, 80, "WEBP"),
    "half size": lambda picture: scaled(picture, 0.5),
    "size 150 %": lambda picture: scaled(picture, 1.5),
    "crop to 3/4": cropped,
    "crop + JPEG 80": lambda picture: encoded(cropped(picture), 80),
    "size 90 % + JPEG 85": lambda picture: encoded(scaled(picture, 0.9), 85),
    "screenshot of a page": screenshot,
    "gamma and contrast": toned,
    "blur, 1/256 of the side": lambda picture: picture.filter(ImageFilter.GaussianBlur(picture.width / 256)),
    "noise, 8 levels": noisy,
}
NOT_SURVIVED: dict[str, Distortion] = {
    "rotation by 3 degrees": lambda picture: picture.rotate(3, Image.Resampling.BICUBIC, fillcolor=(255, 255, 255)),
    "flip": lambda picture: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "crop to a third": partial(cropped, part=0.33),
}


# Pictures.


def marked_pictures(size: int, num_pictures: int) -> list[Image.Image]:
    """Draw emoji of the test split; every sixth picture is of dead leaves, and every sixth from a photograph."""
    items = emoji_items("test")
    chosen = np.random.default_rng(0).permutation(len(items))
    pictures = [Image.fromarray(rasterize(items[index], size)) for index in chosen[:num_pictures]]
    for place in range(0, num_pictures, 6):
        pictures[place] = leaves(size, np.random.default_rng(place))
        pictures[place + 1] = photograph(size, np.random.default_rng(place))
    return pictures[:num_pictures]


def photograph(size: int, generator: np.random.Generator) -> Image.Image:
    """Cut a square from one of two photographs of 640 by 427 px."""
    image = Image.fromarray(load_sample_images().images[generator.integers(2)])
    side = int(generator.integers(200, 427))
    left, top = generator.integers(0, (640 - side, 427 - side))
    return image.resize((size, size), Image.Resampling.BICUBIC, (left, top, left + side, top + side))


def leaves(size: int, generator: np.random.Generator) -> Image.Image:
    """Draw discs over each other, of a density of radii of r^-3, each with a shade and a grain of its own."""
    y, x = np.mgrid[:size, :size] / size
    canvas = np.full((size, size, 3), generator.uniform(0, 1, 3))
    for radius in np.sort(0.5 / np.sqrt(generator.uniform(1, 200, 250)))[::-1]:
        centre_y, centre_x, angle, grain = generator.uniform(0, (1, 1, 2 * np.pi, 0.08))
        inside = (y - centre_y) ** 2 + (x - centre_x) ** 2 < radius**2
        shade = 0.3 * ((x - centre_x) * np.cos(angle) + (y - centre_y) * np.sin(angle))[inside]
        texture = grain * generator.standard_normal(inside.sum())
        canvas[inside] = generator.uniform(0, 1, 3) + (shade + texture)[:, None]
    picture = Image.fromarray(np.rint(np.clip(canvas, 0, 1) * 255).astype(np.uint8))
    return picture.filter(ImageFilter.GaussianBlur(size / 400))


def fractal(size: int, generator: np.random.Generator) -> Image.Image:
    """Noise whose amplitudes fall with the frequency, as those of photographs do, by a power from 0 to 1.5."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)) + 1 / size
    waves = np.fft.rfft2(generator.standard_normal((3, size, size))) / frequency ** generator.uniform(0, 1.5)
    values = np.fft.irfft2(waves, s=(size, size))
    values = 128 + 50 * values / values.std()
    return Image.fromarray(np.rint(np.clip(values, 0, 255)).astype(np.uint8).transpose(1, 2, 0).copy())


def regular(size: int, generator: np.random.Generator) -> Image.Image:
    """Stripes, checks, a gradient or one colour, of any period, angle and two colours."""
    y, x = np.mgrid[:size, :size]
    angle, period = generator.uniform(0, np.pi / 2) * generator.integers(0, 2), generator.uniform(2, 64)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    shapes = [along // period % 2, (along // period + across // period) % 2, along / (1.5 * size), 0 * along]
    shapes += [0.5 + 0.5 * np.sin(2 * np.pi * along / period)]
    colours = generator.uniform(0, 255, (2, 3))
    shape = shapes[generator.integers(len(shapes))][..., None]
    return Image.fromarray(np.rint(np.clip(colours[0] + shape * (colours[1] - colours[0]), 0, 255)).astype(np.uint8))


# False alarms.


def unmarked_picture(index: int, item: EmojiItem) -> tuple[str, Image.Image]:
    """Draw the kind and the picture of this number: half are emoji, and of all kinds a third is distorted at random."""
    generator = np.random.default_rng([11, index])
    kind = (*["emoji"] * 5, "leaves", "leaves", "photograph", "fractal", "regular")[index % 10]
    size = int(generator.choice([128, 128, 128, 256]))
    draw = {"leaves": leaves, "photograph": photograph, "fractal": fractal, "regular": regular}
    if kind in draw:
        picture = draw[kind](size, generator)
    else:
        picture = Image.fromarray(rasterize(item, size))
    if generator.uniform() < 1 / 3:
        distortions = list({**DISTORTIONS, **NOT_SURVIVED}.values())
        picture = distortions[generator.integers(1, len(distortions))](picture)
    return kind, picture


def look(indices: range, items: list[EmojiItem]) -> list[tuple[str, float, float]]:
    """Kind and false alarm of each picture; of every tenth also the score, else NaN."""
    rows = []
    for index, item in zip(indices, items, strict=True):
        kind, picture = unmarked_picture(index, item)
        score = float("nan")
        if index // 10 % 10 == 0:
            luma = whiten(picture)
            score = max(match(correlate(luma, scale))[0] for scale in SCALES)
        rows.append((kind, detect_watermark(picture).false_alarm, score))
    return rows


def false_alarms(num_pictures: int, workers: int) -> dict[str, Any]:
    """Count unmarked pictures that look marked, by thresholds, and describe their scores."""
    items = emoji_items("all")
    with ProcessPoolExecutor(workers) as pool:
        parts = [range(start, min(start + 100, num_pictures)) for start in range(0, num_pictures, 100)]
        chosen = [[items[index * 7919 % len(items)] for index in part] for part in parts]
        rows = []
        for part in pool.map(look, parts, chosen):
            rows += part
            print(f"{len(rows)} unmarked pictures, {sum(bound <= 1e-6 for _, bound, _ in rows)} found", flush=True)
    bounds = np.array([bound for _, bound, _ in rows])
    kinds = sorted({kind for kind, _, _ in rows})
    scores = {kind: np.array([score for name, _, score in rows if name == kind]) for kind in kinds}
    return {
        "num_pictures": num_pictures,
        "found": int((bounds <= 1e-6).sum()),
        "below_1": int((bounds < 1).sum()),
        "least_false_alarm": float(bounds.min()),
        "scores": {
            kind: {"num": int(np.isfinite(values).sum()), "mean": np.nanmean(values).round(3), "max": np.nanmax(values)}
            for kind, values in scores.items()
        },
    }


if __name__ == "__main__":
    main()
