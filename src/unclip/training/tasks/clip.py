"""Contrastive training of CLIP. Knows pictures and captions; no diffusion."""

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from unclip.checkpoint import Storage
from unclip.clip import Clip, TextImageEncoder, Tokenizer, contrastive_loss
from unclip.images import from_uint8, resize
from unclip.training.config import ClipTaskConfig, TrainConfig
from unclip.training.task import Task, TaskLoss
from unclip.training.tasks.common import draw_captions, load_pictures, seeded_network

__all__ = ["ClipTask", "augment", "degrade"]


class ClipTask(Task):
    """Learns both towers; the vocabulary is learned from the captions first."""

    def __init__(self, config: TrainConfig, task: ClipTaskConfig, device: torch.device) -> None:
        self.task, self.device = task, device
        self.pictures = load_pictures(config.data, task.model.image_size)
        self.num_items = len(self.pictures.keys)
        texts = [caption for captions in self.pictures.captions for caption in captions]
        self.tokenizer = Tokenizer.train(texts, task.model.vocab_size)
        self.network = self.clip = seeded_network(lambda: Clip(task.model), config.seed, device)

    def loss(self, indices: np.ndarray, generator: torch.Generator) -> TaskLoss:
        images = from_uint8(np.asarray(self.pictures.images[indices])).to(self.device)
        images = augment(images, self.task.max_shift, self.task.max_rotation, generator)
        images = degrade(images, self.task.degrade_prob, generator)
        tokens = self.tokenizer.encode(
            draw_captions(self.pictures.captions, indices, generator), self.task.model.context_length
        )
        image_embeddings = self.clip.encode_pixels(images)
        longest = int(tokens.mask.sum(dim=1).max())
        text = self.clip.encode_tokens(tokens.ids[:, :longest].to(self.device))
        loss = contrastive_loss(image_embeddings, text.embedding, self.clip.logit_scale)
        return TaskLoss(loss, {"top1": _top1(image_embeddings, text.embedding)})

    def preview(self, network: nn.Module) -> Image.Image | None:
        return None

    def export(self, network: nn.Module, folder: Path, storage: Storage) -> None:
        assert isinstance(network, Clip)
        TextImageEncoder(network, self.tokenizer).save(folder, storage=storage)


@torch.no_grad()
def _top1(image_embeddings: Tensor, text_embeddings: Tensor) -> float:
    scores = F.normalize(image_embeddings.float(), dim=-1) @ F.normalize(text_embeddings.float(), dim=-1).T
    hits = scores.argmax(dim=1) == torch.arange(len(scores), device=scores.device)
    return hits.float().mean().item()


def augment(images: Tensor, max_shift: float, max_rotation: float, generator: torch.Generator) -> Tensor:
    """A small random rotation, scale and shift of each picture, on white.

    `max_shift` is a share of the side (also the largest change of scale), `max_rotation` is in degrees.
    """
    batch = len(images)
    draw = torch.rand(4, batch, generator=generator) * 2.0 - 1.0
    angle = draw[0] * math.radians(max_rotation)
    scale = 1.0 + draw[1] * max_shift
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    shift = draw[2:] * 2.0 * max_shift
    matrix = torch.stack([torch.stack([cos, -sin, shift[0]], -1), torch.stack([sin, cos, shift[1]], -1)], 1)
    grid = F.affine_grid(matrix.to(images.device), list(images.shape), align_corners=False)
    # White is 1: sampling (image - 1) makes the zero padding white.
    return F.grid_sample(images - 1.0, grid, align_corners=False) + 1.0


def degrade(images: Tensor, prob: float, generator: torch.Generator) -> Tensor:
    """Shrink a share of the pictures to one random size (a quarter to all of the side) and back."""
    side = images.shape[-1]
    small = int(torch.randint(side // 4, side + 1, (), generator=generator))
    chosen = torch.rand(len(images), generator=generator) < prob
    blurred = resize(resize(images, small), side)
    return torch.where(chosen.to(images.device)[:, None, None, None], blurred, images)
