"""Contrastive training of CLIP. Knows pictures and captions; no diffusion."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from unclip.checkpoint import LazyTensor
from unclip.clip import Clip, Tokenizer, contrastive_loss, save_encoder
from unclip.data import PictureSet
from unclip.images import from_uint8, resize
from unclip.runtime import forked_random_state
from unclip.training.config import ClipTaskConfig, TrainConfig
from unclip.training.task import Batch, Passes, Request, Task, TaskLoss
from unclip.training.tasks.common import caption_notes, load_pictures, read_items, seeded_network, stack_pixels
from unclip.training.tasks.texts import Texts, Tokens, choose_captions

# Samples whose captions the vocabulary is learned from.
VOCABULARY_SAMPLES = 200_000


class ClipTask(Task):
    """Learns both towers; the vocabulary is learned from the captions first."""

    def __init__(
        self,
        task: ClipTaskConfig,
        seed: int,
        device: torch.device,
        samples: "ClipSamples",
        tokenizer: Tokenizer | None,
    ) -> None:
        """`tokenizer` made the ids of `samples`; it is exported with the network."""
        self.task, self.device, self.seed = task, device, seed
        self.samples, self.tokenizer = samples, tokenizer

    @classmethod
    def open(cls, config: TrainConfig, task: ClipTaskConfig, device: torch.device) -> "ClipTask":
        """The task on the data that `config` names."""
        pictures = load_pictures(config.data, task.model.image_size)
        notes = caption_notes(pictures, config.data.folder)
        count = min(len(pictures), VOCABULARY_SAMPLES)
        texts = [caption for index in range(count) for caption in pictures.captions(index)]
        tokenizer = Tokenizer.train(texts, task.model.vocab_size)
        samples = ClipSamples(pictures, Tokens(tokenizer, task.model.context_length), task)
        opened = cls(task, config.seed, device, samples, tokenizer)
        opened.notes = notes
        return opened

    def build(self) -> Clip:
        return seeded_network(lambda: Clip(self.task.model), self.seed)

    def loss(self, network: nn.Module, batch: Batch) -> TaskLoss:
        image, text = self._embed(network, batch)
        return self._contrast(image, text, logit_scale(network))

    def split(self, batch: Batch, num_rows: int) -> list[Batch]:
        """One part: the loss compares all rows, so that of parts would be another, and lower."""
        return [batch]

    def backward(self, network: nn.Module, batch: Batch, passes: Passes) -> TaskLoss:
        """The loss compares every picture with the texts of all processes and parts.

        So embeddings are made first, the loss's gradient with respect to them next, and that is carried back through
        the towers part by part (GradCache, arXiv 2101.06983), computing each part again where there are several.
        """
        parts = batch.split(passes.num_rows)
        seed = int(torch.randint(2**62, ()))
        if len(parts) == 1:
            passes.is_last(True)
            towers = [self._embed(network, batch)]
        else:
            with torch.no_grad():
                towers = [self._embed_seeded(network, part, seed + number) for number, part in enumerate(parts)]
        image, text = (torch.cat(rows) for rows in zip(*towers, strict=True))
        loss, image_gradient, text_gradient, scale_gradient = self._gradients(network, image, text, passes)
        for number, part in enumerate(parts):
            is_last = number == len(parts) - 1
            rows = slice(number * passes.num_rows, (number + 1) * passes.num_rows)
            if len(parts) > 1:
                passes.is_last(is_last)
                towers = [self._embed_seeded(network, part, seed + number)]
            image, text = towers[0]
            carried = (image * image_gradient[rows]).sum() + (text * text_gradient[rows]).sum()
            # Gradients are averaged over the processes; each brings its rows' share of the one loss of them all.
            carried = passes.num_processes * carried
            if is_last:
                carried = carried + logit_scale(network) * scale_gradient
            (carried * passes.scale).backward()
        return loss

    def _gradients(
        self, network: nn.Module, image: Tensor, text: Tensor, passes: Passes
    ) -> tuple[TaskLoss, Tensor, Tensor, Tensor]:
        """The loss of all rows of all processes, and its gradient for this process's rows and the temperature."""
        all_image, all_text = (passes.gather(rows.detach()).requires_grad_() for rows in (image, text))
        scale = logit_scale(network).detach().requires_grad_()
        loss, metrics = self._contrast(all_image, all_text, scale)
        loss.backward()
        own = slice(passes.rank * len(image), (passes.rank + 1) * len(image))
        gradients = [leaf.grad for leaf in (all_image, all_text, scale)]
        assert all(gradient is not None for gradient in gradients), "the loss depends on both towers"
        return TaskLoss(loss.detach(), metrics), gradients[0][own], gradients[1][own], gradients[2]  # type: ignore[index,return-value]

    def _embed_seeded(self, network: nn.Module, batch: Batch, seed: int) -> tuple[Tensor, Tensor]:
        with forked_random_state(seed):
            return self._embed(network, batch)

    def _embed(self, network: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        longest = int(batch["text_length"].max())
        image, text = network(batch["images"], batch["text_ids"][:, :longest])
        return image, text.embedding

    def _contrast(self, image: Tensor, text: Tensor, scale: Tensor) -> TaskLoss:
        return TaskLoss(contrastive_loss(image, text, scale), {"top1": _top1(image, text)})

    def held_out(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        image, text = self._embed(network, batch)
        return {"image": image, "text": text}

    def held_out_loss(self, network: nn.Module, rows: Mapping[str, Tensor]) -> Tensor:
        """As in training, each picture is compared with the texts of its whole batch."""
        return contrastive_loss(rows["image"], rows["text"], logit_scale(network))

    def preview(self, network: nn.Module) -> Image.Image | None:
        return None

    def export(self, state: Mapping[str, LazyTensor], folder: Path) -> None:
        assert self.tokenizer is not None, "a network without its tokenizer is of no use"
        save_encoder(folder, {name: tensor.read() for name, tensor in state.items()}, self.task.model, self.tokenizer)


def logit_scale(network: nn.Module) -> Tensor:
    """CLIP's temperature, also behind a wrapper of several processes."""
    clip = network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network
    assert isinstance(clip, Clip), type(clip)
    return clip.logit_scale


@dataclass(frozen=True, eq=False)
class ClipSamples:
    """Augmented pictures, each with one of its captions."""

    source: PictureSet
    tokens: Texts
    task: ClipTaskConfig

    def __call__(self, request: Request) -> Batch:
        items, indices, skipped = read_items(self.source, request.indices)
        captions = [item.captions for item in items]
        tokens = self.tokens(indices.tolist(), captions, choose_captions(captions, request, 0.0))
        images = from_uint8(stack_pixels(items, self.task.model.image_size))
        images = augment(images, self.task.max_shift, self.task.max_rotation, request.uniform(4))
        images = degrade(images, self.task.degrade_prob, request.uniform(2))
        return Batch({"images": images, **tokens}, skipped)


@torch.no_grad()
def _top1(image_embeddings: Tensor, text_embeddings: Tensor) -> float:
    scores = F.normalize(image_embeddings.float(), dim=-1) @ F.normalize(text_embeddings.float(), dim=-1).T
    hits = scores.argmax(dim=1) == torch.arange(len(scores), device=scores.device)
    return hits.float().mean().item()


def augment(images: Tensor, max_shift: float, max_rotation: float, draws: Tensor) -> Tensor:
    """A small rotation, scale and shift of each picture, on white.

    `max_shift` is a share of the side (also the largest change of scale), `max_rotation` is in degrees. `draws` are
    numbers in [0, 1), (batch, 4).
    """
    draw = draws.T * 2.0 - 1.0
    angle = draw[0] * math.radians(max_rotation)
    scale = 1.0 + draw[1] * max_shift
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    shift = draw[2:] * 2.0 * max_shift
    matrix = torch.stack([torch.stack([cos, -sin, shift[0]], -1), torch.stack([sin, cos, shift[1]], -1)], 1)
    grid = F.affine_grid(matrix.to(images.device), list(images.shape), align_corners=False)
    # White is 1: sampling (image - 1) makes the zero padding white.
    return F.grid_sample(images - 1.0, grid, align_corners=False) + 1.0


def degrade(images: Tensor, prob: float, draws: Tensor) -> Tensor:
    """Shrink a share of the pictures to random sizes (a quarter to all of the side) and back.

    `draws` are numbers in [0, 1), (batch, 2): whether, and how much.
    """
    side = images.shape[-1]
    degraded = images.clone()
    for row, (chosen, size) in enumerate(draws.tolist()):
        if chosen < prob:
            small = side // 4 + int(size * (side - side // 4 + 1))
            degraded[row] = resize(resize(images[row : row + 1], small), side)[0]
    return degraded
