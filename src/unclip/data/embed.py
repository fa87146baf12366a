"""Compute CLIP's features of a data set, shard by shard."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import accumulate, chain, groupby, pairwise
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from unclip.clip import ClipConfig, TextImageEncoder, clip_hash
from unclip.data.embedding_shards import (
    EmbeddedShard,
    TextRow,
    embedding_files,
    read_header,
    read_keys,
    write_embedding_shard,
    write_statistics,
)
from unclip.data.pictures import decode_picture
from unclip.data.shard_set import ShardSet
from unclip.data.store import tar_stem
from unclip.errors import DataError, InputError
from unclip.images import crop_square, from_pil, from_uint8, resize
from unclip.progress import Progress
from unclip.shapes import Images

BATCH_SIZE = 256


@dataclass(frozen=True, kw_only=True)
class EmbedOptions:
    """Settings of `embed`."""

    hidden: bool = False
    batch_size: int = BATCH_SIZE
    """Pictures, or texts, that go through a tower together."""
    num_workers: int = 1

    def __post_init__(self) -> None:
        """Raise `InputError` for an empty batch or a negative number of processes."""
        if self.batch_size < 1 or self.num_workers < 0:
            raise InputError(
                f"batch_size={self.batch_size}, num_workers={self.num_workers}: use at least 1 picture and 0 processes."
            )


@dataclass(frozen=True, kw_only=True)
class EmbedReport:
    """Report of `embed`."""

    out: Path
    num_samples: int
    """Samples whose features were computed now."""
    num_shards: int
    """Shards that were computed now."""
    damaged: dict[str, str]
    """Keys of all samples in `out` without an image embedding, and why."""
    finished: bool
    """Whether features of all shards exist, with their statistics; else other machines still compute theirs."""


def embed(
    shards: ShardSet | str | Path,
    clip: TextImageEncoder,
    out: str | Path,
    *,
    hidden: bool = False,
    batch_size: int = BATCH_SIZE,
    num_workers: int = 1,
    node: tuple[int, int] = (0, 1),
    progress: Progress | None = None,
) -> EmbedReport:
    """Compute CLIP's features of the pictures and captions of .tar shards into the folder `out`.

    Each `name.tar` becomes `name.safetensors`, whole or not at all; existing ones stay, so that the same call resumes
    an interrupted one. `hidden` keeps the states of the captions' tokens too. CLIP computes where it is and in its own
    number format (float32 or better), and features are rounded to float16. `num_workers` processes decode pictures
    ahead of the tower, and make them square as `encode_pictures` does. `node` (i, n) takes every n-th shard from the
    i-th on: n machines that share `out` divide the work. A sample that cannot be read keeps its row, marked as damaged.
    `progress` is called with (samples done, all samples). Raises `DataError` if `out` holds features of another CLIP.
    """
    options, (first, step) = EmbedOptions(hidden=hidden, batch_size=batch_size, num_workers=num_workers), node
    shards = ShardSet.open(shards) if isinstance(shards, str | Path) else shards
    if not 0 <= first < step:
        raise InputError(f"node={first}/{step} is no share of the work; use 0/{step} to {step - 1}/{step}.")
    embedder = ShardEmbedder(shards, clip, Path(out), options)
    chosen = [shard for shard in embedder.missing() if shard % step == first]
    return embedder.finish(chosen, embedder.compute(chosen), progress)


@dataclass(frozen=True)
class ShardEmbedder:
    """Computes the features of shards by one CLIP into one folder; see `embed`."""

    shards: ShardSet
    clip: TextImageEncoder
    out: Path
    options: EmbedOptions

    @cached_property
    def model_hash(self) -> str:
        return clip_hash(self.clip)

    def path(self, shard: int) -> Path:
        """Return the file of a shard's features, named by its folders and itself."""
        return self.out / f"{tar_stem(self.shards.shard_names[shard]).replace('/', '-')}.safetensors"

    def missing(self) -> list[int]:
        """List the shards without features of their present keys; raises `DataError` for features of another model."""
        for path in embedding_files(self.out):
            header = read_header(path)
            if header.model_hash != self.model_hash:
                raise DataError(
                    f"{path} was made by the CLIP {header.model_hash[:12]}, but this one is {self.model_hash[:12]}; "
                    "give the CLIP that made it, or another folder."
                )
            if (header.text_dim > 0) != self.options.hidden:
                state, fix = ("with", "add") if header.text_dim else ("without", "leave out")
                raise DataError(
                    f"{path} was made {state} hidden states of texts; {fix} --hidden, or give another folder."
                )
        ends = list(accumulate(self.shards.shard_sizes, initial=0))
        return [
            shard
            for shard, (start, end) in enumerate(pairwise(ends))
            if not self.path(shard).exists() or read_keys(self.path(shard)) != list(self.shards.keys[start:end])
        ]

    def compute(self, chosen: Sequence[int]) -> Iterator[int]:
        """Compute and write the features of chosen shards; yields the number of samples after each batch."""
        config, options = self.clip.clip.config, self.options
        pin_memory = self.clip.device.type == "cuda"
        pictures = read_pictures(self.shards, chosen, options.batch_size, config, options.num_workers, pin_memory)
        for shard, group in groupby(pictures, key=lambda batch: batch.shard):
            batches: list[ShardBatch] = []
            embeddings: list[Tensor] = []
            for batch in group:
                embeddings.append(self._image_embeddings(batch))
                batches.append(batch._replace(pixels=torch.empty(0)))
                yield len(batch.keys)
            images = torch.cat(embeddings).cpu()
            keys = [key for batch in batches for key in batch.keys]
            captions = [texts for batch in batches for texts in batch.captions]
            damaged = {key: reason for batch in batches for key, reason in batch.damaged.items()}
            for key, is_finite in zip(keys, images.isfinite().all(dim=1).tolist(), strict=True):
                if not is_finite:
                    damaged[key] = "CLIP's embedding is not finite in float16"
            embedding, hidden, num_tokens = self._text_features(list(chain.from_iterable(captions)))
            features = EmbeddedShard(
                keys=keys,
                captions=captions,
                damaged=damaged,
                image_embedding=images,
                text_embedding=embedding,
                text_hidden=hidden,
                num_tokens=num_tokens,
                model_hash=self.model_hash,
                text_length=config.context_length,
            )
            write_embedding_shard(self.path(shard), features)

    def finish(self, chosen: Sequence[int], counts: Iterable[int], progress: Progress | None) -> EmbedReport:
        """Wait for `counts`, the computed samples of chosen shards; write the statistics if no shard is missing."""
        total = sum(self.shards.shard_sizes[shard] for shard in chosen)
        for done in accumulate(counts):
            if progress is not None:
                progress(done, total)
        finished = all(self.path(shard).exists() for shard in range(len(self.shards.shard_names)))
        if finished:
            [embedding], hidden, _ = self._text_features([""])
            write_statistics(self.out, TextRow(embedding.float(), None if hidden is None else hidden.float()))
        damaged = [read_header(path).damaged for path in embedding_files(self.out)]
        return EmbedReport(
            out=self.out,
            num_samples=total,
            num_shards=len(chosen),
            damaged={key: reason for reasons in damaged for key, reason in reasons.items()},
            finished=finished,
        )

    @torch.inference_mode()
    def _image_embeddings(self, batch: "ShardBatch") -> Tensor:
        """Compute (samples, dim) float16 on CLIP's device; zero for a picture that could not be read."""
        embeddings = torch.zeros(len(batch.keys), self.clip.embedding_dim, dtype=torch.float16, device=self.clip.device)
        if len(batch.pixels):
            rows = torch.tensor([row for row, key in enumerate(batch.keys) if key not in batch.damaged])
            computed = self.clip.encode_image(to_pixels(batch.pixels, self.clip.device))
            embeddings[rows.to(self.clip.device, non_blocking=True)] = computed.half()
        return embeddings

    @torch.inference_mode()
    def _text_features(self, texts: Sequence[str]) -> tuple[Tensor, Tensor | None, list[int]]:
        """Compute the embeddings of texts, and with `hidden` the states of their tokens, and how many each text has."""
        # Each different text once, together with others of its length.
        unique = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        ids, mask, _ = self.clip.tokenizer.encode(list(unique), self.clip.clip.config.context_length)
        lengths = mask.sum(dim=1)
        embedding = torch.empty(len(unique), self.clip.embedding_dim, dtype=torch.float16)
        hidden: dict[int, Tensor] = {}
        for rows in lengths.argsort(stable=True).split(self.options.batch_size) if unique else ():
            # A causal tower computes the same for a text whatever the padding after it.
            trimmed = ids[rows, : int(lengths[rows].max())].to(self.clip.device)
            features = self.clip.clip.encode_tokens(trimmed, self.clip.compute_dtype)
            embedding[rows] = features.embedding.half().cpu()
            if self.options.hidden:
                states = features.hidden.half().cpu()
                hidden |= {int(row): state[: lengths[row]].clone() for row, state in zip(rows, states, strict=True)}
        order = [unique[text] for text in texts]
        if not self.options.hidden:
            return embedding[order], None, []
        states = torch.empty(0, self.clip.clip.config.text_width, dtype=torch.float16)
        return (
            embedding[order],
            torch.cat([states, *(hidden[row] for row in order)]),
            [len(hidden[row]) for row in order],
        )


