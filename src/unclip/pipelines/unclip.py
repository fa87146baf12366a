"""The face of the package: a loaded model and one method per task. Knows tasks; the work is done in their files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self, Unpack

import torch

from unclip.checkpoint import Storage
from unclip.clip import TextImageEncoder
from unclip.pictures import Picture
from unclip.pipelines.decoder_stage import DecoderStage
from unclip.pipelines.inpaint import inpaint
from unclip.pipelines.model import Model
from unclip.pipelines.options import DrawOptions
from unclip.pipelines.outpaint import outpaint
from unclip.pipelines.painting import FEATHER, NUM_RESAMPLES
from unclip.pipelines.prior_stage import PriorStage
from unclip.pipelines.result import Result
from unclip.pipelines.text_to_image import text_to_image
from unclip.pipelines.upsampler_stage import UpsamplerStage
from unclip.pipelines.variations import image_variations

__all__ = ["UnClip"]


class UnClip:
    """A text-to-image model, ready to draw.

    >>> pipe = UnClip.load("emoji")
    >>> result = pipe.text_to_image(["a cat with sunglasses"], num_images=4, seed=7)
    >>> result.images[0].save("cat.png")
    """

    def __init__(self, model: Model) -> None:
        self.model = model

    @classmethod
    def load(
        cls,
        name_or_folder: str | Path,
        device: torch.device | str = "auto",
        dtype: torch.dtype | None = None,
        *,
        low_memory: bool = False,
        revision: str | None = None,
    ) -> Self:
        """Load a model: a shipped one by name, a folder, or a hub repository (`owner/name`).

        Folders and repositories are ours or of a layout that is known, such as diffusers' unCLIP; `revision` is a
        repository's branch, tag or commit, and what is cached needs no network. `device` is auto, cpu, cuda or mps.
        `dtype` is the number format of the weights, by default bfloat16 where the device multiplies it natively, else
        float32; weights that a CPU can use as they are stored stay in their files, mapped. With `low_memory` one stage
        at a time is in memory, read anew for each task.

        Raises `InputError` for an unknown name (with the nearest one), `CheckpointError` for files that are missing,
        damaged, something else, or do not fit each other, and `ConfigError` for networks that we have no equal of.
        """
        return cls(Model.load(name_or_folder, device, dtype, low_memory=low_memory, revision=revision))

    def save(self, folder: str | Path, storage: Storage = "float32") -> None:
        """Write a model folder that `load` reads. `storage` is float32, bfloat16 or int8 (per output channel)."""
        self.model.save(folder, storage)

    @property
    def name(self) -> str:
        """What the model is called."""
        return self.model.name

    @property
    def clip(self) -> TextImageEncoder:
        """CLIP with its tokenizer."""
        return self.model.need_clip

    @property
    def prior(self) -> PriorStage:
        """Text features to image embeddings."""
        return self.model.need_prior

    @property
    def decoder(self) -> DecoderStage:
        """Image embeddings to small pictures."""
        return self.model.need_decoder

    @property
    def upsamplers(self) -> Mapping[int, UpsamplerStage]:
        """Small pictures to larger ones, by the size that they make."""
        return self.model.upsamplers

    def text_to_image(
        self,
        prompts: str | Sequence[str],
        num_images: int = 1,
        *,
        num_candidates: int | None = None,
        **options: Unpack[DrawOptions],
    ) -> Result:
        """Draw `num_images` pictures of each prompt, in the order of the prompts; `options` are `DrawOptions`.

        Image k of every prompt has the seed `seed` + k (a random one where `seed` is None) and its own generator: it
        does not depend on `num_images` or on the other prompts. Noise is drawn in the order prior start, prior steps,
        decoder start, decoder steps, upsampler start, upsampler steps; all `num_candidates` image embeddings of a
        picture draw from its generator, and the one nearest to the text is drawn.

        A prompt longer than CLIP's context is drawn from its beginning; `Result.cut` holds the rest. Raises
        `InputError` for an empty prompt and for any setting that cannot be, before anything is drawn.
        """
        return text_to_image(self.model, prompts, num_images, num_candidates=num_candidates, **options)

    def image_variations(
        self, images: Picture | Sequence[Picture], num_images: int = 1, **options: Unpack[DrawOptions]
    ) -> Result:
        """Draw `num_images` variations of each picture: others of which CLIP would say the same (paper, section 3.1).

        `images` are PIL pictures or paths of any shape; CLIP's `resize` says how they become square. The prior is not
        used. All else, seeds, noise and errors too, is as for `text_to_image`.
        """
        return image_variations(self.model, images, num_images, **options)

    def inpaint(
        self,
        image: Picture,
        mask: Picture | None = None,
        prompt: str | None = None,
        num_images: int = 1,
        *,
        feather: int = FEATHER,
        num_resamples: int = NUM_RESAMPLES,
        **options: Unpack[DrawOptions],
    ) -> Result:
        """Paint the white part of `mask` anew, `num_images` times; every other pixel stays, bit for bit.

        `image` is a PIL picture or a path, of any size and shape, and so is the result, in RGB. `mask` is black and
        white and as large as the picture; without one, the transparent part of the picture is painted. The image
        embedding is that of `prompt`, by the prior, or what CLIP says of the whole picture where there is none.

        A window around the white part, half as large again, is brought to `image_size`, painted with what is known put
        back at every step of every stage, and brought back; a picture of just that size is not resized. The decoder
        makes each step `num_resamples` times, noising back in between (RePaint, algorithm 1). What was painted fades in
        over `feather` pixels inside the white part. A mask that is all black gives the picture back and nothing is
        drawn; one that is all white, on a picture of `image_size`, gives what `text_to_image`, or `image_variations`
        without a prompt, draws with the same seed and settings, to the bit.

        Raises `InputError` for a mask of another size or without black and white, for a picture without transparency
        and no mask, and as `text_to_image`.
        """
        return inpaint(
            self.model, image, mask, prompt, num_images, feather=feather, num_resamples=num_resamples, **options
        )

    def outpaint(
        self,
        image: Picture,
        prompt: str | None = None,
        num_images: int = 1,
        *,
        left: int = 0,
        right: int = 0,
        top: int = 0,
        bottom: int = 0,
        aspect: tuple[int, int] | None = None,
        window: int | None = None,
        feather: int = FEATHER,
        num_resamples: int = NUM_RESAMPLES,
        **options: Unpack[DrawOptions],
    ) -> Result:
        """Paint what lies beyond the borders of a picture, `num_images` times; the picture itself stays, bit for bit.

        It grows by `left`, `right`, `top` and `bottom` pixels, or to the `aspect` (width, height), by as much on both
        sides. Squares of `window` pixels are painted as by `inpaint`, outward from the picture, each half over what is
        there already: memory is that of one window and the pictures in 8 bits. By default a window is as large as the
        picture's shorter side, or as what the model draws where that is larger and the canvas has room. All windows
        are told the same: the embedding of `prompt`, or of what CLIP says of the picture.

        Raises `InputError` where there is nothing to extend, for a canvas of more than 2^27 pixels or 10,000 windows,
        for a `window` that does not fit the canvas, for an `image_size` that is not square, and as `text_to_image`.
        """
        return outpaint(
            self.model,
            image,
            prompt,
            num_images,
            left=left,
            right=right,
            top=top,
            bottom=bottom,
            aspect=aspect,
            window=window,
            feather=feather,
            num_resamples=num_resamples,
            **options,
        )
