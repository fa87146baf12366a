"""Training of the decoder: image embeddings of a frozen CLIP to pictures. Knows no prior."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from unclip.checkpoint import LazyTensor, NetworkWeights, save_network
from unclip.clip import TextImageEncoder
from unclip.data import PictureSet
from unclip.diffusion import make_schedule
from unclip.errors import ConfigError
from unclip.images import from_uint8
from unclip.metrics import frechet_distance
from unclip.models import Decoder
from unclip.runtime import autocast, inference_dtype
from unclip.training.config import DecoderTaskConfig, TrainConfig
from unclip.training.task import Batch, Request, Task, TaskLoss
from unclip.training.tasks.common import (
    EmbeddingTable,
    caption_notes,
    denoising_losses,
    draw_self_conditioning,
    draw_times,
    embed_pictures,
    load_pictures,
    read_items,
    seeded_network,
    stack_pixels,
)
from unclip.training.tasks.drawing import draw, preview_grid
from unclip.training.tasks.stored import AlignedEmbeddings, EmbeddedPictures, open_stored
from unclip.training.tasks.texts import StoredTexts, Texts, Tokens, choose_captions, text_features

NUM_PREVIEWS = 24
# A Fréchet distance is one of covariances.
LEAST_COMPARED = 2


@runtime_checkable
class Embeddings(Protocol):
    """Image embeddings by the number of their sample."""

    @property
    def mean(self) -> Tensor:
        """Mean of each coordinate."""
        ...

    @property
    def std(self) -> Tensor:
        """What each coordinate is divided by."""
        ...

    def image(self, indices: np.ndarray) -> Tensor:
        """(samples, dim) float32."""
        ...


class DecoderTask(Task):
    """The hybrid objective of Improved DDPM, with classifier-free dropout of the image embedding and the text."""

    samples: "DecoderSamples"

    def __init__(
        self,
        task: DecoderTaskConfig,
        seed: int,
        device: torch.device,
        samples: "DecoderSamples",
        encoder: TextImageEncoder | None,
    ) -> None:
        """`encoder` reads what `samples` bring no features of."""
        self.task, self.device, self.seed = task, device, seed
        self.samples, self.encoder, self.embeddings = samples, encoder, samples.embeddings
        self.embedded = self.embeddings.rows if isinstance(self.embeddings, EmbeddingTable) else None
        self.schedule = make_schedule(task.model.schedule, task.model.num_timesteps)

    @classmethod
    def open(
        cls, config: TrainConfig, task: DecoderTaskConfig, device: torch.device, embedded: Tensor | None = None
    ) -> "DecoderTask":
        """The task on the data that `config` names; pictures are embedded unless `embedded` has their embeddings.

        Raises `ConfigError` where the data lack what the decoder reads.
        """
        encoder = None if task.clip is None else TextImageEncoder.load(task.clip, device)
        if task.num_drawn and encoder is None:
            raise ConfigError(
                f"num_drawn={task.num_drawn} needs a CLIP whose features to compare; name one (task.clip)."
            )
        pictures = load_pictures(config.data, task.model.image_size)
        location = config.data.embeddings
        stored = None
        if location is not None:
            features = open_stored(location, encoder)
            stored = AlignedEmbeddings.of(features, pictures.keys, config.data.missing_share)
        embeddings = stored or _embed(config, task, encoder, embedded)
        usable = pictures if stored is None else EmbeddedPictures(pictures, stored)
        samples = DecoderSamples(usable, embeddings, _texts(task, stored, encoder), task)
        opened = cls(task, config.seed, device, samples, encoder)
        if stored is not None and stored.num_missing:
            opened.notes += (f"{stored.num_missing:,} of {len(pictures):,} pictures are skipped: no embedding.",)
        if task.model.text_dim and task.text_drop_prob < 1.0:
            opened.notes += caption_notes(pictures, config.data.folder, is_required=False)
        return opened

    def build(self) -> Decoder:
        network = seeded_network(lambda: Decoder(self.task.model), self.seed)
        network.embedding_mean.copy_(self.embeddings.mean)
        network.embedding_std.copy_(self.embeddings.std)
        return network

    def loss(self, network: nn.Module, batch: Batch) -> TaskLoss:
        return TaskLoss(self._losses(network, batch).mean(), {})

    def held_out(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return {"loss": self._losses(network, batch)}

    def _losses(self, network: nn.Module, batch: Batch) -> Tensor:
        tensors = {**batch.tensors, "x0": from_uint8(batch["pixels"])}
        jitter = self.task.embedding_noise * self.embeddings.std.to(self.device) * batch["jitter"]
        conditioning = {
            "image_embedding": batch["image_embedding"] + jitter,
            "image_present": batch["image_present"],
            **self._text(batch),
        }
        return denoising_losses(network, self.task.model, self.schedule, self.task.weighting, tensors, conditioning)

    def _text(self, batch: Batch) -> dict[str, Tensor]:
        if not self.task.model.text_dim:
            return {}
        text = text_features(batch, self.encoder)
        return {"text_embedding": text.embedding, "text_hidden": text.hidden, "text_mask": text.mask}

    @property
    def num_compared(self) -> int:
        return self.task.num_drawn

    def draw(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """CLIP's features of held-out pictures, and of pictures drawn from their embeddings."""
        assert self.encoder is not None, "checked when the run began"
        conditioning = {"image_embedding": batch["image_embedding"], **self._text(batch)}
        pictures = draw(network, self.task.model, self.schedule, conditioning, batch["noise"]).clamp(-1, 1)
        real = self.encoder.encode_image(from_uint8(batch["pixels"]))
        return {"real": real, "drawn": self.encoder.encode_image(pictures)}

    def figures(self, rows: Mapping[str, Tensor]) -> dict[str, float]:
        """`frechet_clip`: the distance of `num_drawn` pictures drawn from held-out embeddings to the real ones."""
        if len(rows["drawn"]) < LEAST_COMPARED:
            return {}
        return {"frechet_clip": frechet_distance(rows["drawn"], rows["real"])}

    @torch.inference_mode()
    def preview(self, network: nn.Module) -> Image.Image | None:
        """Real pictures in the odd rows, what the decoder makes of their embeddings below."""
        count = len(self.samples.source)
        chosen = np.linspace(0, count - 1, min(NUM_PREVIEWS, count)).astype(int)
        request = Request(chosen, np.arange(len(chosen)), len(chosen), 0, self.seed)
        batch = self.samples.plain(request).to(self.device)
        conditioning = {"image_embedding": batch["image_embedding"], **self._text(batch)}
        if self.task.image_drop_prob == 1.0:
            conditioning["image_present"] = torch.zeros(len(batch), dtype=torch.bool, device=self.device)
        with autocast(self.device, inference_dtype(self.device)):
            return preview_grid(network, self.task.model, conditioning, batch["pixels"].cpu().numpy(), self.device)

    def export(self, state: Mapping[str, LazyTensor], folder: Path) -> None:
        path = folder / "decoder.safetensors"
        weights = NetworkWeights(Decoder.__name__, self.task.model, state, str(path))
        save_network(path, weights, "decoder", "float32")


