"""Embed a data set with CLIP, shard by shard."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import accumulate, chain, groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float16
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from unclip.clip import ClipConfig, TextImageEncoder, clip_hash
from unclip.data.embedding_shards import (
    EmbeddedShard,
    ShardHeader,
    TextRow,
    embedding_files,
    read_header,
    read_keys,
    write_embedding_shard,
    write_statistics,
)
from unclip.data.pixels import decode_picture
from unclip.data.shard_set import ShardSet
from unclip.errors import DataError, InputError
from unclip.images import crop_square, from_pil, from_uint8, resize
from unclip.runtime import autocast, inference_dtype
from unclip.shapes import Images


class PictureBatch(NamedTuple):
    """Neighbouring samples of one shard."""

    shard: int
    keys: Sequence[str]
    captions: Sequence[Sequence[str]]
    damaged: Mapping[str, str]
    """Keys of samples that could not be read, and why."""
    pixels: Tensor
    """Pictures that could be read, uint8 (count, size, size, 3) or float32 (count, 3, size, size) in [-1, 1]."""


class PictureBatches(Dataset[PictureBatch]):
    """Batches of chosen shards, none of which spans two: a shard's features do not depend on the others."""

    def __init__(self, shards: ShardSet, chosen: Sequence[int], batch_size: int, config: ClipConfig) -> None:
        starts = np.cumsum([0, *shards.shard_sizes])
        self._shards, self._config = shards, config
        self._batches = [
            (shard, range(first, min(first + batch_size, int(starts[shard + 1]))))
            for shard in chosen
            for first in range(int(starts[shard]), int(starts[shard + 1]), batch_size)
        ]

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: int) -> PictureBatch:
        """Read and decode one batch."""
        shard, indices = self._batches[number]
        captions: list[Sequence[str]] = []
        damaged, pixels = {}, []
        for index in indices:
            captions.append(())
            try:
                sample = self._shards.sample(index)
                captions[-1] = sample.captions
                pixels.append(_prepared(decode_picture(sample.picture), self._config))
            except DataError as error:
                damaged[self._shards.keys[index]] = str(error)
        keys = [self._shards.keys[index] for index in indices]
        return PictureBatch(shard, keys, captions, damaged, torch.stack(pixels) if pixels else torch.empty(0))


def read_pictures(
    shards: ShardSet, chosen: Sequence[int], batch_size: int, config: ClipConfig, num_workers: int, pin_memory: bool
) -> Iterator[PictureBatch]:
    """The batches of chosen shards, in order, decoded ahead by `num_workers` processes."""
    batches = PictureBatches(shards, chosen, batch_size, config)
    loader: DataLoader[PictureBatch] = DataLoader(
        batches, batch_size=None, collate_fn=_unchanged, num_workers=num_workers, pin_memory=pin_memory
    )
    yield from loader


def to_pixels(pixels: Tensor, device: torch.device) -> Images:
    """What `PictureBatch.pixels` holds as float32 in [-1, 1] on `device`."""
    if pixels.dtype == torch.uint8 and device.type == "cpu":
        return from_uint8(pixels.numpy())
    pixels = pixels.to(device, non_blocking=True)
    return pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0) if pixels.dtype == torch.uint8 else pixels


# As `TextImageEncoder.encode_pictures` does it, to the bit. Cropped pictures travel as bytes, a quarter of the size.
def _prepared(picture: Image.Image, config: ClipConfig) -> Tensor:
    if config.resize == "crop":
        return torch.from_numpy(np.array(crop_square(picture, config.image_size)))
    return resize(from_pil([picture]), config.image_size)[0]


def _unchanged(batch: Any) -> Any:
    return batch


BATCH_SIZE = 256
NUM_WORKERS = 1
SUFFIX = ".safetensors"
Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class EmbedOptions:
    """How features are computed; see `embed`."""

    hidden: bool = False
    batch_size: int = BATCH_SIZE
    """Pictures, or texts, that go through a tower together."""
    dtype: torch.dtype | None = None
    num_workers: int = NUM_WORKERS

    def __post_init__(self) -> None:
        """Raise `InputError` for a batch of no pictures or less than no process."""
        if self.batch_size < 1 or self.num_workers < 0:
            raise InputError(
                f"batch_size={self.batch_size}, num_workers={self.num_workers}: use at least 1 picture and 0 processes."
            )


