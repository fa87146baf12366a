"""Contrastive training of CLIP on pictures and captions."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Int64
from torch import Tensor, nn

from unclip.checkpoint import LazyTensor
from unclip.clip import Clip, Tokenizer, contrastive_loss, save_encoder
from unclip.clip.model import MAX_LOGIT_SCALE, normal_parameter
from unclip.data import PictureSet, cache_beside, read_groups
from unclip.images import from_uint8, resize
from unclip.model.assemble import open_part
from unclip.runtime import forked_random_state
from unclip.training.config import ClipTaskConfig, TrainConfig
from unclip.training.distributed import unwrap
from unclip.training.task import Batch, Gather, Request, Task, TaskLoss
from unclip.training.tasks.phrases import Classes, Phrases
from unclip.training.tasks.samples import (
    TextReader,
    Tokens,
    caption_notes,
    choose_captions,
    load_pictures,
    read_items,
    stack_pixels,
)

VOCABULARY_SAMPLES = 200_000
"""Samples whose captions the vocabulary is learned from."""


class ClipTask(Task):
    """Learns both towers; the vocabulary is learned from the captions, and the phrases, first."""

    def __init__(
        self,
        task: ClipTaskConfig,
        seed: int,
        samples: "ClipSamples",
        tokenizer: Tokenizer | None,
        num_classes: int = 0,
    ) -> None:
        """Take the `tokenizer` that made the ids of `samples`; it is exported with the network."""
        self.task, self.seed, self.samples, self.tokenizer = task, seed, samples, tokenizer
        self.num_classes = num_classes

    @classmethod
    def open(cls, config: TrainConfig, task: ClipTaskConfig) -> "ClipTask":
        """Open the task on the data that `config` names."""
        pictures = load_pictures(config.data, task.model.image_size)
        notes = caption_notes(pictures, config.data.folder)
        groups, classes, phrases = None, None, None
        if task.positives:
            groups = torch.from_numpy(read_groups(config.data.folder, task.positives, pictures.keys, "task.positives"))
        if task.classes:
            values = read_groups(config.data.folder, task.classes, pictures.keys, "task.classes")
            classes = Classes.read(config.data, task, pictures, values)
            if task.teacher is not None:
                phrases = Phrases.open(task, task.teacher, classes, cache_beside(config.data.folder))
        count = min(len(pictures), VOCABULARY_SAMPLES)
        texts = [caption for index in range(count) for caption in pictures.captions(index)]
        if config.init is None:
            tokenizer = Tokenizer.train([*texts, *(phrases.texts if phrases else ())], task.model.vocab_size)
        else:
            tokenizer = _tokenizer(config.init)
        tokens = Tokens(tokenizer, task.model.context_length)
        samples = ClipSamples(pictures, tokens, task, groups, None if classes is None else classes.of_sample, phrases)
        opened = cls(task, config.seed, samples, tokenizer, 0 if classes is None else len(classes.names))
        opened.notes = notes
        return opened

    def build(self) -> nn.Module:
        with forked_random_state(self.seed):
            clip = Clip(self.task.model)
            return ClassifyingClip(clip, self.num_classes) if self.num_classes else clip

    def exported(self, network: nn.Module) -> nn.Module:
        return network.get_submodule("clip") if self.num_classes else network

    def forward(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        names = [name for name in ("text", PHRASE) if f"{name}_ids" in batch.tensors]
        ids = [batch[f"{name}_ids"][:, : int(batch[f"{name}_length"].max())] for name in names]
        names = ["image", *names]
        outputs = [*names, *(f"{name}_logits" for name in names if self.num_classes)]
        rows = dict(zip(outputs, network(batch["images"], *ids), strict=True))
        return {**rows, **{name: batch[name] for name in CARRIED if name in batch.tensors}}

    def loss(self, network: nn.Module, rows: Mapping[str, Tensor], gather: Gather) -> TaskLoss:
        """Compare every picture with the texts of all processes and parts."""
        scale = self._scale(network)
        if "image_gradient" not in rows:
            contrast = _contrast(rows, scale, gather)
        else:
            contrast = self._prepared(rows, scale)
        if not self.num_classes:
            return contrast
        weight, metrics = self.task.class_weight, dict(contrast.metrics)
        total = contrast.loss
        for name, loss in _class_losses(rows).items():
            total, metrics[f"{name}_class_loss"] = total + weight * loss, loss.item()
        return TaskLoss(total, metrics)

    @staticmethod
    def _prepared(rows: Mapping[str, Tensor], scale: Tensor) -> TaskLoss:
        # The value is that of the whole batch; the gradient is the one that `prepare` found.
        carried = sum((rows[name] * rows[f"{name}_gradient"]).sum() for name in ("image", "text"))
        carried = carried + scale * rows["scale_gradient"][0]
        return TaskLoss(rows["whole_loss"][0] + carried - carried.detach(), {"top1": float(rows["top1"][0])})

    def _scale(self, network: nn.Module) -> Tensor:
        return unwrap(network).get_parameter(f"{CLIP}logit_scale" if self.num_classes else "logit_scale")

    # GradCache (arXiv 2101.06983): the whole batch's loss, with the memory of one part.
    def prepare(self, network: nn.Module, parts: list[Batch], gather: Gather) -> list[Batch]:
        """Add to each part the loss of the whole batch and its gradient for the part's embeddings.

        Embeddings of all parts are made first, without gradients; `loss` carries the gradients back through the towers
        part by part, computing each part again.
        """
        if len(parts) == 1:
            return parts
        with torch.no_grad():
            towers = [self.forward(network, part) for part in parts]
        torch.clear_autocast_cache()  # weights that were cast here have no gradient
        whole_rows = {name: torch.cat([rows[name] for rows in towers]) for name in towers[0]}
        image, text = (whole_rows[name].requires_grad_() for name in ("image", "text"))
        scale = self._scale(network).detach().requires_grad_()
        loss, metrics = _contrast(whole_rows, scale, gather)
        gradients = torch.autograd.grad(loss, (image, text, scale))
        whole = {"scale_gradient": gradients[2], "whole_loss": loss.detach(), "top1": torch.tensor(metrics["top1"])}
        prepared, start = [], 0
        for part in parts:
            # A part's loss counts by its share of the batch, these gradients belong to the sum.
            rows, share = slice(start, start + len(part)), len(part) / len(image)
            tensors = {"image_gradient": gradients[0][rows] / share, "text_gradient": gradients[1][rows] / share}
            tensors |= {name: value.expand(len(part)) for name, value in whole.items()}
            prepared.append(Batch({**part.tensors, **tensors}))
            start += len(part)
        return prepared

    def export(self, state: Mapping[str, LazyTensor], folder: Path) -> None:
        assert self.tokenizer is not None, "a network without its tokenizer is of no use"
        clip = [name for name in state if name.startswith(CLIP)] if self.num_classes else list(state)
        tensors = {name.removeprefix(CLIP): state[name].read() for name in clip}
        save_encoder(folder, tensors, self.task.model, self.tokenizer)


GROUP = "group"
"""The tensor of a batch with the group of each sample, where `positives` are set."""
CLASS, PHRASE = "class", "phrase"
"""The tensor with the class of each sample, where `classes` are set, and the first word of those of its phrase."""
CLIP = "clip."
"""Beginning of the names of CLIP's parameters in a `ClassifyingClip`."""
INITIAL_CLASS_SCALE = 20.0
PREPARED = ("image_gradient", "text_gradient", "scale_gradient", "whole_loss", "top1")
"""Tensors that `ClipTask.prepare` adds to a part."""
CARRIED = (GROUP, CLASS, f"{PHRASE}_classes", f"{PHRASE}_probs", *PREPARED)
"""Tensors that the loss reads as the batch has them."""