def _embed(
    config: TrainConfig, task: DecoderTaskConfig, encoder: TextImageEncoder | None, embedded: Tensor | None
) -> Embeddings:
    if embedded is not None:
        return EmbeddingTable(embedded)
    if encoder is not None and task.image_drop_prob < 1.0:
        return embed_pictures(encoder, load_pictures(config.data, encoder.clip.config.image_size))
    if task.image_drop_prob < 1.0:
        raise ConfigError(
            "the decoder needs image embeddings: name a CLIP (task.clip) or shards of `unclip embed` "
            "(data.embeddings), or train without conditioning (task.image_drop_prob=1)."
        )
    return NoEmbeddings(task.model.embedding_dim)


def _texts(task: DecoderTaskConfig, stored: AlignedEmbeddings | None, encoder: TextImageEncoder | None) -> Texts | None:
    if not task.model.text_dim:
        return None
    if stored is not None and stored.stored.text_dim:
        return StoredTexts(stored.stored, stored.rows)
    if encoder is None:
        raise ConfigError(
            f"the decoder reads text (text_dim={task.model.text_dim}): name a CLIP (task.clip), or embed with --hidden."
        )
    return Tokens(encoder.tokenizer, encoder.clip.config.context_length)


@dataclass(frozen=True, eq=False)
class NoEmbeddings:
    """What an unconditional decoder is given, and never sees: zeros."""

    embedding_dim: int

    @property
    def mean(self) -> Tensor:
        """Zeros."""
        return torch.zeros(self.embedding_dim)

    @property
    def std(self) -> Tensor:
        """Ones."""
        return torch.ones(self.embedding_dim)

    def image(self, indices: np.ndarray) -> Tensor:
        """Zeros, (samples, dim)."""
        return torch.zeros(len(indices), self.embedding_dim)


@dataclass(frozen=True, eq=False)
class DecoderSamples:
    """Pictures with their embeddings and, where the decoder reads it, their text."""

    source: PictureSet
    embeddings: Embeddings
    texts: Texts | None
    task: DecoderTaskConfig

    def __call__(self, request: Request) -> Batch:
        model = self.task.model
        batch = self._read(request, self.task.text_drop_prob)
        draws = {
            "noise": request.noise((3, model.image_size, model.image_size)),
            "t": draw_times(request, model.num_timesteps),
            "jitter": request.noise((model.embedding_dim,)),
            "image_present": request.uniform() >= self.task.image_drop_prob,
        }
        if model.self_conditioning:
            draws["self_condition"] = draw_self_conditioning(request, self.task.self_conditioning_prob)
        return Batch({**batch.tensors, **draws}, batch.skipped)

    def plain(self, request: Request) -> Batch:
        """The samples with a caption each, nothing hidden and nothing noised."""
        return self._read(request, 0.0)

    def _read(self, request: Request, text_drop_prob: float) -> Batch:
        items, indices, skipped = read_items(self.source, request.indices)
        tensors = {
            "pixels": stack_pixels(items, self.task.model.image_size),
            "image_embedding": self.embeddings.image(indices),
        }
        if self.texts is not None:
            captions = [item.captions for item in items]
            tensors |= self.texts(indices.tolist(), captions, choose_captions(captions, request, text_drop_prob))
        return Batch(tensors, skipped)
