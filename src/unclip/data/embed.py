"""Compute CLIP's features of a data set, shard by shard."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, chain, groupby
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
    options = EmbedOptions(hidden=hidden, batch_size=batch_size, num_workers=num_workers)
    shards, out, (first, step) = ShardSet.open(shards) if isinstance(shards, str | Path) else shards, Path(out), node
    if not 0 <= first < step:
        raise InputError(f"node={first}/{step} is no share of the work; use 0/{step} to {step - 1}/{step}.")
    model_hash = clip_hash(clip)
    chosen = [shard for shard in missing_shards(shards, out, model_hash, hidden) if shard % step == first]
    counts = embed_shards(shards, chosen, clip, out, model_hash, options)
    return complete(shards, chosen, counts, clip, out, options, progress)


def missing_shards(shards: ShardSet, out: Path, model_hash: str, hidden: bool) -> list[int]:
    """List the shards without features in `out`; raises `DataError` if it holds features of another model.

    Features of other keys, as of a shard that was written again, count as missing.
    """
    for path in embedding_files(out):
        header = read_header(path)
        if header.model_hash != model_hash:
            raise DataError(
                f"{path} was made by the CLIP {header.model_hash[:12]}, but this one is {model_hash[:12]}; "
                "give the CLIP that made it, or another folder."
            )
        if (header.text_dim > 0) != hidden:
            state, fix = ("with", "add") if header.text_dim else ("without", "leave out")
            raise DataError(f"{path} was made {state} hidden states of texts; {fix} --hidden, or give another folder.")
    missing = []
    for shard, end in enumerate(accumulate(shards.shard_sizes)):
        path = output_path(shards, shard, out)
        if not path.exists() or read_keys(path) != list(shards.keys[end - shards.shard_sizes[shard] : end]):
            missing.append(shard)
    return missing


def embed_shards(
    shards: ShardSet, chosen: Sequence[int], clip: TextImageEncoder, out: Path, model_hash: str, options: EmbedOptions
) -> Iterator[int]:
    """Compute and write the features of chosen shards; yields the number of samples after each batch."""
    pin_memory = clip.device.type == "cuda"
    batches = read_pictures(shards, chosen, options.batch_size, clip.clip.config, options.num_workers, pin_memory)
    for shard, group in groupby(batches, key=lambda batch: batch.shard):
        done: list[PictureBatch] = []
        embeddings: list[Tensor] = []
        for batch in group:
            embeddings.append(_image_embeddings(clip, batch))
            done.append(batch._replace(pixels=torch.empty(0)))
            yield len(batch.keys)
        images = torch.cat(embeddings).cpu()
        keys = [key for batch in done for key in batch.keys]
        captions = [texts for batch in done for texts in batch.captions]
        damaged = {key: reason for batch in done for key, reason in batch.damaged.items()}
        for key, is_finite in zip(keys, images.isfinite().all(dim=1).tolist(), strict=True):
            if not is_finite:
                damaged[key] = "CLIP's embedding is not finite in float16"
        embedding, states, num_tokens = _text_features(clip, list(chain.from_iterable(captions)), options)
        features = EmbeddedShard(
            keys=keys,
            captions=captions,
            damaged=damaged,
            image_embedding=images,
            text_embedding=embedding,
            text_hidden=states,
            num_tokens=num_tokens,
            model_hash=model_hash,
            text_length=clip.clip.config.context_length,
        )
        write_embedding_shard(output_path(shards, shard, out), features)


def complete(
    shards: ShardSet,
    chosen: Sequence[int],
    counts: Iterator[int],
    clip: TextImageEncoder,
    out: Path,
    options: EmbedOptions,
    progress: Progress | None,
) -> EmbedReport:
    """Wait for the chosen shards, whose `counts` of samples add up; write the statistics once all shards have features.

    Reports on what was computed.
    """
    total = sum(shards.shard_sizes[shard] for shard in chosen)
    for done in accumulate(counts):
        if progress is not None:
            progress(done, total)
    finished = all(output_path(shards, shard, out).exists() for shard in range(len(shards.shard_names)))
    if finished:
        [embedding], hidden, _ = _text_features(clip, [""], options)
        write_statistics(out, TextRow(embedding.float(), None if hidden is None else hidden.float()))
    damaged = [read_header(path).damaged for path in embedding_files(out)]
    return EmbedReport(
        out=out,
        num_samples=total,
        num_shards=len(chosen),
        damaged={key: reason for reasons in damaged for key, reason in reasons.items()},
        finished=finished,
    )


def output_path(shards: ShardSet, shard: int, out: Path) -> Path:
    """Return the file of a shard's features."""
    return out / f"{shards.shard_stem(shard)}.safetensors"


