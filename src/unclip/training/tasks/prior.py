"""Training of the prior: text features to image embeddings of a frozen CLIP. Knows no pixels but to embed them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from unclip.checkpoint import LazyTensor, NetworkWeights, save_network
from unclip.clip import TextImageEncoder
from unclip.data import EmbeddingSet, PictureSet
from unclip.diffusion import make_schedule
from unclip.errors import DataError
from unclip.images import from_uint8
from unclip.metrics import cosine_figures
from unclip.models import Prior
from unclip.runtime import autocast, inference_dtype
from unclip.training.config import PriorTaskConfig, TrainConfig
from unclip.training.task import Batch, Request, Samples, Task, TaskLoss
from unclip.training.tasks.common import (
    EmbeddingTable,
    caption_notes,
    denoising_losses,
    divisor,
    draw_self_conditioning,
    draw_times,
    embed_pictures,
    load_pictures,
    read_items,
    seeded_network,
    stack_pixels,
)
from unclip.training.tasks.drawing import draw
from unclip.training.tasks.stored import next_valid, open_stored
from unclip.training.tasks.texts import StoredTexts, Texts, Tokens, choose_captions, split_by_length, text_features

# Pictures whose embeddings give the statistics where each batch's are computed when its turn comes.
NUM_STATISTICS = 10_000


class PriorTask(Task):
    """Mean-squared error in the space of standardised embeddings (DALL-E 2, eq. 2)."""

    def __init__(
        self,
        task: PriorTaskConfig,
        seed: int,
        device: torch.device,
        samples: Samples,
        statistics: tuple[Tensor, Tensor],
        encoder: TextImageEncoder | None,
        embedded: Tensor | None = None,
    ) -> None:
        """`statistics` are mean and deviation of each coordinate; `encoder` reads what comes without features."""
        self.task, self.device, self.seed, self.embedded = task, device, seed, embedded
        self.samples, self.encoder = samples, encoder
        self.mean, self.std = statistics
        self.schedule = make_schedule(task.model.schedule, task.model.num_timesteps)

    @classmethod
    def open(
        cls, config: TrainConfig, task: PriorTaskConfig, device: torch.device, embedded: Tensor | None = None
    ) -> "PriorTask":
        """The task on the data that `config` names; pictures are embedded unless `embedded` has their embeddings."""
        encoder = TextImageEncoder.load(task.clip, device)
        location = config.data.embeddings
        stored = None if location is None else open_stored(location, encoder)
        tokens = Tokens(encoder.tokenizer, encoder.clip.config.context_length)
        if stored is not None:
            samples = StoredPriorSamples(stored, _stored_texts(stored, task, tokens), task)
            return cls(task, config.seed, device, samples, (stored.mean, divisor(stored.mean, stored.std)), encoder)
        size = encoder.clip.config.image_size
        pictures = load_pictures(config.data, size)
        notes = caption_notes(pictures, config.data.folder) if task.text_drop_prob < 1.0 else ()
        is_once = task.embed == "once"
        limit = None if is_once else NUM_STATISTICS
        table = embed_pictures(encoder, pictures, limit) if embedded is None else EmbeddingTable(embedded)
        kept, size_seen = (table, None) if is_once else (None, size)
        pictured = PicturePriorSamples(pictures, kept, tokens, task, size_seen)
        opened = cls(task, config.seed, device, pictured, (table.mean, table.std), encoder, table.rows)
        opened.notes = notes
        return opened

    def build(self) -> Prior:
        network = seeded_network(lambda: Prior(self.task.model), self.seed)
        network.embedding_mean.copy_(self.mean)
        network.embedding_std.copy_(self.std)
        return network

    def loss(self, network: nn.Module, batch: Batch) -> TaskLoss:
        return TaskLoss(self._losses(network, batch).mean(), {})

    def held_out(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return {"loss": self._losses(network, batch)}

    def _losses(self, network: nn.Module, batch: Batch) -> Tensor:
        conditioning, model = self._conditioning(batch), self.task.model
        tensors = {**batch.tensors, "x0": self._standardized(batch)}
        return denoising_losses(network, model, self.schedule, self.task.weighting, tensors, conditioning)

    def _conditioning(self, batch: Batch) -> dict[str, Tensor]:
        text = text_features(batch, self.encoder)
        hidden = {"text_hidden": text.hidden, "text_mask": text.mask} if self.task.model.num_text_tokens else {}
        return {"text_embedding": text.embedding, **hidden}

    def split(self, batch: Batch, num_rows: int) -> list[Batch]:
        return split_by_length(batch, num_rows)

    @property
    def num_compared(self) -> None:
        """All: how often a picture is the nearest depends on how many there are."""
        return None

    def draw(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The embeddings of texts and pictures, and those predicted from the texts."""
        conditioning = self._conditioning(batch)
        drawn = draw(network, self.task.model, self.schedule, conditioning, batch["noise"])
        predicted = drawn * self.std.to(self.device) + self.mean.to(self.device)
        return {"text": conditioning["text_embedding"], "image": self._embedding(batch), "predicted": predicted}

    def figures(self, rows: Mapping[str, Tensor]) -> dict[str, float]:
        """Cosines of texts, predictions and pictures, and how often a prediction finds its picture."""
        return cosine_figures(rows["text"], rows["image"], rows["predicted"])

    def _standardized(self, batch: Batch) -> Tensor:
        mean, std = self.mean.to(self.device), self.std.to(self.device)
        return (self._embedding(batch) - mean) / std

    def _embedding(self, batch: Batch) -> Tensor:
        if "image_embedding" in batch.tensors:
            return batch["image_embedding"]
        assert self.encoder is not None, "pictures need a CLIP that sees them"
        with torch.no_grad(), autocast(self.device, inference_dtype(self.device)):
            return self.encoder.encode_image(from_uint8(batch["pixels"])).float()

    def preview(self, network: nn.Module) -> Image.Image | None:
        return None

    def export(self, state: Mapping[str, LazyTensor], folder: Path) -> None:
        path = folder / "prior.safetensors"
        weights = NetworkWeights(Prior.__name__, self.task.model, state, str(path))
        save_network(path, weights, "prior", "float32")