@dataclass(frozen=True, kw_only=True)
class EmbedReport:
    """What `embed` did and found."""

    out: Path
    num_samples: int
    """Samples whose features were computed now."""
    num_shards: int
    """Shards that were computed now."""
    damaged: dict[str, str]
    """Keys of all samples in `out` without an image embedding, and why."""
    finished: bool
    """Whether features of all shards are there, with their statistics; else other machines still work on theirs."""


class Texts(NamedTuple):
    """Features of captions, on the CPU."""

    embedding: Float16[Tensor, "texts dim"]
    hidden: list[Tensor]
    """(tokens, width) of each, float16."""


def embed(
    shards: ShardSet | str | Path,
    clip: TextImageEncoder,
    out: str | Path,
    *,
    hidden: bool = False,
    batch_size: int = BATCH_SIZE,
    num_workers: int = NUM_WORKERS,
    dtype: torch.dtype | None = None,
    node: tuple[int, int] = (0, 1),
    progress: Progress | None = None,
) -> EmbedReport:
    """Compute CLIP's features of the pictures and captions of .tar shards into the folder `out`, where CLIP is.

    Each `name.tar` becomes `name.safetensors`, whole or not at all; those that are there already stay, so that the same
    call goes on where another one stopped. `hidden` keeps the states of the captions' tokens too. `num_workers`
    processes decode pictures ahead of the tower, which makes them square as `encode_pictures` does. `dtype` is that of
    autocast, by default bfloat16 where the device multiplies it natively. `node` (i, n) takes every n-th shard from the
    i-th on: n machines that share `out` divide the work. A sample that cannot be read keeps its row, marked as such.
    `progress` is called with (samples done, all of them). Raises `DataError` where `out` is of another CLIP.
    """
    options = EmbedOptions(hidden=hidden, batch_size=batch_size, dtype=dtype, num_workers=num_workers)
    shards, out, (first, step) = ShardSet.open(shards) if isinstance(shards, str | Path) else shards, Path(out), node
    if not 0 <= first < step:
        raise InputError(f"node={first}/{step} is no share of the work; use 0/{step} to {step - 1}/{step}.")
    model_hash = clip_hash(clip)
    missing = missing_shards(shards, out, model_hash, hidden)
    chosen = [shard for shard in missing if shard % step == first]
    done, total = 0, sum(shards.shard_sizes[shard] for shard in chosen)
    for count in embed_shards(shards, chosen, clip, out, model_hash, options):
        done += count
        if progress is not None:
            progress(done, total)
    return finish(shards, out, clip, options, chosen)


def missing_shards(shards: ShardSet, out: Path, model_hash: str, hidden: bool) -> list[int]:
    """The shards without features in `out`; raises `DataError` where it holds those of another model.

    Features of other keys, as of a shard that was written again, count as missing.
    """
    for path in embedding_files(out):
        _require_same(path, read_header(path), model_hash, hidden)
    missing = []
    for shard, last in enumerate(accumulate(shards.shard_sizes)):
        path = output_path(shards, shard, out)
        keys = list(shards.keys[last - shards.shard_sizes[shard] : last])
        if not path.exists() or read_keys(path) != keys:
            missing.append(shard)
    return missing


def embed_shards(
    shards: ShardSet,
    chosen: Sequence[int],
    clip: TextImageEncoder,
    out: Path,
    model_hash: str,
    options: EmbedOptions,
) -> Iterator[int]:
    """Compute and write the features of chosen shards; yields the number of samples after each batch."""
    config = clip.clip.config
    pin_memory = clip.device.type == "cuda"
    batches = read_pictures(shards, chosen, options.batch_size, config, options.num_workers, pin_memory)
    for shard, group in groupby(batches, key=lambda batch: batch.shard):
        seen: list[PictureBatch] = []
        embeddings: list[Tensor] = []
        for batch in group:
            embeddings.append(_image_embeddings(clip, batch, options))
            seen.append(batch._replace(pixels=torch.empty(0)))
            yield len(batch.keys)
        result = _assembled(clip, seen, torch.cat(embeddings).cpu(), model_hash, options)
        write_embedding_shard(output_path(shards, shard, out), result)


def finish(
    shards: ShardSet, out: Path, clip: TextImageEncoder, options: EmbedOptions, computed: Sequence[int]
) -> EmbedReport:
    """Write the statistics once the features of all shards are there; the report says what was done."""
    finished = all(output_path(shards, shard, out).exists() for shard in range(len(shards.shard_names)))
    if finished:
        empty = _text_features(clip, [""], options)
        hidden = empty.hidden[0].float() if options.hidden else None
        write_statistics(out, TextRow(empty.embedding[0].float(), hidden))
    damaged = [read_header(path).damaged for path in embedding_files(out)]
    return EmbedReport(
        out=out,
        num_samples=sum(shards.shard_sizes[shard] for shard in computed),
        num_shards=len(computed),
        damaged={key: reason for found in damaged for key, reason in found.items()},
        finished=finished,
    )