def _tokenizer(part: Path) -> Tokenizer:
    tokenizer = open_part("clip", part).tokenizers["clip"]
    assert isinstance(tokenizer, Tokenizer), tokenizer
    return tokenizer


def _contrast(rows: Mapping[str, Tensor], scale: Tensor, gather: Gather) -> TaskLoss:
    """Compare the pictures and texts of all processes; `top1` is how often a picture's nearest text is a positive."""
    image, text = gather(rows["image"]), gather(rows["text"])
    groups = gather(rows[GROUP]) if GROUP in rows else None
    with torch.no_grad():
        scores = F.normalize(image.float(), dim=-1) @ F.normalize(text.float(), dim=-1).T
        names = torch.arange(len(scores), device=scores.device) if groups is None else groups
        hits = names[scores.argmax(dim=1)] == names
    return TaskLoss(contrastive_loss(image, text, scale, groups), {"top1": hits.float().mean().item()})


class ClassifyingClip(nn.Module):
    """A CLIP with a prototype of each class, near which are the embeddings of its pictures and texts; for training."""

    def __init__(self, clip: Clip, num_classes: int) -> None:
        super().__init__()
        width = clip.config.embedding_dim
        self.clip = clip
        self.prototypes = normal_parameter(num_classes, width, std=width**-0.5)
        self.class_scale = nn.Parameter(torch.tensor(math.log(INITIAL_CLASS_SCALE)))

    def forward(self, images: Tensor, *ids: Tensor) -> tuple[Tensor, ...]:
        """Return the embeddings of images and texts, then for each the logits of the classes, float32."""
        embeddings = self.clip(images, *ids)
        with torch.autocast(images.device.type, enabled=False):
            scale = self.class_scale.clamp(max=MAX_LOGIT_SCALE).exp()
            prototypes = scale * F.normalize(self.prototypes, dim=-1)
            logits = [
                F.normalize(one.to(prototypes.dtype), dim=-1) @ prototypes.T for one in embeddings
            ]  # (N, classes)
        return *embeddings, *logits


