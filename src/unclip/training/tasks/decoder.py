"""Training of the decoder: image embeddings of a frozen CLIP to pictures, or to an autoencoder's latents."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from unclip.clip import TextImageEncoder
from unclip.data import PictureSet
from unclip.errors import ConfigError
from unclip.metrics import frechet_distance
from unclip.model.checks import sizes_of
from unclip.model.families import family_of
from unclip.model.family import DecoderInputs, Family
from unclip.model.settings import LATENT_BOUND, PIXEL_BOUND
from unclip.models import Autoencoder, ConvAutoencoder, Decoder
from unclip.pipelines import Condition, DecoderStage
from unclip.pipelines.stage import run_to_end, sample_steps
from unclip.runtime import NoiseSource, autocast, inference_dtype
from unclip.training.config import DecoderTaskConfig, TrainConfig
from unclip.training.task import Batch, Request
from unclip.training.tasks.common import SAMPLING, DiffusionTask, draw_step, preview_grid
from unclip.training.tasks.latents import Latents, encode_pictures, load_autoencoder, open_autoencoder
from unclip.training.tasks.phrases import with_paraphrases
from unclip.training.tasks.samples import (
    EmbeddedPictures,
    ImageEmbeddings,
    StoredTexts,
    TextReader,
    Tokens,
    caption_notes,
    choose_captions,
    clip_precision,
    embed_pictures,
    load_pictures,
    open_stored,
    read_items,
    stack_pixels,
    text_features,
)

NUM_PREVIEWS = 24
LEAST_COMPARED = 2
"""Pictures that a Fréchet distance, one of covariances, needs."""


class DecoderTask(DiffusionTask):
    """The hybrid objective of Improved DDPM, with classifier-free dropout of the image embedding and the text."""

    task: DecoderTaskConfig
    samples: "DecoderSamples"
    embeddings: ImageEmbeddings
    autoencoder: Autoencoder | ConvAutoencoder | None = None
    """What made the latents that the network denoises; None: it denoises pixels."""
    null_image: Tensor | None = None
    """The CLIP embedding of an empty image, (1, dim), for a network that learns no null; None: zeros."""

    @classmethod
    def open(
        cls, config: TrainConfig, task: DecoderTaskConfig, device: torch.device, embedded: Tensor | None = None
    ) -> "DecoderTask":
        """Open the task on the data that `config` names; pictures are embedded unless `embedded` has the result.

        Raises `ConfigError` if the data lack what the decoder reads.
        """
        encoder = None if task.clip is None else TextImageEncoder.load(task.clip, device)
        if task.num_drawn and encoder is None:
            raise ConfigError(
                f"num_drawn={task.num_drawn} needs a CLIP whose features to compare; name one (task.clip)."
            )
        data, model, notes = config.data, task.model, list[str]()
        family = family_of(model)
        if any(size.what == "second token width" for size in sizes_of(model)):
            raise ConfigError(
                f"task.model.text_dim={model.text_dim}: Kandinsky 2.1 reads the text of a second encoder, which no "
                "training computes; set task.model.text_dim=0, as in 2.2."
            )
        if family.draws_latents and task.autoencoder is None:
            raise ConfigError(f"a {family.network.__name__} draws latents; name an autoencoder (task.autoencoder).")
        if family.null_is_empty_image and encoder is None and task.image_drop_prob > 0.0:
            raise ConfigError(
                f"task.image_drop_prob={task.image_drop_prob}: a {family.network.__name__} reads CLIP's embedding of "
                "an empty image in place of those that are dropped; name a CLIP (task.clip), or drop none."
            )
        latents: Latents | None = None
        autoencoder: Autoencoder | ConvAutoencoder | None = None
        if task.autoencoder is None:
            pictures = source = load_pictures(data, model.image_size, channels=model.in_channels)
        else:
            weights = open_autoencoder(task.autoencoder)
            autoencoder = load_autoencoder(weights, device)
            encoded = encode_pictures(data, weights, autoencoder, model.image_size * autoencoder.config.downsampling)
            pictures, source, latents = encoded.pictures, encoded, encoded.latents
        texts: TextReader | None = None
        if data.embeddings is not None:
            stored = open_stored(data.embeddings, encoder)
            rows = stored.find(pictures.keys, data.missing_share)
            embeddings = ImageEmbeddings.of_shards(stored, rows)
            source, num_missing = EmbeddedPictures(source, embeddings), int((rows < 0).sum())
            if num_missing:
                notes.append(f"{num_missing:,} of {len(pictures):,} pictures are skipped: no embedding.")
            texts = StoredTexts(stored, rows) if stored.text_dim else None
        elif task.image_drop_prob == 1.0:
            embeddings = ImageEmbeddings.zeros(len(pictures), model.embedding_dim)
        elif embedded is not None:
            embeddings = ImageEmbeddings.of_table(embedded)
        elif encoder is not None:
            embeddings = embed_pictures(encoder, load_pictures(data, encoder.clip.config.image_size))
            embedded = embeddings.table
        else:
            raise ConfigError(
                "the decoder needs image embeddings: name a CLIP (task.clip) or shards of `unclip embed` "
                "(data.embeddings), or train without conditioning (task.image_drop_prob=1)."
            )
        if model.text_dim and texts is None:
            if encoder is None:
                raise ConfigError(
                    f"the decoder reads text (text_dim={model.text_dim}): name a CLIP (task.clip), or embed with "
                    "--hidden."
                )
            texts = Tokens(encoder.tokenizer, encoder.clip.config.context_length)
            source = with_paraphrases(source, data, task.paraphrases)
        elif task.paraphrases is not None:
            raise ConfigError(
                "task.paraphrases adds captions, but this decoder reads none "
                f"(text_dim={model.text_dim}, data.embeddings={data.embeddings}); set task.paraphrases=null."
            )
        if model.text_dim and task.text_drop_prob < 1.0:
            notes += caption_notes(pictures, data.folder, is_required=False)
        samples = DecoderSamples(source, embeddings, texts if model.text_dim else None, task, latents)
        opened = cls(config, task, device, samples, embeddings, encoder)
        opened.autoencoder = autoencoder
        if family.null_is_empty_image and encoder is not None:
            opened.null_image = encoder.encode_empty_image()
        opened.x0_bound = PIXEL_BOUND if autoencoder is None else LATENT_BOUND
        opened.notes, opened.embedded, opened.num_compared = tuple(notes), embedded, task.num_drawn
        return opened

    def x0(self, batch: Batch) -> Tensor:
        return batch["latents"] if "latents" in batch.tensors else super().x0(batch)

    def conditioning(self, batch: Batch) -> dict[str, Tensor | None]:
        jitter = batch["level"][:, None] * self.embeddings.std.to(self.device) * batch["jitter"]
        embedding = batch["image_embedding"]
        null_image = torch.zeros_like(embedding[:1]) if self.null_image is None else self.null_image
        train = self.family.train_decoder
        assert train is not None, f"{type(self.task.model).__name__} cannot be trained"
        text = text_features(batch, self.encoder)
        inputs = DecoderInputs(embedding + jitter, batch["image_present"], batch["level"], null_image, text)
        return dict(train(self.task.model, inputs))

    @property
    def family(self) -> Family:
        """What there is to know of the class of the network."""
        return family_of(self.task.model)

    def draw(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return CLIP's features of held-out pictures, and of pictures drawn from their embeddings."""
        assert self.encoder is not None, "checked when the run began"
        drawn = self._sample(network, batch, batch["noise"], is_conditional=True)
        with clip_precision(self.device):
            real = self.encoder.encode_image(self._stage(network).finish(self.x0(batch))[:, :3])
            return {"real": real, "drawn": self.encoder.encode_image(drawn[:, :3])}

    def figures(self, rows: Mapping[str, Tensor]) -> dict[str, float]:
        """Compute `frechet_clip`: the distance between real pictures and those drawn from their embeddings."""
        is_enough = len(rows["drawn"]) >= LEAST_COMPARED
        return {"frechet_clip": frechet_distance(rows["drawn"], rows["real"])} if is_enough else {}

    @torch.inference_mode()
    def preview(self, network: nn.Module) -> Image.Image:
        """Draw real pictures in the odd rows, and below each what the decoder makes of its embedding."""
        count, model = len(self.samples.source), self.task.model
        chosen = np.linspace(0, count - 1, min(NUM_PREVIEWS, count)).astype(int)
        request = Request(chosen, np.arange(len(chosen)), len(chosen), 0, self.seed)
        batch = self.samples.plain(request).to(self.device)
        shape = (model.in_channels, model.image_size, model.image_size)
        noise = NoiseSource.from_seeds(range(len(chosen)))(shape, self.device)
        with autocast(self.device, inference_dtype(self.device)):
            drawn = self._sample(network, batch, noise, is_conditional=self.task.image_drop_prob < 1.0)
        return preview_grid(self._stage(network).finish(self.x0(batch))[:, :3], drawn[:, :3])

    def _sample(self, network: nn.Module, batch: Batch, x_T: Tensor, *, is_conditional: bool) -> Tensor:
        stage, text = self._stage(network), text_features(batch, self.encoder)
        # Guidance is off, so the features of the empty prompt are never read.
        condition = Condition(text, text, null_image=self.null_image, is_conditional=is_conditional)
        denoiser = stage.denoiser(batch["image_embedding"], condition, SAMPLING)
        return stage.finish(run_to_end(sample_steps(denoiser, stage.schedule, SAMPLING, lambda: x_T)))

    def _stage(self, network: nn.Module) -> DecoderStage:
        return DecoderStage(cast(Decoder, network), SAMPLING, self.autoencoder)