def output_path(shards: ShardSet, shard: int, out: Path) -> Path:
    """The file of a shard's features."""
    return out / f"{shards.shard_stem(shard)}{SUFFIX}"


@torch.inference_mode()
def _image_embeddings(clip: TextImageEncoder, batch: PictureBatch, options: EmbedOptions) -> Tensor:
    """(samples, dim) float16 where CLIP is; zero where a picture could not be read, or CLIP made no finite numbers."""
    embeddings = torch.zeros(len(batch.keys), clip.embedding_dim, dtype=torch.float16, device=clip.device)
    if len(batch.pixels):
        rows = torch.tensor([row for row, key in enumerate(batch.keys) if key not in batch.damaged])
        with _precision(clip, options):
            found = clip.encode_image(to_pixels(batch.pixels, clip.device))
        embeddings[rows.to(clip.device, non_blocking=True)] = found.half()
    return embeddings


def _assembled(
    clip: TextImageEncoder, batches: Sequence[PictureBatch], images: Tensor, model_hash: str, options: EmbedOptions
) -> EmbeddedShard:
    """One shard's features of all its batches."""
    captions = list(chain.from_iterable(batch.captions for batch in batches))
    keys = list(chain.from_iterable(batch.keys for batch in batches))
    damaged = {key: reason for batch in batches for key, reason in batch.damaged.items()}
    finite = images.isfinite().all(dim=1).tolist()
    damaged |= {
        key: "CLIP's embedding is not finite in float16" for key, ok in zip(keys, finite, strict=True) if not ok
    }
    texts = _text_features(clip, list(chain.from_iterable(captions)), options)
    width = clip.clip.config.text_width
    return EmbeddedShard(
        keys=keys,
        captions=captions,
        damaged=damaged,
        image_embedding=images,
        text_embedding=texts.embedding,
        text_hidden=_joined(texts.hidden, width) if options.hidden else None,
        num_tokens=[len(hidden) for hidden in texts.hidden],
        model_hash=model_hash,
        text_length=clip.clip.config.context_length,
    )


@torch.inference_mode()
def _text_features(clip: TextImageEncoder, texts: Sequence[str], options: EmbedOptions) -> Texts:
    """Features of texts, each different one computed once, together with others of its length."""
    unique = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    ids, mask, _ = clip.tokenizer.encode(list(unique), clip.clip.config.context_length)
    lengths = mask.sum(dim=1)
    embedding = torch.empty(len(unique), clip.embedding_dim, dtype=torch.float16)
    hidden: dict[int, Tensor] = {}
    groups = lengths.argsort(stable=True).split(options.batch_size) if unique else ()
    for rows in groups:
        # A causal tower says the same of a text whatever the padding after it.
        shown = ids[rows, : int(lengths[rows].max())].to(clip.device)
        with _precision(clip, options):
            features = clip.clip.encode_tokens(shown)
        embedding[rows] = features.embedding.half().cpu()
        if options.hidden:
            states = features.hidden.half().cpu()
            hidden |= {int(row): state[: lengths[row]].clone() for row, state in zip(rows, states, strict=True)}
    order = [unique[text] for text in texts]
    return Texts(embedding[order], [hidden[row] for row in order] if options.hidden else [])


def _joined(states: Sequence[Tensor], width: int) -> Tensor:
    return torch.cat([torch.empty(0, width, dtype=torch.float16), *states])


def _precision(clip: TextImageEncoder, options: EmbedOptions) -> AbstractContextManager[object]:
    return autocast(clip.device, options.dtype or inference_dtype(clip.device))


def _require_same(path: Path, header: ShardHeader, model_hash: str, hidden: bool) -> None:
    if header.model_hash != model_hash:
        raise DataError(
            f"{path} was made by the CLIP {header.model_hash[:12]}, but this one is {model_hash[:12]}; "
            "give the CLIP it was made by, or another folder."
        )
    if (header.text_dim > 0) != hidden:
        found, fix = ("with", "add") if header.text_dim else ("without", "leave out")
        raise DataError(f"{path} was made {found} hidden states of texts; {fix} --hidden, or give another folder.")