class ShardBatch(NamedTuple):
    """Neighbouring samples of one shard."""

    shard: int
    keys: Sequence[str]
    captions: Sequence[Sequence[str]]
    damaged: Mapping[str, str]
    """Keys of samples that could not be read, and why."""
    pixels: Tensor
    """The readable pictures, uint8 (count, size, size, 3) or float32 (count, 3, size, size) in [-1, 1]."""


def read_pictures(
    shards: ShardSet, chosen: Sequence[int], batch_size: int, config: ClipConfig, num_workers: int, pin_memory: bool
) -> Iterator[ShardBatch]:
    """Yield the batches of chosen shards, in order, decoded ahead by `num_workers` processes."""
    ends = list(accumulate(shards.shard_sizes))
    # No batch spans two shards: a shard's features do not depend on the others.
    batches = [
        (shard, range(first, min(first + batch_size, ends[shard])))
        for shard in chosen
        for first in range(ends[shard] - shards.shard_sizes[shard], ends[shard], batch_size)
    ]
    dataset, read = cast("Dataset[Any]", batches), partial(_read_batch, shards, config)
    loader: DataLoader[ShardBatch] = DataLoader(
        dataset, batch_size=None, collate_fn=read, num_workers=num_workers, pin_memory=pin_memory
    )
    return iter(loader)


def _read_batch(shards: ShardSet, config: ClipConfig, batch: tuple[int, range]) -> ShardBatch:
    shard, indices = batch
    captions: list[Sequence[str]] = []
    damaged, pixels = {}, []
    for index in indices:
        captions.append(())
        try:
            sample = shards.sample(index)
            captions[-1] = sample.captions
            picture = decode_picture(sample.picture)
            # As `TextImageEncoder.encode_pictures` does it, to the bit; cropped pictures travel as bytes, a quarter.
            if config.resize == "crop":
                pixels.append(torch.from_numpy(np.array(crop_square(picture, config.image_size))))
            else:
                pixels.append(resize(from_pil([picture]), config.image_size)[0])
        except DataError as error:
            damaged[shards.keys[index]] = str(error)
    keys = [shards.keys[index] for index in indices]
    return ShardBatch(shard, keys, captions, damaged, torch.stack(pixels) if pixels else torch.empty(0))


def to_pixels(pixels: Tensor, device: torch.device) -> Images:
    """Convert `ShardBatch.pixels` to float32 in [-1, 1] on `device`."""
    pixels = pixels.to(device, non_blocking=True)
    return from_uint8(pixels) if pixels.dtype == torch.uint8 else pixels
