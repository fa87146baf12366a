"""Pictures that a model draws of prompts with one setting, and their features, in chunks."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from unclip.evaluate.chunks import Chunks
from unclip.evaluate.features import clip_of, picture_rows, text_rows
from unclip.evaluate.options import EvaluateOptions, draw_options
from unclip.evaluate.pictures import as_uint8
from unclip.images import crop_square, save_png
from unclip.metrics import FeatureNetwork
from unclip.model.settings import StageSettings
from unclip.pipelines.features import chunk_size
from unclip.pipelines.model import Model
from unclip.pipelines.options import DrawOptions, Progress
from unclip.pipelines.tasks.text_to_image import text_to_image

NUM_SAMPLES = 64
"""Pictures of each setting that are kept for a page."""


@dataclass(frozen=True, kw_only=True, eq=False)
class DrawnPictures:
    """All that the pictures of one setting depend on, and the folder that they go to."""

    model: Model
    prompts: Sequence[str]
    networks: Sequence[FeatureNetwork]
    out: Path
    label: str
    """What differs from other settings of a sweep; "" without a sweep."""
    settings: Mapping[str, StageSettings]
    image_size: int
    """Side of the pictures that are drawn."""
    size: int
    """Side of the pictures that are compared."""
    options: EvaluateOptions

    @property
    def name(self) -> str:
        """The label as a name of files and folders."""
        return self.label.replace(", ", "_").replace(" ", "-").replace("+", "p") or "all"

    @property
    def chunks(self) -> Chunks:
        """The files with the features; an item is a prompt with all its pictures."""
        length = max(self.options.pictures_per_chunk // self.options.images_per_prompt, 1)
        return Chunks(folder=self.out / "features" / self.name, num_items=len(self.prompts), length=length)

    @property
    def num_images(self) -> int:
        """Number of pictures."""
        return len(self.prompts) * self.options.images_per_prompt

    @property
    def samples(self) -> range:
        """The places of the pictures that pages show, the first ones."""
        return range(min(NUM_SAMPLES, self.num_images))

    def sample_path(self, place: int) -> Path:
        """Return the file of a kept picture, relative to `out`."""
        return Path("pictures", self.name, f"{place:06}.png")

    def described(self) -> dict[str, object]:
        """Return the settings, ready for JSON."""
        stages = {stage: settings.model_dump(mode="json") for stage, settings in self.settings.items()}
        return {"image_size": self.image_size, **stages}

    def compute(self, number: int) -> None:
        """Draw a chunk, save the pictures that are kept, and last write its features.

        Pictures are 8-bit squares of the size that is compared. Raises `DataError` for features that are not finite,
        with prompt and seed.
        """
        options, items = self.options, self.chunks.items(number)
        count, batch = options.images_per_prompt, options.batch_size or chunk_size(self.model)
        images, prompts, seconds = list[Image.Image](), list[str](), 0.0
        draw: DrawOptions = {**draw_options(self.settings), "image_size": self.image_size, "batch_size": batch}
        for first in items[:: max(batch // count, 1)]:
            last = min(first + max(batch // count, 1), items.stop)
            started = time.monotonic()
            draw["seed"] = list(range(options.seed + first * count, options.seed + last * count))
            result = text_to_image(self.model, self.prompts[first:last], count, **draw)
            seconds += time.monotonic() - started
            images += [image if image.width == self.size else crop_square(image, self.size) for image in result.images]
            prompts += result.prompts
        seeds = [options.seed + items.start * count + place for place in range(len(images))]
        num_kept = self.num_images if options.keep_pictures else len(self.samples)
        for place, image in enumerate(images[: max(num_kept - items.start * count, 0)]):
            metadata = {"prompt": prompts[place], "seed": str(seeds[place]), "model": self.model.name}
            save_png(image, self.out / self.sample_path(items.start * count + place), metadata)
        names = [f"{prompt!r}, seed {seed}" for prompt, seed in zip(prompts, seeds, strict=True)]
        rows = dict(picture_rows(self.networks, as_uint8(images), names, options.feature_batch))
        clip = clip_of(self.networks)
        if clip is not None:
            rows["clip_text"] = text_rows(clip, prompts, options.feature_batch)
        self.chunks.write(number, rows, seconds=seconds)


def draw_share(settings: Sequence[DrawnPictures], options: EvaluateOptions, progress: Progress) -> bool:
    """Draw this process's share of the missing chunks; return whether all chunks of all processes exist then."""
    first, step = options.node
    share = [(drawn, number) for drawn in settings for number in range(len(drawn.chunks))][first::step]
    missing = {drawn.name: drawn.chunks.missing() for drawn in settings}
    todo = [(drawn, number) for drawn, number in share if number in missing[drawn.name]]
    for done, (drawn, number) in enumerate(todo, start=1):
        drawn.compute(number)
        progress("chunks of pictures", done, len(todo))
    return not any(drawn.chunks.missing() for drawn in settings)