def _stored_texts(stored: EmbeddingSet, task: PriorTaskConfig, tokens: Tokens) -> Texts:
    """Stored features of texts where they hold all that the prior reads; else captions, whose tower is cheap."""
    if stored.has_texts and (stored.text_dim or not task.model.num_text_tokens):
        return StoredTexts(stored)
    if stored.has_captions:
        return tokens
    if stored.has_texts:
        raise DataError(
            f"{stored.location} holds embeddings of texts without captions or states of their tokens, of which the "
            f"prior reads {task.model.num_text_tokens}; set task.model.num_text_tokens=0, or add metadata/*.parquet."
        )
    raise DataError(
        f"{stored.location} holds image embeddings alone, and a prior learns from pairs; add text_emb/*.npy, or "
        "captions in metadata/*.parquet."
    )


@dataclass(frozen=True, eq=False)
class PicturePriorSamples:
    """Samples from pictures: their embeddings in memory, or their pixels for a frozen CLIP."""

    source: PictureSet
    table: EmbeddingTable | None
    texts: Texts
    task: PriorTaskConfig
    image_size: int | None
    """Pixels of a side that CLIP sees, where there is no table."""

    def __call__(self, request: Request) -> Batch:
        items, indices, skipped = read_items(self.source, request.indices)
        image = (
            {"pixels": stack_pixels(items, self.image_size)}
            if self.image_size is not None
            else {"image_embedding": self.table.image(indices)}  # type: ignore[union-attr]  # one of both is there
        )
        captions = [item.captions for item in items]
        return Batch({**image, **prior_draws(self.task, self.texts, indices, captions, request)}, skipped)


@dataclass(frozen=True, eq=False)
class StoredPriorSamples:
    """Samples from embedding shards: no picture is read."""

    source: EmbeddingSet
    texts: Texts
    task: PriorTaskConfig

    def __call__(self, request: Request) -> Batch:
        indices, skipped = next_valid(self.source, request.indices)
        # Where features of texts are read, only their number matters, and not every layout holds the texts.
        captions = [
            self.source.captions(int(index))
            if isinstance(self.texts, Tokens)
            else [""] * self.source.num_texts(int(index))
            for index in indices
        ]
        draws = prior_draws(self.task, self.texts, indices, captions, request)
        return Batch({"image_embedding": self.source.image(indices), **draws}, skipped)


def prior_draws(
    task: PriorTaskConfig, texts: Texts, indices: np.ndarray, captions: Sequence[Sequence[str]], request: Request
) -> dict[str, Tensor]:
    """Text, noise and times of a prior's batch."""
    chosen = choose_captions(captions, request, task.text_drop_prob)
    draws = texts(indices.tolist(), captions, chosen)
    draws |= {"noise": request.noise((task.model.embedding_dim,)), "t": draw_times(request, task.model.num_timesteps)}
    if task.model.self_conditioning:
        draws["self_condition"] = draw_self_conditioning(request, task.self_conditioning_prob)
    return draws