class PictureBatch(NamedTuple):
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
) -> Iterator[PictureBatch]:
    """Yield the batches of chosen shards, in order, decoded ahead by `num_workers` processes."""
    ends = list(accumulate(shards.shard_sizes))
    # No batch spans two shards: a shard's features do not depend on the others.
    batches = [
        (shard, range(first, min(first + batch_size, ends[shard])))
        for shard in chosen
        for first in range(ends[shard] - shards.shard_sizes[shard], ends[shard], batch_size)
    ]
    dataset, read = cast("Dataset[Any]", batches), partial(_read_batch, shards, config)
    loader: DataLoader[PictureBatch] = DataLoader(
        dataset, batch_size=None, collate_fn=read, num_workers=num_workers, pin_memory=pin_memory
    )
    return iter(loader)


def _read_batch(shards: ShardSet, config: ClipConfig, batch: tuple[int, range]) -> PictureBatch:
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
    return PictureBatch(shard, keys, captions, damaged, torch.stack(pixels) if pixels else torch.empty(0))


def to_pixels(pixels: Tensor, device: torch.device) -> Images:
    """Convert `PictureBatch.pixels` to float32 in [-1, 1] on `device`."""
    pixels = pixels.to(device, non_blocking=True)
    return from_uint8(pixels) if pixels.dtype == torch.uint8 else pixels


@torch.inference_mode()
def _image_embeddings(clip: TextImageEncoder, batch: PictureBatch) -> Tensor:
    """Compute (samples, dim) float16 on CLIP's device; zero for a picture that could not be read."""
    embeddings = torch.zeros(len(batch.keys), clip.embedding_dim, dtype=torch.float16, device=clip.device)
    if len(batch.pixels):
        rows = torch.tensor([row for row, key in enumerate(batch.keys) if key not in batch.damaged])
        computed = clip.encode_image(to_pixels(batch.pixels, clip.device))
        embeddings[rows.to(clip.device, non_blocking=True)] = computed.half()
    return embeddings


@torch.inference_mode()
def _text_features(
    clip: TextImageEncoder, texts: Sequence[str], options: EmbedOptions
) -> tuple[Tensor, Tensor | None, list[int]]:
    """Compute the embeddings of texts, and with `hidden` the states of all their tokens and each text's number.

    Each different text is computed once, together with others of its length.
    """
    unique = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    ids, mask, _ = clip.tokenizer.encode(list(unique), clip.clip.config.context_length)
    lengths = mask.sum(dim=1)
    embedding = torch.empty(len(unique), clip.embedding_dim, dtype=torch.float16)
    hidden: dict[int, Tensor] = {}
    for rows in lengths.argsort(stable=True).split(options.batch_size) if unique else ():
        # A causal tower computes the same for a text whatever the padding after it.
        trimmed = ids[rows, : int(lengths[rows].max())].to(clip.device)
        features = clip.clip.encode_tokens(trimmed, clip.compute_dtype)
        embedding[rows] = features.embedding.half().cpu()
        if options.hidden:
            states = features.hidden.half().cpu()
            hidden |= {int(row): state[: lengths[row]].clone() for row, state in zip(rows, states, strict=True)}
    order = [unique[text] for text in texts]
    if not options.hidden:
        return embedding[order], None, []
    states = torch.empty(0, clip.clip.config.text_width, dtype=torch.float16)
    return embedding[order], torch.cat([states, *(hidden[row] for row in order)]), [len(hidden[row]) for row in order]