def _class_losses(rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the cross-entropy of pictures and captions with their classes, of phrases with the teacher's."""
    losses = {name: F.cross_entropy(rows[f"{name}_logits"], rows[CLASS]) for name in ("image", "text")}
    if PHRASE in rows:
        logs = rows[f"{PHRASE}_logits"].log_softmax(dim=1).gather(1, rows[f"{PHRASE}_classes"].long())
        losses[PHRASE] = -(rows[f"{PHRASE}_probs"] * logs).sum(dim=1).mean()
    return losses


@dataclass(frozen=True, eq=False)
class ClipSamples:
    """Augmented pictures, each with one of its captions."""

    source: PictureSet
    tokens: TextReader
    task: ClipTaskConfig
    groups: Int64[Tensor, " samples"] | None = None
    """The group of each sample, whose members are positives of each other; None: each sample is alone."""
    classes: Int64[Tensor, " samples"] | None = None
    """The class of each sample."""
    phrases: Phrases | None = None
    """Texts without pictures, one of which goes with each sample."""

    def __call__(self, request: Request) -> Batch:
        items, indices, skipped = read_items(self.source, request.indices)
        captions = [item.captions for item in items]
        tokens = self.tokens(indices.tolist(), captions, choose_captions(captions, request, 0.0))
        images = from_uint8(stack_pixels(items, self.task.model.image_size))
        images = augment(images, self.task.max_shift, self.task.max_rotation, request.uniform(4))
        images = shrink_and_restore(images, self.task.degrade_prob, request.uniform(2))
        numbers = torch.from_numpy(indices)
        others = {} if self.groups is None else {GROUP: self.groups[numbers]}
        others |= {} if self.classes is None else {CLASS: self.classes[numbers]}
        if self.phrases is not None:
            chosen = self.phrases.rows(request.uniform())
            texts = [self.phrases.texts[row] for row in chosen.tolist()]
            ids = self.tokens(chosen.tolist(), [(text,) for text in texts], [0] * len(texts))
            others |= {f"{PHRASE}_ids": ids["text_ids"], f"{PHRASE}_length": ids["text_length"]}
            others |= {f"{PHRASE}_classes": self.phrases.classes[chosen], f"{PHRASE}_probs": self.phrases.probs[chosen]}
        return Batch({"images": images, **tokens, **others}, skipped)


def augment(images: Tensor, max_shift: float, max_rotation: float, draws: Tensor) -> Tensor:
    """Rotate, scale and shift each picture a little, on white.

    `max_shift` is a share of the side (also the largest change of scale), `max_rotation` is in degrees. `draws` are
    numbers in [0, 1), (batch, 4).
    """
    draw = draws.T * 2.0 - 1.0
    angle = draw[0] * math.radians(max_rotation)
    scale = 1.0 + draw[1] * max_shift
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    shift = draw[2:] * 2.0 * max_shift
    matrix = torch.stack([torch.stack([cos, -sin, shift[0]], -1), torch.stack([sin, cos, shift[1]], -1)], 1)
    pixels = F.affine_grid(matrix.to(images.device), list(images.shape), align_corners=False)
    # White is 1: sampling (image - 1) makes the zero padding white.
    return F.grid_sample(images - 1.0, pixels, align_corners=False) + 1.0


def shrink_and_restore(images: Tensor, prob: float, draws: Tensor) -> Tensor:
    """Shrink a share of the pictures to random sizes (a quarter to all of the side) and back.

    `draws` are numbers in [0, 1), (batch, 2): whether, and how much.
    """
    side = images.shape[-1]
    restored = images.clone()
    for row, (chosen, size) in enumerate(draws.tolist()):
        if chosen < prob:
            small = side // 4 + int(size * (side - side // 4 + 1))
            restored[row] = resize(resize(images[row : row + 1], small), side)[0]
    return restored
