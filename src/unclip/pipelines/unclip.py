"""The face of the package: a loaded model and one method per task. Knows tasks; the work is done in their files."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self, Unpack

import torch

from unclip.checkpoint import Storage
from unclip.clip import TextImageEncoder
from unclip.pictures import Picture
from unclip.pipelines.decoder_stage import DecoderStage
from unclip.pipelines.draft import Draft
from unclip.pipelines.drafting import advance, draft, finish
from unclip.pipelines.embedding_basis import EmbeddingBasis
from unclip.pipelines.image_to_image import image_to_image
from unclip.pipelines.ingredients import TextOrPicture
from unclip.pipelines.inpaint import inpaint
from unclip.pipelines.interpolate import interpolate
from unclip.pipelines.mix import mix
from unclip.pipelines.model import Model
from unclip.pipelines.options import DrawOptions
from unclip.pipelines.outpaint import outpaint
from unclip.pipelines.painting import FEATHER, NUM_RESAMPLES
from unclip.pipelines.prior_stage import PriorStage
from unclip.pipelines.probe import fit_basis, probe
from unclip.pipelines.result import Result
from unclip.pipelines.swap import swap
from unclip.pipelines.text_to_image import text_to_image
from unclip.pipelines.upsampler_stage import UpsamplerStage
from unclip.pipelines.upscale import upscale
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

    def replace(
        self,
        *,
        clip: "UnClip | None" = None,
        prior: "UnClip | None" = None,
        decoder: "UnClip | None" = None,
        upsamplers: "UnClip | None" = None,
    ) -> "UnClip":
        """A model with the named stages of others in the place of its own; nothing is copied, and this one stays.

        A decoder brings the text encoder that it reads. Raises `CheckpointError` where sizes do not fit, naming both,
        and `InputError` for a model that lacks the stage or is on another device.
        """
        given = {"clip": clip, "prior": prior, "decoder": decoder, "upsamplers": upsamplers}
        return UnClip(swap(self.model, **{part: pipe.model for part, pipe in given.items() if pipe is not None}))

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
        best_of: int | None = None,
        negative_prompt: str = "",
        **options: Unpack[DrawOptions],
    ) -> Result:
        """Draw `num_images` pictures of each prompt, in the order of the prompts; `options` are `DrawOptions`.

        Image k of every prompt has the seed `seed` + k (a random one where `seed` is None) and its own generator: it
        does not depend on `num_images` or on the other prompts. Noise is drawn in the order prior start, prior steps,
        decoder start, decoder steps, upsampler start, upsampler steps; all `num_candidates` image embeddings of a
        picture draw from its generator, and the one nearest to the text is drawn.

        With `best_of`, so many pictures of each prompt go through the decoder, CLIP compares them with the text, and
        the nearest `num_images` go on, best first; `settings["scores"]` has their cosines. Guidance leads away from
        `negative_prompt` in the prior, and in a decoder that reads text.

        A prompt longer than CLIP's context is drawn from its beginning; `Result.cut` holds the rest. Raises
        `InputError` for an empty prompt, a negative one that no guidance hears, and any setting that cannot be, before
        anything is drawn.
        """
        return text_to_image(
            self.model,
            prompts,
            num_images,
            num_candidates=num_candidates,
            best_of=best_of,
            negative_prompt=negative_prompt,
            **options,
        )

    def draft(
        self,
        prompts: str | Sequence[str],
        num_images: int = 1,
        *,
        stop_after: str,
        num_candidates: int | None = None,
        negative_prompt: str = "",
        **options: Unpack[DrawOptions],
    ) -> Draft:
        """Begin `num_images` pictures of each prompt and stop after "prior", "decoder" or "upsampler_256".

        `finish` goes on to what `text_to_image` would have drawn, to the bit on a CPU, also from a file
        (`Draft.save`). All else is as for `text_to_image`; settings of the stages to come are kept in the draft.
        """
        return draft(
            self.model,
            prompts,
            num_images,
            stop_after=stop_after,
            num_candidates=num_candidates,
            negative_prompt=negative_prompt,
            **options,
        )

    def advance(self, draft: Draft, *, stop_after: str, **options: Unpack[DrawOptions]) -> Draft:
        """Take a draft as far as another stage; errors and `options` are as for `finish`."""
        return advance(self.model, draft, stop_after=stop_after, **options)

    def finish(self, draft: Draft, **options: Unpack[DrawOptions]) -> Result:
        """Run the stages that a draft has before it.

        Any model goes on with a draft whose embeddings its decoder reads or whose pictures have a size that it makes;
        on its own model the draft's settings hold, on another that one's, and `options` change them. Seeds and noise
        are the draft's. Raises `InputError` where the draft does not fit, naming both sizes.
        """
        return finish(self.model, draft, **options)

    def image_variations(
        self, images: Picture | Sequence[Picture], num_images: int = 1, **options: Unpack[DrawOptions]
    ) -> Result:
        """Draw `num_images` variations of each picture: others of which CLIP would say the same (paper, section 3.1).

        `images` are PIL pictures or paths of any shape; CLIP's `resize` says how they become square. The prior is not
        used. All else, seeds, noise and errors too, is as for `text_to_image`.
        """
        return image_variations(self.model, images, num_images, **options)

    def image_to_image(
        self,
        images: Picture | Sequence[Picture],
        prompt: str | None = None,
        num_images: int = 1,
        *,
        strength: float = 0.7,
        negative_prompt: str = "",
        **options: Unpack[DrawOptions],
    ) -> Result:
        """Draw `num_images` pictures over each picture, of `prompt` or, without one, of what CLIP sees in it (SDEdit).

        `images` are as for `image_variations`, cut to the shape that is drawn. `strength` in (0, 1] is the share of the
        way to noise that a picture is taken, at the decoder's size, before it is drawn again, and about the share of
        the decoder's steps that are made: little keeps it, 1 keeps nothing and draws what `text_to_image` (without a
        prompt `image_variations`) draws of the same seed. All else is as there; `negative_prompt` too.
        """
        return image_to_image(
            self.model, images, prompt, num_images, strength=strength, negative_prompt=negative_prompt, **options
        )

    def upscale(
        self, images: Picture | Sequence[Picture], size: int | None = None, **options: Unpack[DrawOptions]
    ) -> Result:
        """Enlarge pictures of any shape until their longer side has `size` pixels (None: by the upsampler's factor).

        The model's last upsampler sharpens an enlarged copy, in as many passes as its factor asks for (paper, section
        2.3). It works on blocks of 1024 pixels that fade into each other, so memory does not grow with the picture but
        for its 8-bit colours. Transparency becomes white. Of the options, `seed`, `num_steps`, `sampler`, `output_type`
        and `progress` apply. Raises `InputError` for what is no picture, a `size` that does not enlarge or makes more
        than 2^27 pixels, and a model without upsampler.
        """
        return upscale(self.model, images, size, **options)

    def interpolate(
        self,
        a: TextOrPicture,
        b: TextOrPicture,
        frames: int = 9,
        *,
        num_candidates: int | None = None,
        **options: Unpack[DrawOptions],
    ) -> Result:
        """Draw `frames` pictures, at least 2, on the way from `a` to `b`: texts or pictures (paper, section 3.2).

        A PIL image, a path, and a text that names a file are pictures. Image embeddings and the decoder's first noise
        go along great circles (slerp); any other noise is the same for all frames, so there is one seed. A decoder that
        reads text is told that of the nearer end.

        Between two texts the ends are what `text_to_image` draws with the same seed and options. A picture brings the
        noise that leads back to it: unless `options` say otherwise, the decoder then samples by DDIM in 50 steps
        without guidance, and the end is the picture's reconstruction. Raises `InputError` as `text_to_image` does, for
        a file that is no picture, and for a text called like a picture's file that is not there.
        """
        return interpolate(self.model, a, b, frames, num_candidates=num_candidates, **options)

    def mix(
        self,
        parts: Sequence[tuple[TextOrPicture, float]],
        num_images: int = 1,
        *,
        num_candidates: int | None = None,
        **options: Unpack[DrawOptions],
    ) -> Result:
        """Draw `num_images` pictures of texts and pictures at once: `[("a cat", 0.7), ("dog.png", 0.3)]`.

        The image embeddings of the parts are averaged as directions; weights may have any sum, and one below 0 leads
        away from its part. What is a picture is as for `interpolate`. Seeds and noise are as for `text_to_image`, each
        text being imagined from the noise that it would be alone with: one part by itself gives what `text_to_image` or
        `image_variations` gives. A decoder that reads text is told that of the heaviest text.

        Raises `InputError` as `interpolate` does, for weights that are not finite or all 0, and where parts cancel.
        """
        return mix(self.model, parts, num_images, num_candidates=num_candidates, **options)

    def probe(
        self,
        image: Picture,
        num_components: Sequence[int] | None = None,
        *,
        basis: EmbeddingBasis | None = None,
        **options: Unpack[DrawOptions],
    ) -> Result:
        """Draw what the leading principal components of a picture's embedding hold (paper, section 4).

        One picture for each of `num_components`, all from the same noise; None is 1, 2, 4 and so on up to all of them,
        which is `image_variations` to rounding. `basis` is by default the model's own, where it comes with one. Raises
        `InputError` for a number outside 1..CLIP's embedding size, and where there is no basis or one of another size.
        """
        return probe(self.model, image, num_components, basis=basis, **options)

    def fit_basis(self, pictures: Iterable[Picture]) -> EmbeddingBasis:
        """The principal components of the embeddings of `pictures`, for `probe`; best of thousands of them.

        Pictures are taken from the iterable a few at a time. Raises `InputError` for fewer than 2.
        """
        return fit_basis(self.model, pictures)

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