@dataclass(frozen=True, eq=False)
class DecoderSamples:
    """Pictures, or their latents, with their embeddings and, if the decoder reads it, their text."""

    source: PictureSet
    embeddings: ImageEmbeddings
    texts: TextReader | None
    task: DecoderTaskConfig
    latents: Latents | None = None
    """None: pixels are read."""

    def __call__(self, request: Request) -> Batch:
        model = self.task.model
        batch = self.plain(request, self.task.text_drop_prob)
        draws = draw_step(request, self.task, (model.in_channels, model.image_size, model.image_size))
        draws["jitter"] = request.noise((model.embedding_dim,))
        level = torch.full((len(batch),), self.task.embedding_noise)
        draws["level"] = level * request.uniform() if model.noise_conditioning else level
        draws["image_present"] = request.uniform() >= self.task.image_drop_prob
        return Batch({**batch.tensors, **draws}, batch.skipped)

    def plain(self, request: Request, text_drop_prob: float = 0.0) -> Batch:
        """Read the samples with a caption each, without noise."""
        items, indices, skipped = read_items(self.source, request.indices)
        tensors = {"image_embedding": self.embeddings(indices)}
        if self.latents is None:
            tensors["pixels"] = stack_pixels(items, self.task.model.image_size)
        else:
            tensors["latents"] = self.latents(indices)
        if self.texts is not None:
            captions = [item.captions for item in items]
            tensors |= self.texts(indices.tolist(), captions, choose_captions(captions, request, text_drop_prob))
        return Batch(tensors, skipped)
