"""Training of the prior: text features to image embeddings of a frozen CLIP."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from unclip.clip import TextImageEncoder
from unclip.data import EmbeddingSet, PictureSet
from unclip.errors import ConfigError, DataError
from unclip.images import from_uint8
from unclip.metrics import cosine_figures
from unclip.model.settings import EMBEDDING_BOUND
from unclip.models import Prior
from unclip.pipelines import PriorStage
from unclip.pipelines.stage import run_to_end, sample_steps
from unclip.training.config import PriorTaskConfig, TrainConfig
from unclip.training.task import Batch, Request
from unclip.training.tasks.common import SAMPLING, DiffusionTask, draw_step
from unclip.training.tasks.phrases import with_paraphrases
from unclip.training.tasks.samples import (
    ImageEmbeddings,
    StoredTexts,
    TextReader,
    Tokens,
    caption_notes,
    choose_captions,
    clip_precision,
    embed_pictures,
    load_pictures,
    next_valid,
    open_stored,
    read_items,
    stack_pixels,
    text_features,
)

NUM_STATISTICS = 10_000
"""Pictures whose embeddings give the statistics when each batch is embedded in its own step."""
NUM_GROUPS = 4
"""Least number of groups that a batch is split into by the length of its texts."""


class PriorTask(DiffusionTask):
    """Mean-squared error in the space of standardised embeddings (DALL-E 2, eq. 2)."""

    task: PriorTaskConfig
    x0_bound = EMBEDDING_BOUND
    methods = ("text_cache",)
    num_compared = None  # all of them: recall depends on the number of candidates
    embeddings: ImageEmbeddings

    @classmethod
    def open(
        cls, config: TrainConfig, task: PriorTaskConfig, device: torch.device, embedded: Tensor | None = None
    ) -> "PriorTask":
        """Open the task on the data that `config` names; pictures are embedded unless `embedded` has the result."""
        encoder = TextImageEncoder.load(task.clip, device)
        tokens = Tokens(encoder.tokenizer, encoder.clip.config.context_length)
        if config.data.embeddings is not None:
            if task.paraphrases is not None:
                raise ConfigError(
                    f"task.paraphrases adds captions to pictures, but data.embeddings={config.data.embeddings} has "
                    "none; set task.paraphrases=null."
                )
            stored = open_stored(config.data.embeddings, encoder)
            embeddings = ImageEmbeddings.of_shards(stored)
            samples = PriorSamples(stored, embeddings, _stored_texts(stored, task, tokens), task)
            return cls(config, task, device, samples, embeddings, encoder)
        image_size, is_once = encoder.clip.config.image_size, task.embed == "once"
        pictures = load_pictures(config.data, image_size)
        pictures = with_paraphrases(pictures, config.data, task.paraphrases)
        notes = caption_notes(pictures, config.data.folder) if task.text_drop_prob < 1.0 else ()
        if embedded is None:
            embeddings = embed_pictures(encoder, pictures, None if is_once else NUM_STATISTICS)
        else:
            embeddings = ImageEmbeddings.of_table(embedded)
        samples = PriorSamples(pictures, embeddings if is_once else None, tokens, task, image_size)
        opened = cls(config, task, device, samples, embeddings, encoder)
        opened.notes, opened.embedded = notes, embeddings.table
        return opened

    def split(self, batch: Batch, num_rows: int) -> list[Batch]:
        """Split into parts of texts of similar length, each cut to its longest: captions vary from 3 tokens to 77."""
        if "text_length" not in batch.tensors:
            return batch.split(num_rows)
        lengths = batch["text_length"]
        num_parts = max(-(-len(batch) // num_rows), min(NUM_GROUPS, len(batch)))
        padded = {"text_ids", "text_hidden", "text_mask"} & batch.tensors.keys()
        parts = []
        for rows in lengths.argsort(stable=True).tensor_split(num_parts):
            part, longest = batch.rows(rows), int(lengths[rows].max())
            parts.append(Batch({**part.tensors, **{name: part[name][:, :longest] for name in padded}}))
        return parts

    def x0(self, batch: Batch) -> Tensor:
        mean, std = self.embeddings.mean.to(self.device), self.embeddings.std.to(self.device)
        return (self._image_embedding(batch) - mean) / std

    def conditioning(self, batch: Batch) -> dict[str, Tensor | None]:
        text = text_features(batch, self.encoder)
        hidden = {"text_hidden": text.hidden, "text_mask": text.mask} if self.task.model.num_text_tokens else {}
        return {"text_embedding": text.embedding, **hidden}

    def _image_embedding(self, batch: Batch) -> Tensor:
        if "image_embedding" in batch.tensors:
            return batch["image_embedding"]
        assert self.encoder is not None, "pixels need a CLIP that embeds them"
        with clip_precision(self.device):
            return self.encoder.encode_image(from_uint8(batch["pixels"]))

    def draw(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return the embeddings of texts and pictures, and those sampled for the texts."""
        stage, text = PriorStage(cast(Prior, network), SAMPLING), text_features(batch, self.encoder)
        # Guidance is off, so the features of the empty prompt are never read.
        denoiser = stage.denoiser(text, text, SAMPLING)
        x_0 = run_to_end(sample_steps(denoiser, stage.schedule, SAMPLING, lambda: batch["noise"]))
        predicted = stage.finish(x_0, text)
        return {"text": text.embedding, "image": self._image_embedding(batch), "predicted": predicted}

    def figures(self, rows: Mapping[str, Tensor]) -> dict[str, float]:
        """Compute cosines of texts, predictions and pictures, and how often a prediction finds its picture."""
        return cosine_figures(rows["text"], rows["image"], rows["predicted"])


def _stored_texts(stored: EmbeddingSet, task: PriorTaskConfig, tokens: Tokens) -> TextReader:
    """Choose stored features of texts if they hold all that the prior reads, else captions: encoding them is cheap."""
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
class PriorSamples:
    """Pairs of text and image embedding: of pictures, or of embedding shards without any picture."""

    source: PictureSet | EmbeddingSet
    embeddings: ImageEmbeddings | None
    """If None, CLIP embeds the pixels of each batch in the loss."""
    texts: TextReader
    task: PriorTaskConfig
    image_size: int = 0
    """Pixels of a side that CLIP reads."""

    def __call__(self, request: Request) -> Batch:
        tensors: dict[str, Tensor] = {}
        if isinstance(self.source, EmbeddingSet):
            indices, skipped = next_valid(self.source, request.indices)
            # Stored features are chosen by number alone, and not every layout holds the texts.
            captions = [
                self.source.captions(index) if isinstance(self.texts, Tokens) else [""] * self.source.num_texts(index)
                for index in indices.tolist()
            ]
        else:
            items, indices, skipped = read_items(self.source, request.indices)
            captions = [list(item.captions) for item in items]
            if self.embeddings is None:
                tensors["pixels"] = stack_pixels(items, self.image_size)
        if self.embeddings is not None:
            tensors["image_embedding"] = self.embeddings(indices)
        tensors |= self.texts(indices.tolist(), captions, choose_captions(captions, request, self.task.text_drop_prob))
        return Batch({**tensors, **draw_step(request, self.task, (self.task.model.embedding_dim,))}, skipped)
